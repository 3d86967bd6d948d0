"""A replica that has lost the register shows no terminals: it cannot know who may still look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mosaic_controlplane.mesh import liveness
from mosaic_controlplane.mesh.links import Downward, HeldLink, Links
from mosaic_controlplane.mesh.liveness import Liveness
from mosaic_controlplane.mesh.views import Views
from mosaic_controlplane.register.agent import Seat
from mosaic_controlplane.register.database import RegisterUnreachable
from mosaic_controlplane.register.host import LinkKey
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import terminal_pb2 as pb


class Gone:
    """A register that does not answer."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        raise RegisterUnreachable(why="it is away")
        yield


async def test_its_views_end_when_the_register_has_not_answered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(liveness, "AWAY_SECONDS", 0.0)
    gone: Any = Gone()
    links = Links(gone, gone, new_id())
    views = Views(links)

    async def unused(*_: object) -> None:
        raise AssertionError

    async def open_view(call_id: str, _agent_id: object, _scrolled: bool) -> None:
        views._open[call_id].opened.set()  # the host has called
        views._open[call_id].feed.take(pb.TerminalFrame(whole=True))

    key = LinkKey(new_id(), new_id(), 1)
    downward = Downward(unused, unused, unused, unused, unused, open_view)
    links._links[key.host_id] = HeldLink(key, "alpha", downward, frozenset({"view"}))
    seat = Seat(new_id(), "worker", key.host_id, "alpha", "worker")
    beating = Liveness(gone, gone, links, new_id(), "127.0.0.1:1")
    beating.on_register_away = views.end_all
    frames = views.watch(seat, scrolled=False)
    assert (await anext(frames)).whole
    ticking = asyncio.create_task(beating.run())
    try:
        with pytest.raises(FleetError) as ended:
            await asyncio.wait_for(anext(frames), 10)
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
    assert isinstance(ended.value, RegisterUnreachable)
