"""HostLinkService: the one stream of a host. Frames in, rows out, and back. Policy: policy.yaml."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from mosaic_framework.errors import FleetError, InvalidInput, Unreachable
from mosaic_proto.v1 import fleet_pb2, host_link_pb2_grpc, messages_pb2, runtimes_pb2, seeding_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.host_reports import bounded, decode_progress, decode_unmanaged
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.mesh import host_events
from mosaic_controlplane.mesh.links import Downward, HeldLink, HelloFacts, Links
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register.agent import DesiredSeat, SeatReportRow
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.host import LinkSuperseded
from mosaic_controlplane.register.message import Offer
from mosaic_controlplane.register.runtime_update import WantedUpdate

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL = 1
HELLO_SECONDS = 10.0
UNREAD_SECONDS = 5.0
_SILENT_BEATS = 4
_DOWN_LIMIT = 256
_UP_LIMIT = 1024
_FRAME_LIMIT = 64 * 1024  # of what waits to be written; a hello and a terminal's text are larger, and do not wait
_REPORT_LIMIT = 2_000
_STRONGEST = ("submitted", "accepted", "turn_started", "turn_ended")

log = structlog.get_logger(__name__)


class ProtocolMismatch(FleetError):
    """This host-agent speaks a protocol that this control plane does not."""

    code = "protocol-mismatch"
    hint = "mosaic update"


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
        if hello.protocol_version < OLDEST_PROTOCOL:
            raise ProtocolMismatch(why=f"it speaks {hello.protocol_version}, at least {OLDEST_PROTOCOL} is needed")
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
        link = HeldLink(key, caller.name, _downward(down, caller.name), frozenset(hello.capabilities))
        down.put_nowait(
            pb.ControlFrame(
                welcome=pb.Welcome(
                    protocol_version=min(PROTOCOL_VERSION, hello.protocol_version),
                    link_epoch=key.link_epoch,
                    beat_interval_ms=round(opened.beat_interval.total_seconds() * 1000),
                    replica_id=str(self._replica_id),
                    fleet_addresses=self._addresses(),
                    journal_disowned=opened.journal_disowned,
                )
            )
        )
        silence = _SILENT_BEATS * opened.beat_interval.total_seconds()
        work = asyncio.create_task(self._work(request_iterator, link, down, hello, silence))
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
        silence: float,
    ) -> None:
        """Run everything of one link until its stream ends, falls silent or is superseded; then end `down`."""
        up: asyncio.Queue[pb.HostFrame] = asyncio.Queue(_UP_LIMIT)
        link.waiting = lambda: (down.qsize(), up.qsize())
        tasks = [
            asyncio.create_task(self._read(frames, link, up, down, silence)),
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
        silence: float,
    ) -> None:
        """Take frames off the stream. Beats are answered here, so that no slow write makes a live host look silent."""
        while True:
            try:
                frame = await asyncio.wait_for(anext(frames), silence)
            except StopAsyncIteration:
                return
            except TimeoutError:
                log.warning("a link fell silent", host=link.host_name, seconds=silence)
                return
            if frame.WhichOneof("frame") == "beat":
                self._links.beat(link.key)
                answer = pb.ControlFrame(beat_acknowledged=pb.BeatAcknowledged(sequence=frame.beat.sequence))
                try:
                    await asyncio.wait_for(down.put(answer), silence)
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
        if len(alive.run_ids) > _REPORT_LIMIT:
            raise InvalidInput("a host vouches for too many runs at once", why=f"at most {_REPORT_LIMIT:,} are taken")
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
        first = await asyncio.wait_for(anext(frames), HELLO_SECONDS)
    except (StopAsyncIteration, TimeoutError):
        raise InvalidInput("the link said no hello", why=f"none came within {HELLO_SECONDS:g} s") from None
    if first.WhichOneof("frame") != "hello":
        raise InvalidInput("the link said no hello", why="its first frame was another one")
    return first.hello


def _downward(down: asyncio.Queue[pb.ControlFrame | None], host_name: str) -> Downward:
    async def desired(generation: int, seats: list[DesiredSeat], briefing: bytes) -> None:
        state = pb.DesiredState(generation=generation, briefing=seeding_pb2.Briefing.FromString(briefing))
        for seat in seats:
            state.seats.add(
                agent_id=str(seat.agent_id),
                generation=seat.generation,
                running=seat.running,
                restart=seat.restart,
                spec=fleet_pb2.SeatSpec.FromString(seat.spec),
                reset=seat.reset,
                reset_way=seat.reset_way,
            ).spec.host = host_name
        await down.put(pb.ControlFrame(desired=state))

    async def dispatch(offer: Offer) -> None:
        await down.put(
            pb.ControlFrame(
                dispatch=pb.Dispatch(
                    message_id=str(offer.message_id),
                    agent_id=str(offer.recipient_id),
                    seat_seq=offer.seat_seq,
                    body=offer.body,
                    payload_digest=offer.payload_digest,
                    remaining_ms=offer.remaining_ms,
                    sender=f"{offer.sender_host}/{offer.sender_name}" if offer.sender_host else offer.sender_name,
                    sender_is_person=offer.sender_kind == "operator",
                    mode=encode.DELIVERY_MODES[offer.mode],
                )
            )
        )

    async def cancel(message_id: UUID) -> None:
        await down.put(pb.ControlFrame(cancel=pb.CancelDelivery(message_id=str(message_id))))

    async def capture(call_id: str, agent_id: UUID, lines: int) -> None:
        await down.put(
            pb.ControlFrame(capture=pb.CaptureTerminal(call_id=call_id, agent_id=str(agent_id), lines=lines))
        )

    async def explain(call_id: str, agent_id: UUID) -> None:
        await down.put(pb.ControlFrame(explain=pb.ExplainSeat(call_id=call_id, agent_id=str(agent_id))))

    async def update(wanted: WantedUpdate) -> None:
        await down.put(
            pb.ControlFrame(
                update=runtimes_pb2.WantedUpdate(
                    id=str(wanted.update_id),
                    runtime=wanted.runtime,
                    relaunch=wanted.relaunch,
                    drain_ms=wanted.drain_ms,
                )
            )
        )

    async def open_view(call_id: str, agent_id: UUID, scrolled: bool) -> None:
        await down.put(
            pb.ControlFrame(open_view=pb.OpenView(call_id=call_id, agent_id=str(agent_id), scrolled=scrolled))
        )

    async def roots(digest: bytes) -> None:
        await down.put(pb.ControlFrame(roots=pb.Roots(digest=digest)))

    return Downward(desired, dispatch, cancel, capture, explain, open_view, update, roots)


def _strongest(step: messages_pb2.MessageStep.ValueType) -> str:
    name = encode.step_name(step)
    return name if name in _STRONGEST else "submitted"


def _age(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=min(max(0, milliseconds), 30 * 24 * 3600 * 1000))


def decode_reports(reports: list[pb.SeatReport]) -> list[SeatReportRow]:
    """Return the newest report of each seat, as rows. Raises InvalidInput."""
    if len(reports) > _REPORT_LIMIT:
        raise InvalidInput(
            "a host reports too many seats at once", why=f"{len(reports):,} of at most {_REPORT_LIMIT:,}"
        )
    newest = {encode.identifier(report.agent_id, what="agent id"): report for report in reports}
    return [
        SeatReportRow(
            agent_id=agent_id,
            state=encode.agent_state_name(report.state),
            source=bounded(report.source, 32),
            detail=bounded(report.detail),
            age=_age(report.state_age_ms),
            run_id=encode.optional_identifier(report.run_id, what="run id"),
            pid=report.pid,
            command=bounded(report.command),
            problem=bounded(report.problem),
            exit_status=report.exit_status,
            generation=report.generation,
            supervision=bounded(report.supervision, 32),
            unit=bounded(report.unit),
            enabled=report.enabled,
            output_age=_age(report.output_age_ms) if report.output_age_ms else None,
            running_runtime=bounded(report.running_runtime, 64),
            running_model=bounded(report.running_model, 256),
            reported_model=bounded(report.reported_model, 256),
            runtime_version=bounded(report.runtime_version, 64),
            runtime_session=bounded(report.runtime_session, 256),
            driver=bounded(report.driver, 200),
            driven=_age(report.driven_ms),
            strongest_step=_strongest(report.strongest_step),
        )
        for agent_id, report in newest.items()
    ]


def decode_waits(reasons: list[pb.Waits]) -> dict[UUID, str]:
    """Return why messages wait, the newest word of each. Raises InvalidInput."""
    return {encode.identifier(one.message_id, what="message id"): bounded(one.reason) for one in reasons}


def decode_event(event: pb.JournalEvent) -> host_events.Event | None:
    """Return what a journalled event says; None for a kind that a newer host-agent knows and we do not."""
    match event.WhichOneof("event"):
        case "step":
            step = event.step
            name = encode.step_name(step.step)
            if not name or name == "queued":
                return None
            return host_events.Step(
                message_id=encode.identifier(step.message_id, what="message id"),
                step=name,
                source=bounded(step.evidence.source, 32),
                detail=bounded(step.evidence.detail),
                reason=bounded(step.reason),
                age=_age(step.age_ms),
            )
        case "run_started":
            began = event.run_started
            return host_events.RunBegan(
                run_id=encode.identifier(began.run_id, what="run id"),
                agent_id=encode.identifier(began.agent_id, what="agent id"),
                model=bounded(began.model, 256),
                account=bounded(began.account, 256),
                age=_age(began.age_ms),
            )
        case "run_ended":
            over = event.run_ended
            return host_events.RunOver(
                run_id=encode.identifier(over.run_id, what="run id"),
                agent_id=encode.identifier(over.agent_id, what="agent id"),
                reason=bounded(over.reason, 64),
                exit_status=over.exit_status,
                age=_age(over.age_ms),
            )
        case "runtime_update":
            return decode_progress(event.runtime_update)
        case _:
            return None
