"""The control plane's side of a link, with a host-agent played by the test: what it is told, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc.aio
import pytest
from mosaic_framework import wire
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2, host_link_pb2_grpc, messages_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.mesh import Mesh

JOURNAL = str(new_id())


@dataclass
class PlayedHost:
    """One link, frame by frame."""

    mesh: Mesh
    name: str = "alpha"
    journal_id: str = JOURNAL
    journal_epoch: int = 0
    first: pb.HostFrame | None = None
    up: asyncio.Queue[pb.HostFrame | None] = field(default_factory=asyncio.Queue)
    down: asyncio.Queue[pb.ControlFrame] = field(default_factory=asyncio.Queue)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    failure: grpc.aio.AioRpcError | None = None
    sequence: int = 0

    async def __aenter__(self) -> PlayedHost:
        identity = StoredIdentity.load(self.mesh.hosts[self.name].pki)
        self._channel = wire.aio_channel(identity, identity.fleet_addresses[0])
        self._task = asyncio.create_task(self._run())
        hello = pb.Hello(
            protocol_version=1,
            host_id=identity.identity_id,
            journal_id=self.journal_id,
            journal_epoch=self.journal_epoch,
            machine="played",
        )
        # Nothing follows a first frame that is refused: a write into a call that has ended would hide its status.
        self.up.put_nowait(pb.HostFrame(hello=hello) if self.first is None else self.first)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def _run(self) -> None:
        async def frames() -> AsyncIterator[pb.HostFrame]:
            while (frame := await self.up.get()) is not None:
                yield frame

        try:
            async for frame in host_link_pb2_grpc.HostLinkServiceStub(self._channel).Link(frames()):
                self.down.put_nowait(frame)
        except grpc.aio.AioRpcError as error:
            self.failure = error
        finally:
            self.ended.set()

    async def next(self, kind: str) -> pb.ControlFrame:
        """The next frame of `kind`; others before it are passed over."""
        async with asyncio.timeout(15):
            while True:
                frame = await self.down.get()
                if frame.WhichOneof("frame") == kind:
                    return frame

    async def ready(self) -> int:
        epoch = (await self.next("welcome")).welcome.link_epoch
        self.up.put_nowait(pb.HostFrame(ready=pb.Ready(link_epoch=epoch)))
        return epoch

    def step(self, message_id: str, step: messages_pb2.MessageStep.ValueType) -> None:
        self.sequence += 1
        event = pb.JournalEvent(
            sequence=self.sequence,
            step=pb.StepEvent(message_id=message_id, step=step, evidence=messages_pb2.Evidence(source="journal")),
        )
        self.up.put_nowait(pb.HostFrame(event=event))


@pytest.fixture
async def site(mesh: Mesh) -> Mesh:
    await mesh.join("alpha", started=False)
    await mesh.apply({"worker": "alpha"})
    return mesh


async def test_a_host_is_welcomed_told_its_seats_and_given_messages_once_it_is_ready(site: Mesh) -> None:
    message_id = await site.send("worker", "hello")
    async with PlayedHost(site) as host:
        await host.ready()
        desired = (await host.next("desired")).desired
        assert [seat.spec.name for seat in desired.seats] == ["worker"]
        dispatch = (await host.next("dispatch")).dispatch
        assert (dispatch.message_id, dispatch.body, dispatch.seat_seq) == (message_id, "hello", 1)
        host.step(message_id, messages_pb2.MESSAGE_STEP_DISPATCHED)
        assert (await host.next("acknowledged")).acknowledged.sequence == 1
        assert (await site.receipt(message_id)).step == messages_pb2.MESSAGE_STEP_DISPATCHED


async def test_a_follower_sees_each_step_as_it_comes_and_the_stream_ends_at_the_one_it_waits_for(site: Mesh) -> None:
    message_id = await site.send("worker", "hello")
    request = messages_pb2.FollowRequest(message_id=message_id, until=messages_pb2.MESSAGE_STEP_SUBMITTED)
    async with PlayedHost(site) as host:
        await host.ready()
        await host.next("dispatch")
        for step in (
            messages_pb2.MESSAGE_STEP_DISPATCHED,
            messages_pb2.MESSAGE_STEP_TYPED,
            messages_pb2.MESSAGE_STEP_SUBMITTED,
        ):
            host.step(message_id, step)
        async with asyncio.timeout(15):
            seen = [receipt.step async for receipt in site.messages.Follow(request)]
    assert seen == sorted(seen)
    assert seen[-1] == messages_pb2.MESSAGE_STEP_SUBMITTED


async def test_a_second_link_of_one_host_takes_over_and_the_first_is_ended(site: Mesh) -> None:
    async with PlayedHost(site) as first:
        epoch = await first.ready()
        await first.next("desired")
        async with PlayedHost(site, journal_epoch=epoch) as second:
            assert await second.ready() == epoch + 1
            await asyncio.wait_for(first.ended.wait(), 15)
            message_id = await site.send("worker", "for the successor")
            assert (await second.next("dispatch")).dispatch.message_id == message_id


async def test_what_a_half_open_link_still_says_is_refused_and_its_successor_holds(site: Mesh) -> None:
    message_id = await site.send("worker", "hello")
    async with PlayedHost(site) as first:
        epoch = await first.ready()
        await first.next("dispatch")
        # The register gives the host to a newer link, as another replica would, while this stream stays open.
        await site.register_value("update fleet.host set link_epoch = link_epoch + 1 returning link_epoch")
        first.step(message_id, messages_pb2.MESSAGE_STEP_SUBMITTED)
        await asyncio.wait_for(first.ended.wait(), 15)
        assert first.failure is not None
        assert wire.error_from_rpc(first.failure).code == "link-superseded"
    assert (await site.receipt(message_id)).step == messages_pb2.MESSAGE_STEP_QUEUED
    async with PlayedHost(site, journal_epoch=epoch + 1) as second:
        await second.ready()
        assert (await second.next("dispatch")).dispatch.message_id == message_id


async def test_a_host_with_another_journal_finds_what_the_old_one_held_unknown(site: Mesh) -> None:
    message_id = await site.send("worker", "hello")
    async with PlayedHost(site) as first:
        await first.ready()
        await first.next("dispatch")
        first.step(message_id, messages_pb2.MESSAGE_STEP_DISPATCHED)
        await first.next("acknowledged")
    async with PlayedHost(site, journal_id=str(new_id())) as reinstalled:
        await reinstalled.ready()
        await reinstalled.next("desired")
        assert (await site.receipt(message_id)).step == messages_pb2.MESSAGE_STEP_UNKNOWN
        assert reinstalled.down.empty()


async def test_a_beat_is_answered_and_keeps_the_host_live(site: Mesh) -> None:
    async with PlayedHost(site) as host:
        await host.ready()
        host.up.put_nowait(pb.HostFrame(beat=pb.Beat(sequence=9)))
        assert (await host.next("beat_acknowledged")).beat_acknowledged.sequence == 9
        assert (await site.host_row("alpha")).state == fleet_pb2.HOST_STATE_LIVE


@pytest.mark.parametrize(
    "first",
    [
        pb.HostFrame(beat=pb.Beat(sequence=1)),
        pb.HostFrame(),
        pb.HostFrame(hello=pb.Hello(protocol_version=1, journal_id="not an id")),
        pb.HostFrame(hello=pb.Hello(protocol_version=0, journal_id=JOURNAL)),
    ],
    ids=["no hello", "nothing", "no journal", "old protocol"],
)
async def test_a_link_that_begins_wrongly_is_refused_with_a_reason(site: Mesh, first: pb.HostFrame) -> None:
    async with PlayedHost(site, first=first) as host:
        await asyncio.wait_for(host.ended.wait(), 15)
    assert host.failure is not None
    assert wire.error_from_rpc(host.failure).code in ("invalid-input", "protocol-mismatch")


async def test_a_seat_report_reaches_the_list_and_one_of_a_foreign_seat_changes_nothing(site: Mesh) -> None:
    agent = (await site.agents())["worker"]
    async with PlayedHost(site) as host:
        await host.ready()
        for agent_id in (str(new_id()), agent.id):
            report = pb.SeatReport(agent_id=agent_id, state=fleet_pb2.AGENT_STATE_WORKING, source="screen", pid=42)
            host.up.put_nowait(pb.HostFrame(seat=report))
        seen = await site.until_agent("worker", lambda agent: agent.state == fleet_pb2.AGENT_STATE_WORKING)
    assert (seen.pid, seen.state_source) == (42, "screen")
