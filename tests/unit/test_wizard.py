"""The wizard's logic: what answers make of a preset, and what they may not make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.errors import NotFound
from mosaic_framework.presets import PresetFloorBroken, list_presets, read_preset
from mosaic_framework.roster_file import dump_roster_json, parse_roster
from mosaic_framework.wizard import (
    CONNECTORS,
    AnswerInvalid,
    Answers,
    compose,
    connector_fields,
    next_steps,
    runtime_choices,
    says_same,
)

SHIPPED = Catalog(shipped_data())
NONE_HERE: dict[str, str | None] = {"claude": None, "codex": None, "opencode": None, "pi": None, "shell": "/bin/sh"}


@pytest.mark.parametrize("preset_id", [entry.id for entry in list_presets(SHIPPED)])
def test_with_nothing_answered_the_roster_is_the_presets(preset_id: str) -> None:
    preset = read_preset(SHIPPED, preset_id)
    made = compose(preset, Answers(preset_id), SHIPPED, source="roster.yaml")
    assert dump_roster_json(made.roster) == dump_roster_json(preset.roster)
    assert made.text.startswith(f"# Made by `mosaic fleet init` from the preset {preset_id}: ")
    again = parse_roster(made.text, source="roster.yaml", catalog=SHIPPED).roster
    assert again == made.roster


def test_a_seats_name_wins_over_its_class_its_runtime_and_all_seats() -> None:
    preset = read_preset(SHIPPED, "coding")
    runtimes = {"*": "opencode", "pi": "claude", "implementer": "codex", "coder1": "shell"}
    made = compose(preset, Answers("coding", runtimes), SHIPPED, source="roster.yaml").roster
    assert {agent.name: agent.runtime for agent in made.agents} == {
        "orchestrator": "opencode",
        "enhancer": "opencode",
        "coder0": "codex",
        "coder1": "shell",
        "reviewer": "claude",
    }


def test_a_model_is_forgotten_with_the_runtime_whose_model_it_is() -> None:
    preset = read_preset(SHIPPED, "coding")
    made = compose(preset, Answers("coding", {"coder0": "codex"}), SHIPPED, source="roster.yaml").roster
    models = {agent.name: agent.model_hint for agent in made.agents}
    assert models["coder0"] is None
    assert models["coder1"] == "openai-codex/gpt-5.5:high"


def test_only_runtimes_in_use_keep_a_reset_command_and_new_ones_get_their_own() -> None:
    preset = read_preset(SHIPPED, "general")
    made = compose(preset, Answers("general", {"pi": "codex"}), SHIPPED, source="roster.yaml").roster
    assert {name: one.reset_command for name, one in made.runtimes.items()} == {"claude": "/clear", "codex": "/clear"}


def test_unattended_connector_folder_and_tenant_reach_the_roster() -> None:
    connector = {"kind": "matrix", "homeserver_url": "https://m.example", "user_id": "@f:m", "room_id": "!r:m"}
    answers = Answers("general", {}, True, connector, "/srv/src", "team")
    made = compose(read_preset(SHIPPED, "general"), answers, SHIPPED, source="roster.yaml").roster
    assert all(agent.unattended for agent in made.agents)
    assert made.connector is not None
    assert made.connector.matrix is not None
    assert made.connector.matrix.room_id == "!r:m"
    assert made.defaults.working_directory == "/srv/src"
    assert made.tenant == "team"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (Answers("general", {"pie": "claude"}), "the nearest is pi"),
        (Answers("general", connector={"kind": "discrod"}), "the nearest is discord"),
        (Answers("general", connector={"kind": "discord", "channel": "1"}), "the nearest is channel_id"),
        (Answers("general", connector={"kind": "tmux", "room": "1"}), "it has: none"),
        (Answers("general", working_directory="src"), "working_directory: must start with '/' or '~'"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_with_the_nearest(answers: Answers, told: str) -> None:
    with pytest.raises(AnswerInvalid) as caught:
        compose(read_preset(SHIPPED, "general"), answers, SHIPPED, source="roster.yaml")
    assert told in caught.value.why


def test_a_runtime_that_there_is_not_is_not_found_with_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        compose(read_preset(SHIPPED, "general"), Answers("general", {"pi": "cluade"}), SHIPPED, source="roster.yaml")
    assert "claude" in caught.value.why


def test_a_connector_that_lacks_a_field_names_the_flags_that_give_it() -> None:
    answers = Answers("general", connector={"kind": "matrix", "user_id": "@f:m"})
    with pytest.raises(AnswerInvalid) as caught:
        compose(read_preset(SHIPPED, "general"), answers, SHIPPED, source="roster.yaml")
    assert caught.value.next_step == "--connector-field homeserver_url=… --connector-field room_id=…"


def test_a_token_among_the_answers_is_refused_and_not_repeated() -> None:
    token = "xoxb-" + "1234567890-abcdefghij"
    answers = Answers("general", connector={"kind": "slack", "channel_id": token})
    with pytest.raises(AnswerInvalid) as caught:
        compose(read_preset(SHIPPED, "general"), answers, SHIPPED, source="roster.yaml")
    assert "SLACK_BOT_TOKEN" in caught.value.why
    assert token not in f"{caught.value.what}{caught.value.why}{caught.value.next_step}"


def test_the_wizard_fails_hard_where_the_floor_would_be_broken(tmp_path: Path) -> None:
    (tmp_path / "presets.local").mkdir()
    text = (SHIPPED.folder("presets") / "general.yaml").read_text()
    (tmp_path / "presets.local" / "two.yaml").write_text(text.replace("class: worker", "class: orchestrator"))
    catalog = Catalog(shipped_data(), tmp_path)
    with pytest.raises(PresetFloorBroken, match="two"):
        read_preset(catalog, "two")


def test_every_connector_is_explained_and_knows_its_fields() -> None:
    assert {kind: connector_fields(kind) for kind in CONNECTORS} == {
        "tmux": (),
        "discord": ("channel_id",),
        "matrix": ("homeserver_url", "user_id", "room_id"),
        "telegram": ("chat_id",),
        "slack": ("channel_id",),
    }


def test_what_is_installed_stands_in_for_what_is_not() -> None:
    preset = read_preset(SHIPPED, "coding")
    found = NONE_HERE | {"codex": "/usr/bin/codex", "opencode": "/usr/bin/opencode"}
    choices = {choice.name: choice for choice in runtime_choices(preset, found, SHIPPED)}
    assert choices["pi"].suggested == "codex"
    assert choices["pi"].seats == ("coder0", "coder1", "reviewer")
    assert choices["claude"].found is None


def test_nothing_installed_leaves_the_preset_as_it_is_and_tells_what_to_install() -> None:
    preset = read_preset(SHIPPED, "general")
    assert [choice.suggested for choice in runtime_choices(preset, NONE_HERE, SHIPPED)] == ["claude", "pi"]
    steps = next_steps(preset.roster, NONE_HERE, SHIPPED)
    assert steps[:2] == ["npm install -g @anthropic-ai/claude-code", "npm install -g @mariozechner/pi-coding-agent"]
    assert steps[2:] == ["mosaic up", "mosaic fleet apply", "mosaic fleet ps"]


def test_a_connectors_token_is_among_the_next_steps() -> None:
    answers = Answers("minimal", connector={"kind": "telegram", "chat_id": "42"})
    made = compose(read_preset(SHIPPED, "minimal"), answers, SHIPPED, source="roster.yaml").roster
    steps = next_steps(made, {"pi": "/usr/bin/pi"}, SHIPPED, path="/srv/roster.yaml")
    assert steps[0] == "export TELEGRAM_BOT_TOKEN=…"
    assert "mosaic fleet apply --roster /srv/roster.yaml" in steps


def test_a_roster_in_json_is_written_as_json() -> None:
    made = compose(read_preset(SHIPPED, "general"), Answers("general"), SHIPPED, source="roster.json")
    assert json.loads(made.text)["agents"][0]["name"] == "orchestrator"


def test_a_file_with_comments_and_another_order_says_the_same() -> None:
    made = compose(read_preset(SHIPPED, "minimal"), Answers("minimal"), SHIPPED, source="r.yaml")
    lines = made.text.splitlines()
    moved = "\n".join(["# mine", *[line for line in lines if line != "transport: tmux"], "transport: tmux"])
    assert says_same(moved.encode(), made.roster, source="r.yaml", catalog=SHIPPED)
    assert not says_same(moved.replace("canary-pi", "other").encode(), made.roster, source="r.yaml", catalog=SHIPPED)
    assert not says_same(b"\xff", made.roster, source="r.yaml", catalog=SHIPPED)
