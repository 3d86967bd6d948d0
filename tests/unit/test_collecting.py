"""A replica looks at everything for garbage when it has time, and not whenever Python would."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator

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


async def test_garbage_is_looked_for_when_the_program_has_grown_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting.look_rarely()
    monkeypatch.setattr(collecting, "ROOM", 1_000)
    monkeypatch.setattr(collecting, "GROWTH", 1.0)
    looking = asyncio.create_task(collecting.run(check_seconds=0.01))
    checks, is_due = list[bool](), collecting.is_due
    monkeypatch.setattr(collecting, "is_due", lambda *given: checks.append(is_due(*given)) or checks[-1])
    await eventually(lambda: checks, "it looks whether it has grown")
    before = looks_at_everything()
    circle = weakref.ref(Circle())
    checks.clear()
    await eventually(lambda: len(checks) >= 3, "it has looked again")
    assert (looks_at_everything(), circle() is None) == (before, False), "little was made: it is left"
    made = [weakref.ref(Circle()) for _ in range(2_000)]
    await eventually(lambda: all(one() is None for one in (circle, *made)), "it is freed")
    looking.cancel()
    await asyncio.wait({looking})
    assert looking.cancelled()


async def test_what_is_kept_is_looked_at_once_and_what_was_freed_leaves_no_room_for_garbage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collecting.look_rarely()
    monkeypatch.setattr(collecting, "ROOM", 20_000)
    monkeypatch.setattr(collecting, "GROWTH", 1.0)
    checks, is_due = list[bool](), collecting.is_due
    monkeypatch.setattr(collecting, "is_due", lambda *given: checks.append(is_due(*given)) or checks[-1])
    looking = asyncio.create_task(collecting.run(check_seconds=0.01))

    async def due_after(act: Callable[[], object]) -> int:
        """How many of the checks that follow find a look due."""
        checks.clear()
        await eventually(lambda: checks, "it has looked how large it is")
        act()
        checks.clear()
        await eventually(lambda: len(checks) >= 4, "it has looked again")
        return sum(checks)

    kept: list[list[int]] = []
    assert await due_after(lambda: kept.extend([number] for number in range(100_000))) == 1
    assert await due_after(kept.clear) == 0
    assert await due_after(lambda: kept.extend([number] for number in range(50_000))) == 1
    looking.cancel()
    await asyncio.wait({looking})


def test_a_look_is_due_after_its_time_and_when_much_more_is_there_than_after_the_last_one() -> None:
    few, many = 400_000, 8_000_000
    assert not collecting.is_due(3_599, few + 200_000, few)
    assert collecting.is_due(3_600, few, few)
    assert collecting.is_due(5, few * 2 + 1, few)
    assert not collecting.is_due(5, int(many * 1.5), many)
    assert collecting.is_due(5, int(many * 1.5) + 200_001, many)
