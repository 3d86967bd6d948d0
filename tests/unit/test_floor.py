"""The floor: no change takes away the last seat of a class that the fleet keeps."""

from __future__ import annotations

from typing import Any

import pytest
from mosaic_framework.errors import Conflict, NotFound
from mosaic_framework.floor import FloorBroken, unstaffed, with_agent, without_agents
from mosaic_framework.roster_model import Agent, Roster

ALIASES = {"reviewer": "review"}


def canonical(name: str) -> str | None:
    return ALIASES.get(name)


def fleet(*classes: str, **fields: Any) -> Roster:
    agents = [Agent(name=f"{name}{number}", runtime="pi", class_=name) for number, name in enumerate(classes)]
    return Roster(version=1, transport="tmux", agents=agents, **fields)


def test_a_fleet_without_a_floor_of_its_own_keeps_orchestrator_and_enhancer() -> None:
    roster = fleet("orchestrator", "enhancer", "code")
    for name, class_name in (("orchestrator0", "orchestrator"), ("enhancer1", "enhancer")):
        with pytest.raises(FloorBroken) as caught:
            without_agents(roster, [name])
        assert caught.value.next_step == f"add another agent of class {class_name} first"
    assert [agent.name for agent in without_agents(roster, ["code2"]).agents] == ["orchestrator0", "enhancer1"]


def test_one_of_two_holders_can_go_and_both_together_cannot() -> None:
    roster = fleet("code", "code", "pi", floor=["code"])
    assert len(without_agents(roster, ["code0"]).agents) == 2
    with pytest.raises(FloorBroken) as caught:
        without_agents(roster, ["code0", "code1"])
    assert caught.value.what.startswith("code0 and code1 cannot be removed")


def test_a_seat_holds_the_floor_by_its_alias_too() -> None:
    roster = fleet("reviewer", "code", floor=["review"])
    assert unstaffed(roster, canonical) == []
    with pytest.raises(FloorBroken):
        without_agents(roster, ["reviewer0"], canonical)


def test_a_floor_that_was_broken_before_stops_no_removal() -> None:
    roster = fleet("code", "code")
    assert unstaffed(roster) == ["orchestrator", "enhancer"]
    assert len(without_agents(roster, ["code0"]).agents) == 1


def test_the_last_agent_of_all_stays() -> None:
    with pytest.raises(FloorBroken, match="last agent"):
        without_agents(fleet("code", floor=[]), ["code0"])


def test_an_agent_that_is_not_there_is_told_with_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        without_agents(fleet("code", "code"), ["code"])
    assert caught.value.why == "the nearest: code1, code0"


def test_a_fleet_gets_no_second_orchestrator() -> None:
    second = Agent(name="other", runtime="pi", class_="orchestrator")
    with pytest.raises(FloorBroken, match="has its orchestrator, orchestrator0"):
        with_agent(fleet("orchestrator", "enhancer"), second)
    assert len(with_agent(fleet("enhancer"), second).agents) == 2


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(Conflict, match="already an agent 'code0'"):
        with_agent(fleet("code"), Agent(name="code0", runtime="pi"))
