"""Views that the control plane asked for: one feed a seat, one call for each that watches or drives it from there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import grpc
import grpc.aio
import structlog
from mosaic_framework.call_endings import as_ended
from mosaic_framework.screen_feed import Viewer
from mosaic_framework.wire import error_to_message
from mosaic_proto.v1 import host_link_pb2, terminal_pb2_grpc
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_hostagent.residents import Resident
from mosaic_hostagent.terminal.driving import Lease
from mosaic_hostagent.terminal.keyboard import KeyReader
from mosaic_hostagent.terminal.picture import ABOVE_ROWS
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.terminal.pressing import press
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused
from mosaic_hostagent.terminal.view import SeatView

log = structlog.get_logger(__name__)

Call = grpc.aio.StreamStreamCall[pb.ViewUp, pb.ViewDown]


@dataclass(slots=True)
class _Shared:
    """A view, how many calls use it, and the task that keeps it."""

    view: SeatView
    task: asyncio.Task[None]
    users: int = 0


class Viewing:
    """All views of this host. `on_change` is told of a seat whose driver changed."""

    def __init__(
        self, residents: Mapping[str, Resident], pool: ServerPool, on_change: Callable[[Resident], None]
    ) -> None:
        self._residents = residents
        self._pool = pool
        self._on_change = on_change
        self._views: dict[tuple[str, bool], _Shared] = {}

    def __len__(self) -> int:
        return len(self._views)

    async def serve(self, channel: grpc.aio.Channel, asked: host_link_pb2.OpenView, link_epoch: int) -> None:
        """Call the control plane back and show it a seat until either side ends the call. Raises nothing."""
        call: Call = terminal_pb2_grpc.HostTerminalServiceStub(channel).Serve()
        try:
            with as_ended(call):
                await call.write(pb.ViewUp(hello=pb.ViewHello(call_id=asked.call_id, link_epoch=link_epoch)))
                async with self._shared(asked.agent_id, asked.scrolled) as view:
                    await _Served(self, call, asked, view).run()
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            log.info("a view ended", agent=asked.agent_id, why=str(error)[:200])
        finally:
            call.cancel()

    def resident(self, agent_id: str) -> Resident | None:
        """Return who sits in a seat now."""
        return self._residents.get(agent_id)

    def drive_changed(self, agent_id: str) -> None:
        """Who drives a seat is another: every view shows it, and the register hears of it."""
        if (resident := self._residents.get(agent_id)) is not None:
            self._on_change(resident)
        for (viewed, _), shared in self._views.items():
            if viewed == agent_id:
                shared.view.poke()

    @contextlib.asynccontextmanager
    async def _shared(self, agent_id: str, scrolled: bool) -> AsyncIterator[SeatView]:
        key = (agent_id, scrolled)
        shared = self._views.get(key)
        if shared is None or shared.task.done():
            view = SeatView(
                lambda: self._residents.get(agent_id),
                lambda session: self._pool.get(session.server),
                scrolled=scrolled,
            )
            shared = self._views[key] = _Shared(view, asyncio.create_task(view.run(), name=f"view-{agent_id}"))
        shared.users += 1
        try:
            yield shared.view
        finally:
            shared.users -= 1
            if not shared.users:
                if self._views.get(key) is shared:
                    del self._views[key]
                shared.task.cancel()
                (outcome,) = await asyncio.gather(shared.task, return_exceptions=True)
                if isinstance(outcome, Exception):
                    log.error("a view failed", agent=agent_id, why=str(outcome))


class _Served:
    """One call: pictures go up at the pace at which the other side takes them; keys come down."""

    def __init__(self, viewing: Viewing, call: Call, asked: host_link_pb2.OpenView, view: SeatView) -> None:
        self._viewing = viewing
        self._call = call
        self._agent_id = asked.agent_id
        self._view = view
        self._viewer = Viewer(scrolled=asked.scrolled, lines=ABOVE_ROWS if asked.scrolled else 0)
        self._keys = KeyReader()
        self._lease: Lease | None = None
        self._answers: list[pb.LeaseState] = []
        self._answered = asyncio.Event()

    async def run(self) -> None:
        tasks = [
            asyncio.create_task(self._write(), name="view-write"),
            asyncio.create_task(self._read(), name="view-read"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._release()

    async def _write(self) -> None:
        while True:
            changed = self._view.changed
            self._notice_lost()
            while self._answers:
                await self._call.write(pb.ViewUp(lease=self._answers.pop(0)))
            if (frame := self._view.feed.frame_for(self._viewer)) is not None:
                await self._call.write(pb.ViewUp(frame=frame))
                continue
            if self._view.problem is not None:
                await self._call.write(pb.ViewUp(problem=error_to_message(self._view.problem)))
                await self._call.done_writing()
                return
            await _either(changed, self._answered)
            self._answered.clear()

    async def _read(self) -> None:
        while isinstance(down := await self._call.read(), pb.ViewDown):
            match down.WhichOneof("down"):
                case "ask":
                    self._ask(down.ask)
                case "renew":
                    if (resident := self._viewing.resident(self._agent_id)) is not None and self._lease is not None:
                        resident.driving.renew(self._lease, time.monotonic())
                case "keys":
                    await self._press(down.keys)

    def _ask(self, ask: pb.AskLease) -> None:
        resident = self._viewing.resident(self._agent_id)
        if resident is None or self._lease is not None:
            return
        self._lease, former = resident.driving.ask(ask.holder, time.monotonic(), take=ask.take)
        if self._lease is None:
            holder = former.holder if former is not None else ""
            self._answer(pb.LeaseState(holder=holder, reason=f"{holder} drives it"))
            return
        log.info("a seat is driven", agent=self._agent_id, holder=ask.holder, former=former.holder if former else "")
        self._answer(pb.LeaseState(held=True, holder=ask.holder, former=former.holder if former else ""))
        self._viewing.drive_changed(self._agent_id)

    async def _press(self, keys: bytes) -> None:
        resident, lease = self._viewing.resident(self._agent_id), self._lease
        if resident is None or lease is None or not resident.driving.renew(lease, time.monotonic()):
            return  # the loss was told, or is told with the next look
        strokes = self._keys.feed(keys)
        if resident.pane is None:
            return  # there is no program: the picture says so
        try:
            await press(resident.pane, keys, strokes)
        except (TerminalLost, TmuxRefused) as error:
            log.warning("keys were not pressed", agent=self._agent_id, why=error.why or error.what)

    def _notice_lost(self) -> None:
        if self._lease is None or not self._lease.ended:
            return
        taken_by = self._lease.taken_by
        self._lease = None
        reason = f"{taken_by} took it over" if taken_by else "it was not renewed in time"
        self._answers.append(pb.LeaseState(holder=taken_by, reason=reason))
        if not taken_by:
            self._viewing.drive_changed(self._agent_id)

    def _answer(self, state: pb.LeaseState) -> None:
        self._answers.append(state)
        self._answered.set()

    def _release(self) -> None:
        resident = self._viewing.resident(self._agent_id)
        if self._lease is None or resident is None:
            return
        ended = self._lease.ended
        resident.driving.release(self._lease)
        if not ended:
            self._viewing.drive_changed(self._agent_id)


async def _either(*events: asyncio.Event) -> None:
    """Wait until one of these is set."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
