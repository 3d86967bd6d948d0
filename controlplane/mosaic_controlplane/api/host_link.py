"""HostLinkService: the one stream of a host. Frames in, rows out, and back. Policy: policy.yaml."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from mosaic_framework import protocol
from mosaic_framework.errors import FleetError, InvalidInput, Unreachable
from mosaic_proto.v1 import host_link_pb2 as pb
from mosaic_proto.v1 import host_link_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.host_downward import downward, milliseconds
from mosaic_controlplane.api.host_reports import (
    REPORT_LIMIT,
    bounded,
    decode_event,
    decode_reports,
    decode_unmanaged,
    decode_waits,
)
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import host_events
from mosaic_controlplane.mesh.held_link import HeldLink, HelloFacts
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.pace import answer_within
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.host import LinkSuperseded

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

CAPABILITIES = (protocol.PACE,)
HELLO_SECONDS = 10.0
UNREAD_SECONDS = 5.0
_SILENT_BEATS = 4
_DOWN_LIMIT = 256
_UP_LIMIT = 1024
_FRAME_LIMIT = 64 * 1024  # of what waits to be written; a hello and a terminal's text are larger, and do not wait

log = structlog.get_logger(__name__)


class LinkUnread(Unreachable):
    """The host did not read what its link brought."""

    code = "link-unread"


class _GiveUp:
    """Ends a call whose link has ended while a write of it waits for a host that does not read."""

    def __init__(self, call: asyncio.Task[object] | None) -> None:
        self._call = call
        self._timer: asyncio.TimerHandle | None = None
        self.given_up = False

    def start(self, _work: asyncio.Task[None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._cancel)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _cancel(self) -> None:
        if self._call is not None:
            self.given_up = True
            self._call.cancel()


class HostLinkService(host_link_pb2_grpc.HostLinkServiceServicer):
    """Links of hosts."""

    def __init__(
        self,
        database: Database,
        wakes: Wakes,
        links: Links,
        replica_id: UUID,
        addresses: Callable[[], list[str]],
        backlog: Backlog,
    ) -> None:
        self._backlog = backlog
        self._database = database
        self._wakes = wakes
        self._links = links
        self._replica_id = replica_id
        self._addresses = addresses

    async def Link(
        self, request_iterator: AsyncIterator[pb.HostFrame], context: ServicerContext[pb.HostFrame, pb.ControlFrame]
    ) -> AsyncIterator[pb.ControlFrame]:
        caller = caller_of(context)
        hello = await _read_hello(request_iterator)
        version = await self._agree(caller, hello)
        key, opened = await self._links.open(
            caller,
            HelloFacts(
                journal_id=encode.identifier(hello.journal_id, what="journal id"),
                journal_epoch=hello.journal_epoch,
                journal_sequence=hello.journal_sequence if hello.HasField("journal_sequence") else None,
                version=bounded(hello.version, 64),
                machine=bounded(hello.machine, 255),
                observed_generation=hello.observed_generation,
            ),
        )
        log.info("a host linked", host=caller.name, link_epoch=key.link_epoch, journal_replaced=opened.journal_replaced)
        down: asyncio.Queue[pb.ControlFrame | None] = asyncio.Queue(_DOWN_LIMIT)
        addresses = self._addresses()
        link = HeldLink(
            key,
            caller.name,
            downward(down, caller.name),
            frozenset(hello.capabilities),
            beat_interval=opened.beat_interval,
            replicas=frozenset(addresses),
        )
        down.put_nowait(
            pb.ControlFrame(
                welcome=pb.Welcome(
                    protocol_version=version,
                    oldest_protocol=protocol.OLDEST,
                    capabilities=CAPABILITIES,
                    link_epoch=key.link_epoch,
                    beat_interval_ms=milliseconds(opened.beat_interval),
                    answer_within_ms=milliseconds(answer_within(opened.beat_interval)),
                    replica_id=str(self._replica_id),
                    fleet_addresses=addresses,
                    journal_disowned=opened.journal_disowned,
                )
            )
        )
        work = asyncio.create_task(self._work(request_iterator, link, down, hello))
        give_up = _GiveUp(asyncio.current_task())
        work.add_done_callback(give_up.start)
        try:
            while (frame := await down.get()) is not None:
                yield frame
            await work
        finally:
            work.remove_done_callback(give_up.start)
            give_up.stop()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            log.info("a host's link ended", host=caller.name, link_epoch=key.link_epoch)
            await asyncio.shield(self._close(link))
            if (
                give_up.given_up
            ):  # a call that is only cancelled sends no status: a host that wakes up would wait for ever
                raise LinkUnread

    async def _agree(self, caller: Caller, hello: pb.Hello) -> int:
        """Return the protocol to speak with a host. One that speaks none of ours is refused, and `host ls` says why."""
        them, us = f"the host-agent of {caller.name}", "the control plane"
        try:
            return protocol.agree(hello.protocol_version, hello.oldest_protocol, them=them, us=us)
        except protocol.ProtocolMismatch as error:
            await self._links.refuse(caller, f"{error.what}: {error.why}")
            raise

    async def _close(self, link: HeldLink) -> None:
        try:
            await self._links.close(link.key)
        except FleetError as error:
            # The register learns it from the silence: the host turns stale.
            log.warning("could not say that a link ended", host=link.host_name, why=error.why)

    async def _work(
        self,
        frames: AsyncIterator[pb.HostFrame],
        link: HeldLink,
        down: asyncio.Queue[pb.ControlFrame | None],
        hello: pb.Hello,
    ) -> None:
        """Run everything of one link until its stream ends, falls silent or is superseded; then end `down`."""
        up: asyncio.Queue[pb.HostFrame] = asyncio.Queue(_UP_LIMIT)
        link.waiting = lambda: (down.qsize(), up.qsize())
        tasks = [
            asyncio.create_task(self._read(frames, link, up, down)),
            asyncio.create_task(self._write_up(link, up, down, hello)),
            asyncio.create_task(self._links.hold(link)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            while down.full():
                down.get_nowait()
            down.put_nowait(None)

    async def _read(
        self,
        frames: AsyncIterator[pb.HostFrame],
        link: HeldLink,
        up: asyncio.Queue[pb.HostFrame],
        down: asyncio.Queue[pb.ControlFrame | None],
    ) -> None:
        """Take frames off the stream. Beats are answered here, so that no slow write makes a live host look silent."""
        while True:
            silence = _SILENT_BEATS * link.beat_interval.total_seconds()
            try:
                async with asyncio.timeout(silence):
                    frame = await anext(frames)
            except StopAsyncIteration:
                return
            except TimeoutError:
                log.warning("a link fell silent", host=link.host_name, seconds=silence)
                return
            if frame.WhichOneof("frame") == "beat":
                self._links.beat(link.key)
                answer = pb.ControlFrame(beat_acknowledged=pb.BeatAcknowledged(sequence=frame.beat.sequence))
                try:
                    async with asyncio.timeout(silence):
                        await down.put(answer)
                except TimeoutError:
                    log.warning("a host does not read its link", host=link.host_name, seconds=silence)
                    return
            elif frame.WhichOneof("frame") == "terminal":
                shown = frame.terminal
                Links.captured(link, shown.call_id, shown.text, shown.problem)
            elif frame.WhichOneof("frame") == "explained":
                told = frame.explained
                Links.explained(link, told.call_id, told.explanation.SerializeToString(), told.problem)
            elif frame.ByteSize() > _FRAME_LIMIT:
                raise InvalidInput("a frame of the link is too large", why=f"it has {frame.ByteSize():,} bytes")
            else:
                await up.put(frame)

    async def _write_up(
        self,
        link: HeldLink,
        up: asyncio.Queue[pb.HostFrame],
        down: asyncio.Queue[pb.ControlFrame | None],
        hello: pb.Hello,
    ) -> None:
        """Write what comes up, all that is waiting at once."""
        await self._links.report_seats(link.key, decode_reports(list(hello.seats)))
        while True:
            frames = [await up.get()]
            while not up.empty():
                frames.append(up.get_nowait())
            reports = [frame.seat for frame in frames if frame.WhichOneof("frame") == "seat"]
            events = [frame.event for frame in frames if frame.WhichOneof("frame") == "event"]
            await self._links.report_seats(link.key, decode_reports(reports))
            if events:
                decoded = [found for found in map(decode_event, events) if found is not None]
                newest = max(event.sequence for event in events)
                await host_events.record(self._database, self._wakes, link.key, decoded, newest=newest)
                await down.put(pb.ControlFrame(acknowledged=pb.EventsAcknowledged(sequence=newest)))
            reasons = [frame.waits for frame in frames if frame.WhichOneof("frame") == "waits"]
            await host_events.record_waits(self._database, self._wakes, link.key, decode_waits(reasons))
            for frame in frames:
                if frame.WhichOneof("frame") == "applied":
                    await self._links.applied(link.key, frame.applied.generation)
                elif frame.WhichOneof("frame") == "unmanaged":
                    await self._links.unmanaged(link.key, decode_unmanaged(frame.unmanaged))
                elif frame.WhichOneof("frame") == "runs_alive":
                    await down.put(await self._renew_runs(link, frame.runs_alive))
                elif frame.WhichOneof("frame") == "ready":
                    if frame.ready.link_epoch != link.key.link_epoch:
                        raise LinkSuperseded
                    await self._links.ready(link.key)

    async def _renew_runs(self, link: HeldLink, alive: pb.RunsAlive) -> pb.ControlFrame:
        """Renew what the runs that a host vouches for hold; returns the frame that tells the host of it."""
        if len(alive.run_ids) > REPORT_LIMIT:
            raise InvalidInput("a host vouches for too many runs at once", why=f"at most {REPORT_LIMIT:,} are taken")
        held = await self._backlog.renew_runs(
            link.key, [encode.identifier(run_id, what="run id") for run_id in alive.run_ids]
        )
        return pb.ControlFrame(
            claims_held=pb.ClaimsHeld(
                claims=[
                    pb.HeldClaim(
                        run_id=str(one.run_id),
                        agent_id=str(one.holder_id),
                        card_id=one.card_id,
                        title=one.title,
                        fence=one.fence,
                        lease_left_ms=round(one.lease_left.total_seconds() * 1000),
                        limit_left_ms=round(one.limit_left.total_seconds() * 1000),
                    )
                    for one in held
                ]
            )
        )


async def _read_hello(frames: AsyncIterator[pb.HostFrame]) -> pb.Hello:
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            first = await anext(frames)
    except (StopAsyncIteration, TimeoutError):
        raise InvalidInput("the link said no hello", why=f"none came within {HELLO_SECONDS:g} s") from None
    if first.WhichOneof("frame") != "hello":
        raise InvalidInput("the link said no hello", why="its first frame was another one")
    return first.hello
