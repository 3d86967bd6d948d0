"""A seat is told its kickstart once in each run, before all else, and never the one of a run that is over."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from mosaic_hostagent.ladder import Step
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.hostagent import World, eventually

PROGRAM = Path(__file__).parents[2] / "fakes" / "clearing.py"


class Kicked:
    """A seat with a kickstart, and what its program was told."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.transcript = folder / "transcript"

    def seat(self, **more: object) -> pb.DesiredSeat:
        manifest = self.world._manifest("claude")
        fresh = manifest.reset.model_validate({"clear": "/clear", "keeps_seed": True})
        return self.world.seat(
            "a",
            runtime="claude",
            manifest=manifest.model_copy(update={"reset": fresh}),
            command=[sys.executable, str(PROGRAM), str(self.transcript)],
            kickstart="You are {name}.",
            **more,  # type: ignore[arg-type]
        )

    def told(self) -> list[str]:
        if not self.transcript.exists():
            return []
        lines = self.transcript.read_text(encoding="utf-8").splitlines()
        return [json.loads(line).partition("] ")[2] or json.loads(line) for line in lines]


@pytest.fixture(autouse=True)
def _soon_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mosaic_hostagent.resetting.CALM_SECONDS", 0.2)


@pytest.fixture
def kicked(world: World, tmp_path: Path) -> Kicked:
    return Kicked(world, tmp_path)


async def test_it_is_told_at_a_launch_and_after_a_reset_and_not_to_a_later_host_agent(
    world: World, kicked: Kicked
) -> None:
    world.want(kicked.seat(), generation=1)
    world.start()
    await eventually(lambda: kicked.told() == ["You are a."], "it is told")
    world.want(kicked.seat(generation=2, reset=1), generation=2)
    await eventually(
        lambda: kicked.told() == ["You are a.", "/clear", "You are a."], f"it is told anew {kicked.told()}"
    )
    await world.restart()
    await world.mailroom.resume()
    world.want(kicked.seat(generation=2, reset=1), generation=2)
    world.start()
    await world.available("a")
    message = await world.send(kicked.seat(), "go on")
    assert (await world.ended(message))[-1] == "submitted"
    assert kicked.told() == ["You are a.", "/clear", "You are a.", "go on"]


async def test_it_comes_before_what_waits(world: World, kicked: Kicked) -> None:
    seat = kicked.seat()
    world.want(kicked.seat(running=False), generation=1)
    world.start()
    await world.reconciled(1)
    message = await world.send(seat, "work to do")
    world.want(kicked.seat(generation=2), generation=2)
    assert (await world.ended(message))[-1] == "submitted"
    assert kicked.told() == ["You are a.", "work to do"]


async def test_one_of_a_run_that_is_over_is_not_told_to_the_next(world: World, kicked: Kicked) -> None:
    with patch.object(world.mailroom, "_try", side_effect=AssertionError):
        world.want(kicked.seat(), generation=1)
        with patch.object(world.mailroom, "queue"):  # as if it could not be typed for as long as the run lasts
            world.start()
            first = (await world.available("a")).run_id
            (waiting,) = await world.journal.open_messages()
        world.want(kicked.seat(generation=2, restart=1), generation=2)
        world.mailroom.queue = lambda _message: None  # type: ignore[method-assign]
        await eventually(lambda: world.resident("a").run_id > first, "another run began")
    (other,) = await world.journal.open_messages()
    assert other.message.message_id != waiting.message.message_id
    steps = await world.steps(waiting.message.message_id)
    assert steps[-1] == Step.EXPIRED
