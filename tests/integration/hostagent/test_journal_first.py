"""No fsync, no typing: what the journal could not write down is not done."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from mosaic_hostagent.clock import Clock
from mosaic_hostagent.journal import JournalUnwritable
from mosaic_hostagent.journal_store import JournalStore
from mosaic_hostagent.ladder import Step

from tests.support.hostagent import World, eventually


async def test_a_commit_of_the_journal_waits_for_the_disk(tmp_path: Path) -> None:
    store = JournalStore.open(tmp_path / "journal", Clock())
    try:
        pragma = {name: store._db.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    finally:
        store.close()
    assert pragma == {"journal_mode": "wal", "synchronous": 2}


async def test_nothing_is_typed_while_the_journal_cannot_be_written_and_it_is_typed_once_it_can(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = world.private.folder / "home" / "out"
    busy, seat = world.private.folder / "home" / "busy", world.seat("a")
    world.want(seat, generation=1)
    world.start()
    await world.ended(await world.send(seat, f"touch {busy}; while [ -e {busy} ]; do sleep 0.05; done", seq=1))
    await eventually(busy.exists, "the seat is busy")
    message_id = await world.send(seat, "echo x >> out", seq=2)

    def full(_store: JournalStore) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(JournalStore, "commit", full)
        busy.unlink()
        await asyncio.sleep(2)
        assert not out.exists()
        with pytest.raises(JournalUnwritable):
            await world.steps(message_id)
        screen = world.private.tmux("capture-pane", "-p", "-t", "=a:")
        assert "echo x" not in screen
    assert await world.ended(message_id) == ["dispatched", "typed", "submitted"]
    await eventually(lambda: out.exists() and out.read_text() == "x\n", "it ran once")


DONE = ["dispatched", "typed", "submitted"]


def refuse(*_arguments: object, **_more: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


async def test_nothing_is_pasted_before_the_journal_has_that_it_is_being_typed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seat = world.private.folder / "home" / "out", world.seat("a")
    world.want(seat, generation=1)
    world.start()
    await world.available("a")
    tries = []

    def refuse_typing(*_arguments: object, **_more: object) -> None:
        tries.append("refused")
        refuse()

    with monkeypatch.context() as broken:
        broken.setattr(JournalStore, "begin_typing", refuse_typing)
        message_id = await world.send(seat, "echo x >> out")
        await eventually(lambda: len(tries) >= 2, "it is tried again, so the first try is over")
        assert "echo x" not in world.private.tmux("capture-pane", "-p", "-t", "=a:")
        assert await world.steps(message_id) == ["dispatched"]
    assert await world.ended(message_id) == DONE
    await eventually(lambda: out.exists() and out.read_text() == "x\n", "it ran once")


async def test_enter_is_not_pressed_before_the_journal_has_that_it_will_be(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seat = world.private.folder / "home" / "out", world.seat("a")
    world.want(seat, generation=1)
    world.start()
    await world.available("a")
    record = JournalStore.record

    def refuse_enter(store: JournalStore, message_id: str, step: Step, *rest: object, **more: object) -> bool:
        if step is Step.ENTERING:
            refuse()
        return record(store, message_id, step, *rest, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(JournalStore, "record", refuse_enter)
        message_id = await world.send(seat, "echo x >> out")
        await eventually(lambda: "echo x" in world.private.tmux("capture-pane", "-p", "-t", "=a:"), "it is pasted")
        await asyncio.sleep(1)
        assert not out.exists()
    assert await world.ended(message_id) == DONE
    await eventually(lambda: out.exists() and out.read_text() == "x\n", "it ran once")
