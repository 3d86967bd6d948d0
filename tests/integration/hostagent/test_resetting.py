"""A reset empties a seat's context once, as a new run, by its runtime's command or a restart; never in a dialog."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from mosaic_framework import steps
from mosaic_framework.manifest import Manifest
from mosaic_hostagent.journal_resets import ResetStep
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.hostagent import World, eventually

PROGRAM = Path(__file__).parents[2] / "fakes" / "clearing.py"


class Clearing:
    """A seat with a stand-in program that has a context."""

    def __init__(self, world: World, folder: Path, manifest: Manifest, behaviour: str = "") -> None:
        self.world = world
        self.transcript = folder / "transcript"
        self.manifest = manifest
        self.behaviour = behaviour

    def seat(self, **more: object) -> pb.DesiredSeat:
        command = [sys.executable, str(PROGRAM), str(self.transcript), self.behaviour]
        return self.world.seat("a", runtime="claude", manifest=self.manifest, command=command, **more)  # type: ignore[arg-type]

    def entered(self) -> list[str]:
        if not self.transcript.exists():
            return []
        return [json.loads(line) for line in self.transcript.read_text(encoding="utf-8").splitlines()]

    def screen(self) -> str:
        return self.world.private.tmux("capture-pane", "-p", "-t", "=a:")


@pytest.fixture(autouse=True)
def _soon_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mosaic_hostagent.resetting.CALM_SECONDS", 0.2)  # the stand-in shows its work at once


@pytest.fixture
def resettable(manifest: Callable[[str], Manifest]) -> Manifest:
    """Claude's manifest, with the stand-in's own sign of an empty conversation."""
    claude = manifest("claude")
    fresh = claude.reset.model_validate({"clear": "/clear", "keeps_seed": True, "fresh": [{"pattern": "nothing said"}]})
    return claude.model_copy(update={"reset": fresh})


@pytest.fixture
def clearing(world: World, tmp_path: Path, resettable: Manifest) -> Clearing:
    return Clearing(world, tmp_path, resettable)


async def until_reset(world: World, run_id: str) -> None:
    await eventually(lambda: world.resident("a").run_id > run_id, "another run begins")


async def reasons(world: World) -> list[tuple[str, str]]:
    return [(kind, reason) for kind, reason, _ in await world.runs()]


async def test_a_reset_is_entered_once_and_begins_a_new_run_of_the_same_process(
    world: World, clearing: Clearing
) -> None:
    world.want(clearing.seat(), generation=1)
    world.start()
    before = (await world.available("a")).session
    assert before is not None
    world.want(clearing.seat(generation=2, reset=1), generation=2)
    await until_reset(world, before.run_id)
    await eventually(lambda: world.resident("a").report().generation == 2, "it is told")
    after = world.resident("a").session
    assert after is not None
    assert (after.pid, after.reset, after.run_id > before.run_id) == (before.pid, 1, True)
    assert clearing.entered() == ["/clear"]
    assert "nothing said" in clearing.screen()
    assert await reasons(world) == [("started", ""), ("ended", "reset"), ("started", "")]
    world.want(clearing.seat(generation=2, reset=1), generation=3)
    await world.reconciled(3)
    assert clearing.entered() == ["/clear"]
    assert world.resident("a").run_id == after.run_id


async def test_a_restarted_host_agent_knows_the_new_run_and_sees_its_end(world: World, clearing: Clearing) -> None:
    world.want(clearing.seat(), generation=1)
    world.start()
    first = (await world.available("a")).run_id
    world.want(clearing.seat(generation=2, reset=1), generation=2)
    await until_reset(world, first)
    second = world.resident("a").run_id
    await world.restart()
    world.want(clearing.seat(generation=2, reset=1), generation=2)
    world.start()
    assert (await world.available("a")).run_id == second
    world.private.tmux("send-keys", "-t", "=a:", "C-c")
    await eventually(lambda: world.resident("a").run_id > second, "it is started again")
    assert await reasons(world) == [
        ("started", ""), ("ended", "reset"), ("started", ""), ("ended", "exited"), ("started", ""),
    ]  # fmt: skip
    assert clearing.entered() == ["/clear"]


async def test_a_reset_waits_until_the_seat_is_available_and_messages_wait_for_it(
    world: World, clearing: Clearing
) -> None:
    world.want(clearing.seat(), generation=1)
    world.start()
    first = (await world.available("a")).run_id
    await world.ended(await world.send(clearing.seat(), "work 3"))
    world.private.tmux("send-keys", "-t", "=a:", "work 3", "Enter")
    await eventually(lambda: world.resident("a").state.state == "working", "it works")
    world.want(clearing.seat(generation=2, reset=1), generation=2)
    await eventually(lambda: world.resident("a").holds, "messages are held")
    late = await world.send(clearing.seat(), "after", seq=2)
    assert world.resident("a").report().generation == 1
    await until_reset(world, first)
    assert (await world.ended(late))[-1] == "submitted"
    last = [text.splitlines()[-1] if "after" in text else text for text in clearing.entered()[-2:]]
    assert last[0] == "/clear"
    assert "after" in clearing.entered()[-1]


async def test_nothing_is_typed_into_a_dialog_and_no_key_answers_it(
    world: World, tmp_path: Path, resettable: Manifest
) -> None:
    asking = Clearing(world, tmp_path, resettable, "asks")
    world.want(asking.seat(), generation=1)
    world.start()
    await eventually(
        lambda: world.supervisor.residents and world.resident("a").state.state == "waiting", "it asks a question"
    )
    first = world.resident("a").run_id
    world.want(asking.seat(generation=2, reset=1), generation=2)
    await eventually(lambda: world.resident("a").holds, "the reset waits")
    await asyncio.sleep(1.5)  # nothing happens: there is no event to wait for
    assert asking.entered() == []
    Path(f"{asking.transcript}.answer").touch()
    await until_reset(world, first)
    assert asking.entered() == ["/clear"]


async def test_force_restarts_a_seat_that_asks(world: World, tmp_path: Path, resettable: Manifest) -> None:
    asking = Clearing(world, tmp_path, resettable, "asks")
    world.want(asking.seat(), generation=1)
    world.start()
    await eventually(lambda: world.supervisor.residents and world.resident("a").alive, "it runs")
    first = world.resident("a").run_id
    world.want(asking.seat(generation=2, reset=1, reset_way="restart"), generation=2)
    await until_reset(world, first)
    await eventually(lambda: world.resident("a").report().generation == 2, "it is told")
    assert await reasons(world) == [("started", ""), ("ended", "reset"), ("started", "")]


async def test_what_a_person_has_written_stays_and_the_reset_waits(
    world: World, tmp_path: Path, resettable: Manifest
) -> None:
    drafting = Clearing(world, tmp_path, resettable, "draft")
    world.want(drafting.seat(), generation=1)
    world.start()
    first = (await world.available("a")).run_id
    world.want(drafting.seat(generation=2, reset=1), generation=2)
    await eventually(lambda: "mine: /clear" in drafting.screen(), "it tried")
    await eventually(lambda: "mine: /clear" not in drafting.screen(), "it took its own text back")
    assert "mine:" in drafting.screen()
    assert drafting.entered() == []
    world.private.tmux("send-keys", "-t", "=a:", "Enter")
    await until_reset(world, first)
    assert drafting.entered() == ["mine: ", "/clear"]


async def test_a_reset_that_shows_no_effect_is_told_and_not_tried_again(
    world: World, tmp_path: Path, resettable: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosaic_hostagent.terminal.command.SEEN_SECONDS", 1.0)
    forgetful = Clearing(world, tmp_path, resettable, "forgets")
    world.want(forgetful.seat(), generation=1)
    world.start()
    first = (await world.available("a")).run_id
    world.want(forgetful.seat(generation=2, reset=1), generation=2)
    await eventually(lambda: "not proven" in world.resident("a").report().problem, "it is told")
    assert world.resident("a").report().generation == 2
    assert world.resident("a").run_id == first
    assert not world.resident("a").holds
    await world.restart()
    await world.resetting.resume()
    world.want(forgetful.seat(generation=2, reset=1), generation=3)
    world.start()
    await eventually(
        lambda: world.supervisor.residents and "not proven" in world.resident("a").report().problem, "it is told anew"
    )
    assert forgetful.entered() == ["/clear"]


@pytest.mark.parametrize(
    ("seat", "why"),
    [
        ({"reset_way": "new"}, "the runtime has no /new"),
        ({"contract": "another", "generation": 3}, "its contract has changed since its launch"),
    ],
)
async def test_where_the_command_will_not_do_a_reset_is_a_restart(
    world: World, clearing: Clearing, seat: dict[str, object], why: str
) -> None:
    world.want(clearing.seat(), generation=1)
    world.start()
    before = (await world.available("a")).session
    assert before is not None
    world.want(clearing.seat(**({"generation": 2, "reset": 1} | seat)), generation=2)
    await until_reset(world, before.run_id)
    after = (await world.available("a")).session
    assert after is not None
    assert after.pid != before.pid, why
    assert after.reset == 1
    assert clearing.entered() == []
    assert (await reasons(world))[1] == ("ended", "reset")


async def test_a_shell_is_reset_by_a_restart_once_its_prompt_is_up(world: World) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    first = (await world.available("a")).run_id
    world.private.tmux("send-keys", "-t", "=a:", "sleep 2", "Enter")
    await eventually(lambda: world.resident("a").state.state == "working", "it works")
    world.want(world.seat("a", generation=2, reset=1), generation=2)
    await world.reconciled(2)
    assert world.resident("a").run_id == first
    await until_reset(world, first)
    assert await reasons(world) == [("started", ""), ("ended", "reset"), ("started", "")]


PLACES = ["reset-typing", "reset-entering", "reset-entered", "reset-proven", "reset-marked"]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("place", PLACES)
async def test_a_host_agent_killed_amid_a_reset_resets_once(world: World, clearing: Clearing, place: str) -> None:
    world.want(clearing.seat(), generation=1)
    world.start()
    first = (await world.available("a")).run_id
    dead = asyncio.Event()

    def observe(name: str) -> None:
        if name == f"hostagent.{place}":
            dead.set()
            raise Killed

    with patch.object(steps, "_observer", observe):
        world.want(clearing.seat(generation=2, reset=1), generation=2)
        async with asyncio.timeout(15):
            await dead.wait()
        await world.restart()
    await world.resetting.resume()
    world.want(clearing.seat(generation=2, reset=1), generation=2)
    world.start()
    await eventually(
        lambda: world.supervisor.residents and world.resident("a").report().generation == 2, "it is brought to its end"
    )
    assert world.resident("a").run_id > first
    assert clearing.entered() == ["/clear"]
    assert await reasons(world) == [("started", ""), ("ended", "reset"), ("started", "")]
    assert await world.journal.resets() == []


async def test_a_task_that_ends_resets_its_seat_before_the_next_message(world: World, clearing: Clearing) -> None:
    seat = clearing.seat(reset_between_tasks=True)
    world.want(seat, generation=1)
    world.start()
    first = (await world.available("a")).run_id
    assert await world.resetting.task_ended(seat.agent_id)
    message = await world.send(seat, "the next task")
    assert (await world.ended(message))[-1] == "submitted"
    assert world.resident("a").run_id != first
    assert clearing.entered()[0] == "/clear"
    assert "the next task" in clearing.entered()[1]
    assert (await reasons(world))[1] == ("ended", "reset")


async def test_a_task_that_ends_leaves_other_seats_as_they_are(world: World, clearing: Clearing) -> None:
    world.want(clearing.seat(), generation=1)
    world.start()
    await world.available("a")
    assert not await world.resetting.task_ended("agent-a")
    assert not await world.resetting.task_ended("agent-nobody")
    assert await world.journal.resets() == []


async def test_a_reset_between_tasks_outlives_its_host_agent(world: World, clearing: Clearing) -> None:
    seat = clearing.seat(reset_between_tasks=True)
    world.want(seat, generation=1)
    world.start()
    first = (await world.available("a")).run_id
    with patch.object(world.resetting, "look"):
        assert await world.resetting.task_ended(seat.agent_id)
    (waiting,) = await world.journal.resets()
    assert waiting.step is ResetStep.WANTED
    await world.restart()
    await world.resetting.resume()
    world.want(seat, generation=1)
    world.start()
    await eventually(
        lambda: world.supervisor.residents and world.resident("a").run_id not in ("", first), "it is reset"
    )
    assert clearing.entered() == ["/clear"]
