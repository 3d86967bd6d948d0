"""What a seat's pane really runs is told from its processes, and so are sessions that are nobody's seat."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mosaic_hostagent.terminal.panes import Unmanaged

from tests.support.hostagent import World, eventually

_PROGRAM = '#!/bin/bash\necho ready\nwhile read -r line; do [ "$line" = leave ] && exit; done\n'


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in front of PATH with stand-ins called like the runtimes' programs."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("claude", "codex"):
        (folder / name).write_text(_PROGRAM, encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


async def runs(world: World, name: str, runtime: str, model: str = "") -> None:
    def seen() -> bool:
        report = next((one for one in reversed(world.reports) if one.name == name), None)
        return report is not None and (report.running_runtime, report.running_model) == (runtime, model)

    await eventually(seen, f"{name} runs {runtime} {model}; told: {[str(one) for one in world.reports[-2:]]}")


async def test_a_seat_tells_its_runtime_and_the_model_of_its_launch(programs: Path, world: World) -> None:
    world.want(world.seat("a", runtime="claude", model="opus"), world.seat("b"), generation=1)
    world.start()
    await runs(world, "a", "claude", "opus")
    await runs(world, "b", "shell")


async def test_a_roster_that_says_another_runtime_or_model_does_not_change_what_is_told_of_the_running_one(
    programs: Path, world: World
) -> None:
    world.want(world.seat("a", runtime="claude", model="opus"), generation=1)
    world.start()
    await runs(world, "a", "claude", "opus")
    world.want(world.seat("a", generation=2, runtime="codex", model="gpt"), generation=2)
    await world.reconciled(2)
    await world.restart()  # also to a host-agent that did not start it
    world.reports.clear()
    world.want(world.seat("a", generation=2, runtime="codex", model="gpt"), generation=2)
    world.start()
    await runs(world, "a", "claude", "opus")


async def test_another_program_started_in_a_shell_is_seen_while_it_runs(programs: Path, world: World) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    await world.available("a")
    await runs(world, "a", "shell")
    world.private.tmux("send-keys", "-t", "=a:", "claude --model haiku", "Enter")
    await runs(world, "a", "claude", "haiku")
    world.private.tmux("send-keys", "-t", "=a:", "leave", "Enter")
    await runs(world, "a", "shell")


async def test_of_a_command_that_replaces_the_program_nothing_is_claimed(programs: Path, world: World) -> None:
    world.want(world.seat("a", runtime="codex", command=["claude", "--model", "opus"]), generation=1)
    world.start()
    await eventually(lambda: world.resident("a").command, "it was looked at")
    assert world.resident("a").report().running_runtime == ""


async def test_a_session_that_is_nobodys_seat_is_told_and_never_touched(world: World) -> None:
    told: list[list[Unmanaged]] = []
    world.supervisor.on_unmanaged = told.append
    world.want(world.seat("a"), generation=1)
    world.start()
    await world.available("a")
    assert told[-1] == []
    world.private.tmux("new-session", "-d", "-s", "somebodys", "sleep 1000")
    await eventually(lambda: told[-1], "it is told")
    (found,) = told[-1]
    assert (found.name, found.command, found.server.socket_name) == ("somebodys", "sleep", world.private.socket_name)
    world.want(generation=2)
    await world.reconciled(2)
    await eventually(
        lambda: world.private.tmux("list-sessions", "-F", "#{session_name}").split() == ["somebodys"],
        "it alone is left",
    )
