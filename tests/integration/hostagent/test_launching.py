"""Launching a seat on a host: questions settled, programs found, and what cannot be launched told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mosaic_framework.manifest import Manifest
from mosaic_framework.seat_environment import PROGRAM, read_env_file
from mosaic_hostagent import supervise

from tests.support.hostagent import World, eventually
from tests.support.launched import Seats
from tests.support.standin import make_stand_in


@pytest.fixture
async def seats(world: World, tmp_path: Path, manifest: Callable[[str], Manifest]) -> Seats:
    world.start()
    return Seats(world, tmp_path, manifest)


async def test_questions_are_settled_in_a_users_file_for_an_unattended_seat_alone(seats: Seats) -> None:
    program, settled = seats.stand_in("claude"), Path(seats.world.private.environment["HOME"]) / ".claude.json"
    await seats.launched(program, runtime="claude", working_directory="~/src")
    assert not settled.exists()
    await seats.launched(program, runtime="claude", working_directory="~/src", unattended=True)
    found = json.loads(settled.read_text())
    assert found == {
        "hasCompletedOnboarding": True,
        "projects": {str(settled.parent / "src"): {"hasTrustDialogAccepted": True}},
    }


async def test_a_runtime_that_is_not_installed_is_one_state_and_is_taken_up_when_it_is(
    seats: Seats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "RETRY_SECONDS", 0.2)
    missing = seats.manifest("codex").model_copy(update={"program": "codex-of-this-test"})
    world = seats.world
    world.want(world.seat("a", runtime="codex", manifest=missing), generation=1)
    await world.reconciled(1)
    report = world.resident("a").report()
    assert report.problem == "Codex (codex-of-this-test) is not installed on this host; npm install -g @openai/codex"
    assert await world.runs() == []
    told = len(world.reports)

    home = Path(world.private.environment["HOME"])
    program = make_stand_in(home / ".npm-global" / "bin" / "codex-of-this-test", seats.folder / "late.json")
    await eventually(lambda: program.started, "it is found and started")
    await eventually(lambda: world.resident("a").report().problem == "", "the problem is over")
    assert len(world.reports) > told
    assert len(await world.runs()) == 1


async def test_a_runtime_that_moved_is_found_again_at_the_next_launch(seats: Seats) -> None:
    program = seats.stand_in("pi")
    await seats.launched(program, runtime="pi")
    name = seats.resident.seat.name
    home = Path(seats.world.private.environment["HOME"])
    moved = home / ".volta" / "bin" / "pi"
    moved.parent.mkdir(parents=True)
    program.path.rename(moved)
    program.record.unlink()
    seats.world.want(seats.world.seat(name, runtime="pi", restart=1, generation=2), generation=9)
    await eventually(lambda: program.started, "it is started from where it is now")
    assert program.started is not None
    assert program.started.argv[0] == str(moved)
    file = read_env_file(seats.home, name)
    assert file is not None
    assert file.generated[PROGRAM] == str(moved)
    assert file.site == {"SITE": seats.text}


async def test_an_env_file_that_means_nothing_holds_back_its_own_seat_alone(seats: Seats) -> None:
    world = seats.world
    path = seats.home.fleet / "agents" / "bad.env"
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text("# mine\nno sign\n")
    world.want(world.seat("bad"), world.seat("good"), generation=1)
    await world.available("good")
    assert "bad.env is not a valid env file" in world.resident("bad").report().problem
    assert "line 2" in world.resident("bad").report().problem
    assert path.read_text() == "# mine\nno sign\n"
