"""A service is kept running: ready when it says so, started again when it ends, stopped within its time."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mosaic_cli.machine import keeper as keeper_module
from mosaic_cli.machine.keeper import Keeper
from mosaic_cli.machine.processes import recorded
from mosaic_cli.machine.services import Service


class Kept:
    """A keeper of a shell script, and what it was seen doing."""

    def __init__(self, folder: Path, script: str, *, stop_within: float = 5.0) -> None:
        self.folder = folder
        self.pid_file = folder / "x.pid"
        service = Service(
            name="x",
            argv=("/bin/sh", "-c", script),
            ready_file=folder / "ready",
            log=folder / "logs" / "x.log",
            stop_within=stop_within,
            environment={"READY": str(folder / "ready")},
        )
        self.states: list[str] = []
        self._changed = asyncio.Condition()
        self.keeper = Keeper(service, self.pid_file, self._note)
        self.gate = asyncio.Event()
        self.gate.set()
        self.task = asyncio.create_task(self.keeper.run(self.gate.wait))

    def _note(self) -> None:
        self.states.append(self.keeper.health.state)

    async def until(self, state: str, times: int = 1) -> None:
        entered = 0
        async with asyncio.timeout(10):
            while entered < times:
                entered = sum(
                    1
                    for before, after in zip(["", *self.states], self.states, strict=False)
                    if after == state and before != state
                )
                await asyncio.sleep(0.01)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[list[Kept]]:
    made: list[Kept] = []
    yield made
    for item in made:
        await item.keeper.stop()
        await asyncio.wait_for(item.task, 5)


async def test_it_is_running_once_it_says_that_it_is_ready(tmp_path: Path, kept: list[Kept]) -> None:
    one = Kept(tmp_path, 'sleep 0.2; touch "$READY"; sleep 60')
    kept.append(one)
    await one.until("starting")
    assert not one.keeper.ready.is_set()
    await one.until("running")
    assert one.keeper.ready.is_set()
    found = recorded(one.pid_file)
    assert found is not None
    assert found.pid == one.keeper.health.pid


async def test_it_waits_for_what_it_needs(tmp_path: Path, kept: list[Kept]) -> None:
    one = Kept(tmp_path, 'touch "$READY"; sleep 60')
    kept.append(one)
    one.gate.clear()
    await asyncio.sleep(0.1)
    assert one.states == []
    one.gate.set()
    await one.until("running")


async def test_one_that_is_killed_is_started_again(
    tmp_path: Path, kept: list[Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "PAUSE_FIRST", 0.01)
    one = Kept(tmp_path, 'touch "$READY"; exec sleep 60')
    kept.append(one)
    await one.until("running")
    first = one.keeper.health.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await one.until("running", times=2)
    assert one.keeper.health.pid != first
    assert one.keeper.health.restarts == 1
    assert one.keeper.health.last_exit == -signal.SIGKILL


async def test_one_that_ends_again_and_again_is_given_longer_and_longer_pauses(
    tmp_path: Path, kept: list[Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "PAUSE_FIRST", 0.05)
    one = Kept(tmp_path, "date +%s.%N; exit 7")
    kept.append(one)
    await one.until("paused", times=4)
    times = [float(line) for line in (tmp_path / "logs" / "x.log").read_text().split()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] < pauses[1] < pauses[2]
    assert one.keeper.health.failures_in_a_row >= 3
    assert one.keeper.health.last_exit == 7


async def test_a_restart_that_was_asked_for_is_no_failure(tmp_path: Path, kept: list[Kept]) -> None:
    one = Kept(tmp_path, 'touch "$READY"; exec sleep 60')
    kept.append(one)
    await one.until("running")
    one.keeper.restart()
    await one.until("running", times=2)
    assert one.keeper.health.failures_in_a_row == 0
    assert "paused" not in one.states


async def test_stopping_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    one = Kept(tmp_path, 'touch "$READY"; exec sleep 60')
    await one.until("running")
    found = recorded(one.pid_file)
    assert found is not None
    await one.keeper.stop()
    await asyncio.wait_for(one.task, 5)
    assert not found.alive
    assert not one.pid_file.exists()
    assert not (tmp_path / "ready").exists()


async def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    one = Kept(tmp_path, 'trap "" TERM; touch "$READY"; while :; do sleep 0.1; done', stop_within=0.3)
    await one.until("running")
    found = recorded(one.pid_file)
    assert found is not None
    await one.keeper.stop()
    await asyncio.wait_for(one.task, 5)
    assert not found.alive


async def test_its_log_is_closed_to_others_and_a_large_one_is_put_aside(
    tmp_path: Path, kept: list[Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "LOG_LIMIT", 10)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "x.log").write_text("a" * 20)
    one = Kept(tmp_path, 'echo said; touch "$READY"; exec sleep 60')
    kept.append(one)
    await one.until("running")
    assert (tmp_path / "logs" / "x.log").read_text() == "said\n"
    assert (tmp_path / "logs" / "x.log.1").exists()
    assert (tmp_path / "logs" / "x.log").stat().st_mode & 0o077 == 0
