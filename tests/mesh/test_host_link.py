"""The control plane's side of a link, with a host-agent played by the test: what it is told, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc.aio
import pytest
from mosaic_framework import protocol, wire
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2, host_life_pb2, host_life_pb2_grpc, host_link_pb2_grpc, messages_pb2
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
    protocol_version: int = protocol.VERSION
    oldest_protocol: int = protocol.OLDEST
    capabilities: tuple[str, ...] = (protocol.PACE,)

    async def __aenter__(self) -> PlayedHost:
        identity = StoredIdentity.load(self.mesh.hosts[self.name].pki)
        self._channel = wire.aio_channel(identity, identity.fleet_addresses[0])
        self._task = asyncio.create_task(self._run())
        hello = pb.Hello(
            protocol_version=self.protocol_version,
            oldest_protocol=self.oldest_protocol,
            capabilities=self.capabilities,
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

    def brought(self) -> list[pb.ControlFrame]:
        """Return what has come and was not asked for yet."""
        return [self.down.get_nowait() for _ in range(self.down.qsize())]

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
        assert not any(frame.HasField("dispatch") for frame in reinstalled.brought())


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


async def set_pace(site: Mesh, seconds: int) -> None:
    await site.register_value(
        "update fleet.host set beat_interval = make_interval(secs => $1) where name = 'alpha' returning 1", seconds
    )


async def test_the_pace_of_beats_changes_while_a_host_is_linked(site: Mesh) -> None:
    async with PlayedHost(site) as host:
        welcome = (await host.next("welcome")).welcome
        assert (welcome.beat_interval_ms, welcome.answer_within_ms) == (5000, 4000)
        assert protocol.PACE in welcome.capabilities
        await host.next("desired")
        await set_pace(site, 25)
        pace = (await host.next("pace")).pace
    assert (pace.beat_interval_ms, pace.answer_within_ms) == (25_000, 20_000)


async def test_a_host_of_the_release_before_works_and_is_told_nothing_that_it_does_not_know(site: Mesh) -> None:
    older = PlayedHost(site, protocol_version=protocol.VERSION - 1, oldest_protocol=0, capabilities=("capture",))
    async with older as host:
        welcome = (await host.next("welcome")).welcome
        assert welcome.protocol_version == protocol.VERSION - 1
        host.up.put_nowait(pb.HostFrame(ready=pb.Ready(link_epoch=welcome.link_epoch)))
        await host.next("desired")
        await set_pace(site, 25)
        message_id = await site.send("worker", "hello")
        seen = []
        async with asyncio.timeout(15):
            while "dispatch" not in seen:
                seen.append((await host.down.get()).WhichOneof("frame"))
        assert "pace" not in seen
        host.step(message_id, messages_pb2.MESSAGE_STEP_DISPATCHED)
        await host.next("acknowledged")
        row = await site.host_row("alpha")
        assert (row.state, row.linked, row.link_problem) == (fleet_pb2.HOST_STATE_LIVE, True, "")
        await set_pace(site, 1)  # it would be too slow for that, and look stale: it is let dial anew
        await asyncio.wait_for(host.ended.wait(), 15)


async def test_a_newer_host_that_still_speaks_our_protocol_is_spoken_to_in_ours(site: Mesh) -> None:
    newer = PlayedHost(site, protocol_version=protocol.VERSION + 1, oldest_protocol=protocol.VERSION)
    async with newer as host:
        assert (await host.next("welcome")).welcome.protocol_version == protocol.VERSION


async def test_a_host_that_speaks_no_protocol_of_ours_is_refused_and_its_row_says_why_until_it_links(
    site: Mesh,
) -> None:
    newer = PlayedHost(site, protocol_version=protocol.VERSION + 2, oldest_protocol=protocol.VERSION + 1)
    async with newer as host:
        await asyncio.wait_for(host.ended.wait(), 15)
    assert host.failure is not None
    told = wire.error_from_rpc(host.failure)
    assert (told.code, told.next_step) == ("protocol-mismatch", "update the control plane: mosaic update")
    row = await site.host_row("alpha")
    assert (row.state, row.linked) == (fleet_pb2.HOST_STATE_JOINED, False)
    assert row.link_problem.startswith("the host-agent of alpha speaks protocol")
    async with PlayedHost(site) as updated:
        await updated.ready()
        assert (await site.host_row("alpha")).link_problem == ""


async def test_a_link_that_closes_is_seen_by_whoever_watches_before_the_host_is_stale(site: Mesh) -> None:
    seen: list[tuple[bool, int]] = []
    linked, unlinked = asyncio.Event(), asyncio.Event()

    async def watch() -> None:
        async for event in site.fleet.Watch(fleet_pb2.WatchRequest()):
            if event.WhichOneof("event") == "host":
                seen.append((event.host.linked, event.host.state))
                if event.host.linked:
                    linked.set()
                elif linked.is_set():
                    unlinked.set()

    watching = asyncio.create_task(watch())
    try:
        async with PlayedHost(site) as host:
            await host.ready()
            await asyncio.wait_for(linked.wait(), 15)
        await asyncio.wait_for(unlinked.wait(), 15)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert seen[-1] == (False, fleet_pb2.HOST_STATE_LIVE)


async def test_a_link_on_which_no_beat_comes_is_ended(site: Mesh) -> None:
    await site.set_host_times("alpha", beat_interval="200 ms", lost_after="60 s")
    async with PlayedHost(site) as host:
        await host.ready()
        await asyncio.wait_for(host.ended.wait(), 15)


async def test_a_host_that_is_taken_out_of_the_fleet_loses_its_link_and_gets_no_other(site: Mesh) -> None:
    life: host_life_pb2_grpc.HostLifeServiceAsyncStub = host_life_pb2_grpc.HostLifeServiceStub(site.channel)
    request = host_life_pb2.RemoveHostRequest(request_id=str(new_id()), name="alpha")
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await life.Remove(request)
    assert wire.error_from_rpc(told.value).code == "host-has-seats"
    await site.register_value("update fleet.agent set removed_at = now() returning 1")
    async with PlayedHost(site) as host:
        epoch = await host.ready()
        await host.next("desired")
        assert (await life.Remove(request)).host.state == fleet_pb2.HOST_STATE_LEFT
        await asyncio.wait_for(host.ended.wait(), 15)
    async with PlayedHost(site, journal_epoch=epoch) as again:
        await asyncio.wait_for(again.ended.wait(), 15)
    assert again.failure is not None
    assert again.failure.code() is grpc.StatusCode.UNAUTHENTICATED
