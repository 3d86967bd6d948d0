"""Terminals of hosts linked here, as viewers see them: one upstream for all who watch a seat, one for who drives it.

A viewer holds no more than the picture it was sent last. It is sent the newest one whenever it has taken that, so who
reads slowly sees fewer pictures and costs nobody anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from uuid import UUID

import structlog
from mosaic_framework.errors import Denied, FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.screen_feed import ScreenFeed, Viewer
from mosaic_framework.wire import error_from_message
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.held_link import HeldLink, HostNotHere, TerminalUnavailable
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.register.agent import Seat

CAPABILITY = "view"
OPEN_SECONDS = 5.0
_DOWN_LIMIT = 64
_LEASE_LIMIT = 16

log = structlog.get_logger(__name__)


class ViewRefused(Denied):
    """Nobody asked this host for such a view."""

    code = "view-refused"


class HostView:
    """One call of a host that shows a seat. `changed` is replaced by a new event with every change."""

    def __init__(self, link: HeldLink, call_id: str) -> None:
        self.link = link
        self.call_id = call_id
        self.feed = ScreenFeed()
        self.changed = asyncio.Event()
        self.opened = asyncio.Event()
        self.leases: list[pb.LeaseState] = []
        self.down: asyncio.Queue[pb.ViewDown | None] = asyncio.Queue(_DOWN_LIMIT)
        self.ended: FleetError | None = None

    async def pump(self, frames: AsyncIterator[pb.ViewUp]) -> None:
        """Take what the host shows until its call ends."""
        try:
            async for up in frames:
                match up.WhichOneof("up"):
                    case "frame":
                        self.feed.take(up.frame)
                    case "lease":
                        self.leases = [*self.leases, up.lease][-_LEASE_LIMIT:]
                    case "problem":
                        self.end(error_from_message(up.problem))
                self.tell()
        finally:
            self.end(HostNotHere(f"the terminals of host {self.link.host_name} cannot be seen any more"))

    def end(self, reason: FleetError) -> None:
        """Nothing more will be seen here; the first reason counts."""
        if self.ended is None:
            self.ended = reason
            self.tell()
            with contextlib.suppress(asyncio.QueueFull):
                self.down.put_nowait(None)

    def tell(self) -> None:
        """Wake whoever waits for news."""
        self.changed.set()
        self.changed = asyncio.Event()


class _Shared:
    """A view that several watch; `view` is done when the host has called."""

    def __init__(self, view: asyncio.Task[HostView]) -> None:
        self.view = view
        self.viewers = 0


class Views:
    """All views at this replica."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._open: dict[str, HostView] = {}
        self._shared: dict[tuple[UUID, UUID, bool], _Shared] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def watch(self, seat: Seat, *, scrolled: bool, lines: int = 0) -> AsyncGenerator[pb.TerminalFrame, None]:
        """Yield a seat's picture and what changes of it. Raises HostNotHere or TerminalUnavailable."""
        key = (seat.host_id, seat.agent_id, scrolled)
        shared = self._shared.get(key)
        if shared is None or _is_over(shared.view):
            opening = asyncio.create_task(self.open(seat, scrolled=scrolled))
            shared = self._shared[key] = _Shared(opening)
        shared.viewers += 1
        viewer = Viewer(scrolled=scrolled, lines=lines)
        try:
            view = await asyncio.shield(shared.view)
            while True:
                changed = view.changed
                if (frame := view.feed.frame_for(viewer)) is not None:
                    yield frame
                elif view.ended is not None:
                    raise view.ended
                else:
                    await changed.wait()
        finally:
            shared.viewers -= 1
            if not shared.viewers:
                if self._shared.get(key) is shared:
                    del self._shared[key]
                await self._dismiss(shared.view)

    async def open(self, seat: Seat, *, scrolled: bool) -> HostView:
        """Have the host show a seat here; the caller closes the view. Raises as `watch` does."""
        link = self._links.held(seat.host_id, seat.host)
        if CAPABILITY not in link.capabilities:
            raise TerminalUnavailable(
                "the terminal cannot be watched",
                why=f"the host-agent of {seat.host} is older than this control plane",
                next_step=f"run this on {seat.host}: mosaic update",
            )
        view = HostView(link, str(new_id()))
        self._open[view.call_id] = view
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await link.downward.open_view(view.call_id, seat.agent_id, scrolled)
                await view.opened.wait()
        except TimeoutError:
            raise HostNotHere(f"host {seat.host} did not answer within {OPEN_SECONDS:g} s") from None
        finally:
            if not view.opened.is_set():
                del self._open[view.call_id]
        return view

    def close(self, view: HostView) -> None:
        """End a view of `open`: the host's call ends with it."""
        view.end(HostNotHere("the view was closed"))

    def serve(self, caller: Caller, hello: pb.ViewHello) -> HostView:
        """A host calls: return the view it was asked for, once, under the very link. Raises ViewRefused."""
        view = self._open.get(hello.call_id)
        if view is None or view.opened.is_set():
            raise ViewRefused(why="its id is not known, or was used before")
        key = view.link.key
        if (key.host_id, key.link_epoch) != (caller.id, hello.link_epoch):
            raise ViewRefused(why="it was asked for on another link")
        view.opened.set()
        return view

    def served(self, view: HostView) -> None:
        """The host's call has ended."""
        self._open.pop(view.call_id, None)

    async def _dismiss(self, opening: asyncio.Task[HostView]) -> None:
        if not opening.done():
            opening.cancel()
        (outcome,) = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(outcome, HostView):
            self.close(outcome)


def _is_over(view: asyncio.Task[HostView]) -> bool:
    if not view.done():
        return False
    return view.cancelled() or view.exception() is not None or view.result().ended is not None
