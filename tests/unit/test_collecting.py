"""A replica looks at everything for garbage when it has time, and not whenever Python would."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest
from mosaic_controlplane import collecting

from tests.support.hostagent import eventually


class Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def looks_at_everything() -> int:
    return int(gc.get_stats()[2]["collections"])


def test_no_look_at_everything_is_begun_because_much_is_made_and_kept() -> None:
    collecting.look_rarely()
    before = looks_at_everything()
    kept = [[number] for number in range(500_000)]
    assert looks_at_everything() == before
    assert kept


async def test_what_refers_only_to_itself_is_freed_in_the_end() -> None:
    collecting.look_rarely()
    circle = weakref.ref(Circle())
    assert circle() is not None
    looking = asyncio.create_task(collecting.run(every_seconds=0.01))
    await eventually(lambda: circle() is None, "it is freed")
    looking.cancel()
    await asyncio.wait({looking})
    assert looking.cancelled()
