"""Presets: the six that ship, seat by seat, and a person's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.presets import PresetFloorBroken, floor_problem, list_presets, read_preset
from mosaic_framework.roles import read_contract

# name, class, runtime
LEAD = [("orchestrator", "orchestrator", "claude"), ("enhancer", "enhancer", "claude")]
TABLE = {
    "minimal": [("canary-pi", "canary", "pi")],
    "local-canary": [
        ("lead", "orchestrator", "claude"),
        ("enhancer", "enhancer", "claude"),
        ("coder0", "implementer", "codex"),
        ("reviewer0", "reviewer", "pi"),
    ],
    "general": [*LEAD, ("generalist", "worker", "pi")],
    "coding": [
        *LEAD,
        ("coder0", "implementer", "pi"),
        ("coder1", "implementer", "pi"),
        ("reviewer", "reviewer", "pi"),
    ],
    "research": [
        *LEAD,
        ("researcher0", "researcher", "pi"),
        ("researcher1", "researcher", "pi"),
        ("analyst", "analyst", "pi"),
    ],
    "hybrid": [
        *LEAD,
        ("coder0", "implementer", "pi"),
        ("researcher0", "researcher", "pi"),
        ("reviewer", "reviewer", "pi"),
    ],
}
KEPT = {"orchestrator", "enhancer"}
SHIPPED = Catalog(shipped_data())


def test_exactly_the_six_presets_ship_and_all_can_be_used() -> None:
    entries = list_presets(SHIPPED)
    assert [entry.id for entry in entries] == sorted(TABLE)
    assert {entry.id: entry.problem for entry in entries if entry.preset is None} == {}


@pytest.mark.parametrize("preset_id", TABLE)
def test_a_preset_has_the_seats_of_the_table(preset_id: str) -> None:
    roster = read_preset(SHIPPED, preset_id).roster
    assert [(agent.name, agent.class_, agent.runtime) for agent in roster.agents] == TABLE[preset_id]


@pytest.mark.parametrize("preset_id", TABLE)
def test_a_preset_has_its_own_socket_holder_and_folder(preset_id: str) -> None:
    roster = read_preset(SHIPPED, preset_id).roster
    assert (roster.tmux.socket_name, roster.tmux.holder_session) == ("mosaic-fleet", "_holder")
    assert roster.defaults.working_directory == ("~/src" if preset_id in ("minimal", "local-canary") else "~")


@pytest.mark.parametrize("preset_id", TABLE)
def test_orchestrator_and_enhancer_are_kept_and_workers_reset(preset_id: str) -> None:
    for agent in read_preset(SHIPPED, preset_id).roster.agents:
        kept = agent.class_ in KEPT
        assert (agent.persistent_persona, agent.reset_between_tasks) == (kept, not kept)
        assert agent.model_hint == ("openai-codex/gpt-5.5:high" if agent.runtime == "pi" else None)
        assert agent.unattended is False


@pytest.mark.parametrize("preset_id", TABLE)
def test_every_seat_of_a_preset_has_a_contract(preset_id: str) -> None:
    for agent in read_preset(SHIPPED, preset_id).roster.agents:
        assert read_contract(SHIPPED, agent.class_) is not None


@pytest.mark.parametrize("preset_id", TABLE)
def test_a_preset_keeps_the_floor_and_only_minimal_may_not(preset_id: str) -> None:
    roster = read_preset(SHIPPED, preset_id).roster
    assert set(roster.floor_classes()) == (set() if preset_id == "minimal" else KEPT)
    assert bool(floor_problem(agent.class_ for agent in roster.agents)) is (preset_id == "minimal")


@pytest.mark.parametrize("preset_id", TABLE)
def test_a_preset_says_in_one_line_what_it_is_for(preset_id: str) -> None:
    summary = read_preset(SHIPPED, preset_id).summary
    assert 20 <= len(summary) <= 118
    assert summary.endswith(".")


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["orchestrator", "enhancer"], ""),
        (["orchestrator", "enhancer", "enhancer", "code"], ""),
        (["enhancer"], "it has no orchestrator and must have one"),
        (["orchestrator", "orchestrator", "enhancer"], "it has 2 orchestrators and must have one"),
        (["orchestrator"], "it has no enhancer and must have at least one"),
        ([], "it has no orchestrator and must have one; it has no enhancer and must have at least one"),
    ],
)
def test_the_floor_is_one_orchestrator_and_an_enhancer(classes: list[str], expected: str) -> None:
    assert floor_problem(classes) == expected


def test_a_users_own_preset_is_listed_and_one_without_the_floor_refused(tmp_path: Path) -> None:
    (tmp_path / "presets.local").mkdir()
    text = (SHIPPED.folder("presets") / "general.yaml").read_text()
    (tmp_path / "presets.local" / "mine.yaml").write_text(text)
    (tmp_path / "presets.local" / "bare.yaml").write_text(text.replace("class: enhancer", "class: worker"))
    catalog = Catalog(shipped_data(), tmp_path)
    assert read_preset(catalog, "mine").own
    with pytest.raises(PresetFloorBroken) as caught:
        read_preset(catalog, "bare")
    assert caught.value.why == "it has no enhancer and must have at least one"
    assert {entry.id for entry in list_presets(catalog) if entry.preset is None} == {"bare"}
