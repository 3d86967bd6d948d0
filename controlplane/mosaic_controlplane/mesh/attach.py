"""Driving a seat's terminal: the lease is the host's, the record of it ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from uuid import UUID

import structlog
from mosaic_framework.errors import Conflict, FleetError, InvalidInput
from mosaic_framework.screen_feed import Viewer
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.views import HostView, Views
from mosaic_controlplane.register.agent import Seat
from mosaic_controlplane.register.database import Database

LEASE_SECONDS = 5.0
KEYS_LIMIT = 16 * 1024
METHOD = "TerminalService/Attach"

log = structlog.get_logger(__name__)


class TerminalDriven(Conflict):
    """Somebody else drives this terminal."""

    code = "terminal-driven"


class LeaseLost(Conflict):
    """You drive this terminal no longer."""

    code = "lease-lost"


class Attachments:
    """Attachments at this replica. Each writes an audit row when it begins and one when it ends."""

    def __init__(self, database: Database, views: Views) -> None:
        self._database = database
        self._views = views

    async def attach(
        self, tenant_id: UUID, seat: Seat, caller: Caller, *, take: bool, inputs: AsyncIterator[pb.AttachInput]
    ) -> AsyncGenerator[pb.AttachOutput, None]:
        """Yield the lease, then pictures, while keys go in. Raises TerminalDriven, LeaseLost, or what watching does."""
        view = await self._views.open(seat, scrolled=False)
        try:
            await view.down.put(pb.ViewDown(ask=pb.AskLease(holder=caller.name, take=take)))
            state = await _first_lease(view)
            if not state.held:
                raise TerminalDriven(
                    f"{state.holder or 'somebody'} drives {seat.host}/{seat.name}",
                    why=state.reason,
                    next_step=f"take it over: mosaic agent attach {seat.host}/{seat.name} --take",
                    details={"holder": state.holder},
                )
            async with aclosing(self._driven(view, state, tenant_id, seat, caller, inputs)) as outputs:
                async for output in outputs:
                    yield output
        finally:
            self._views.close(view)

    async def _driven(
        self,
        view: HostView,
        state: pb.LeaseState,
        tenant_id: UUID,
        seat: Seat,
        caller: Caller,
        inputs: AsyncIterator[pb.AttachInput],
    ) -> AsyncGenerator[pb.AttachOutput, None]:
        began, keys, outcome = time.monotonic(), _Keys(view, inputs), "detached"
        await self._record(tenant_id, seat, caller, "attached", {"taken_from": state.former} if state.former else {})
        reader = asyncio.create_task(keys.read(), name="attach-keys")
        try:
            yield pb.AttachOutput(lease=state)
            viewer = Viewer()
            while not reader.done():
                changed = view.changed
                if view.leases:
                    lost = view.leases[-1]
                    raise LeaseLost(why=lost.reason, details={"holder": lost.holder})
                if (frame := view.feed.frame_for(viewer)) is not None:
                    yield pb.AttachOutput(frame=frame)
                elif view.ended is not None:
                    raise view.ended
                else:
                    await _changed_or_done(changed, reader)
            reader.result()
        except FleetError as error:
            outcome = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "connection lost"
            raise
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            detail = {"bytes": str(keys.count), "seconds": str(round(time.monotonic() - began)), "end": outcome}
            await asyncio.shield(self._record(tenant_id, seat, caller, "detached", detail))

    async def _record(self, tenant_id: UUID, seat: Seat, caller: Caller, what: str, detail: dict[str, str]) -> None:
        try:
            async with self._database.connection() as connection:
                await auditing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method=METHOD,
                    target=f"{seat.host}/{seat.name}",
                    detail={"what": what, **detail},
                )
        except FleetError as error:
            if what == "attached":
                raise  # nobody drives a terminal unrecorded
            log.error("the end of an attachment was not audited", agent=seat.name, caller=caller.name, why=error.why)


class _Keys:
    """What an attached person sends, passed on at the host's pace. `count`: bytes of keys."""

    def __init__(self, view: HostView, inputs: AsyncIterator[pb.AttachInput]) -> None:
        self._view = view
        self._inputs = inputs
        self.count = 0

    async def read(self) -> None:
        async for given in self._inputs:
            match given.WhichOneof("input"):
                case "keys":
                    if len(given.keys) > KEYS_LIMIT:
                        raise InvalidInput(
                            "too many keys at once", why=f"{len(given.keys):,} bytes of at most {KEYS_LIMIT:,}"
                        )
                    self.count += len(given.keys)
                    await self._view.down.put(pb.ViewDown(keys=given.keys))
                case "renew":
                    await self._view.down.put(pb.ViewDown(renew=given.renew))


async def _first_lease(view: HostView) -> pb.LeaseState:
    deadline = asyncio.get_running_loop().time() + LEASE_SECONDS
    while not view.leases:
        if view.ended is not None:
            raise view.ended
        changed = view.changed
        try:
            async with asyncio.timeout_at(deadline):
                await changed.wait()
        except TimeoutError:
            raise TerminalDriven("the host did not say who drives the terminal") from None
    return view.leases.pop(0)


async def _changed_or_done(changed: asyncio.Event, reader: asyncio.Task[None]) -> None:
    waiting = asyncio.create_task(changed.wait())
    try:
        await asyncio.wait([waiting, reader], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
