"""The launch of a seat: an argument vector and an environment, for every runtime and for a command of one's own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.launch import (
    ARGUMENT_LIMIT,
    Circumstances,
    LaunchImpossible,
    Wish,
    launch_vector,
    session_files,
)
from mosaic_framework.manifest import Manifest
from mosaic_framework.marks import fill, merge
from mosaic_framework.runtimes import read_manifest

HOSTILE = 'a "b" \\ $(id) `id`; rm -rf / {text} {file} {folder} ünï 😀\n\tnext'
FOLDER = Path('/w o/"q" {session};$(id)/ü')
PLACE = Circumstances(folder=FOLDER, session=Path("/s"))
SETTINGS = ["--settings", "/s/claude-settings.json"]
NO_UPDATE = ["-c", "check_for_update_on_startup=false", "-c", "analytics={enabled=false}"]


def manifest(name: str) -> Manifest:
    return read_manifest(Catalog(Catalog.open().shipped), name)


def launch(name: str, *, place: Circumstances = PLACE, **fields: Any) -> tuple[list[str], dict[str, str]]:
    own = {key: fields.pop(key) for key in ("program", "seed", "seed_file") if key in fields}
    return launch_vector(manifest(name), Wish(**fields), place, **own)


def trust(folder: Path) -> str:
    return f'projects={{{json.dumps(str(folder), ensure_ascii=False)}={{trust_level="trusted"}}}}'


@pytest.mark.parametrize(
    ("name", "vector"),
    [
        (
            "claude",
            [
                *("claude", *SETTINGS, "--model", "m", "--dangerously-skip-permissions"),
                *("--append-system-prompt", "Do.", "-x"),
            ],
        ),
        (
            "codex",
            [
                *("codex", *NO_UPDATE, "-m", "m", "--dangerously-bypass-approvals-and-sandbox", "-c", trust(FOLDER)),
                *("-c", 'developer_instructions="Do."', "-x"),
            ],
        ),
        ("pi", ["pi", "--model", "m", "--append-system-prompt", "Do.", "-x"]),
        ("opencode", ["opencode", "-m", "m", "--auto", "-x"]),
        ("shell", ["/bin/bash", "-x"]),
    ],
)
def test_model_consent_contract_and_arguments_go_in_as_each_program_takes_them(name: str, vector: list[str]) -> None:
    fields = {"model": "m", "unattended": True, "seed": "Do.", "seed_file": Path("/c.md"), "args": ["-x"]}
    assert launch(name, program="/bin/bash" if name == "shell" else "", **fields)[0] == vector


def test_a_seat_that_is_attended_gets_nothing_that_skips_questions() -> None:
    for name in ("claude", "codex", "pi", "opencode", "shell"):
        vector, env = launch(name, place=Circumstances(FOLDER, Path("/s"), as_root=True, at_home=True))
        assert not any("dangerous" in one or "trust" in one or one == "--auto" for one in vector)
        assert not {"IS_SANDBOX", "CLAUDE_CODE_SANDBOXED"} & env.keys()
        assert "skipDangerousModePermissionPrompt" not in json.dumps(session_files(manifest(name), Wish(), PLACE))


def test_claude_as_root_is_told_that_it_is_in_a_sandbox_only_when_unattended() -> None:
    root = Circumstances(FOLDER, Path("/s"), as_root=True)
    assert launch("claude", unattended=True, place=root)[1]["IS_SANDBOX"] == "1"
    assert "IS_SANDBOX" not in launch("claude", unattended=True)[1]
    assert "IS_SANDBOX" not in launch("claude", place=root)[1]


def test_trust_in_a_home_is_given_for_the_session_alone() -> None:
    home = Circumstances(FOLDER, Path("/s"), at_home=True)
    assert launch("claude", unattended=True, place=home)[1]["CLAUDE_CODE_SANDBOXED"] == "1"
    assert "CLAUDE_CODE_SANDBOXED" not in launch("claude", unattended=True)[1]


def test_codex_trusts_exactly_the_seats_folder_whatever_is_in_its_name() -> None:
    argument = next(one for one in launch("codex", unattended=True)[0] if one.startswith("projects="))
    assert tomllib.loads(argument) == {"projects": {str(FOLDER): {"trust_level": "trusted"}}}


def test_claude_is_held_to_its_context_unless_the_seat_says_otherwise() -> None:
    assert launch("claude")[1]["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] == "200000"
    own = {"CLAUDE_CODE_AUTO_COMPACT_WINDOW": "100000"}
    assert launch("claude", env=own)[1]["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] == "100000"
    files = session_files(manifest("claude"), Wish(), PLACE)
    assert files == {"claude-settings.json": {"autoCompactEnabled": True, "autoCompactWindow": 200_000}}


def test_what_an_unattended_session_settles_is_added_to_its_file() -> None:
    files = session_files(manifest("claude"), Wish(unattended=True), PLACE)
    assert files["claude-settings.json"] == {
        "autoCompactEnabled": True,
        "autoCompactWindow": 200_000,
        "skipDangerousModePermissionPrompt": True,
    }


def test_no_text_of_a_contract_is_read_as_anything_but_text() -> None:
    assert launch("claude", seed=HOSTILE)[0][-1] == HOSTILE
    assert launch("pi", seed=HOSTILE)[0][-1] == HOSTILE
    assert tomllib.loads(launch("codex", seed=HOSTILE)[0][-1])["developer_instructions"] == HOSTILE
    path = Path('/home/a "b"/{file}/seed.md')
    env = launch("opencode", seed="x", seed_file=path)[1]
    assert json.loads(env["OPENCODE_CONFIG_CONTENT"])["instructions"] == [str(path)]


@pytest.mark.parametrize(
    ("name", "option"), [("claude", "--append-system-prompt-file"), ("pi", "--append-system-prompt")]
)
def test_a_contract_too_long_for_an_argument_goes_by_its_file_where_the_program_can(name: str, option: str) -> None:
    vector, _ = launch(name, seed="x" * ARGUMENT_LIMIT, seed_file=Path("/seed.md"))
    assert vector[-2:] == [option, "/seed.md"]


def test_a_contract_too_long_for_a_program_that_reads_none_from_a_file_is_refused() -> None:
    with pytest.raises(LaunchImpossible, match="bytes in one piece") as caught:
        launch("codex", seed="x" * ARGUMENT_LIMIT, seed_file=Path("/seed.md"))
    assert "--contract" in caught.value.next_step


def test_a_variable_that_carries_the_contract_and_that_the_roster_sets_has_both() -> None:
    own = {"OPENCODE_CONFIG_CONTENT": '{"model":"m","instructions":["mine.md"]}'}
    env = launch("opencode", seed="x", seed_file=Path("/seed.md"), env=own)[1]
    found = json.loads(env["OPENCODE_CONFIG_CONTENT"])
    assert (found["model"], found["instructions"]) == ("m", ["mine.md", "/seed.md"])
    with pytest.raises(LaunchImpossible, match="carries its contract"):
        launch("opencode", seed="x", seed_file=Path("/seed.md"), env={"OPENCODE_CONFIG_CONTENT": "no json"})


def test_a_command_replaces_program_and_arguments_and_keeps_the_runtimes_environment() -> None:
    vector, env = launch("claude", command=["/opt/echo", "--x"], model="m", seed="x", args=["-y"])
    assert vector == ["/opt/echo", "--x"]
    assert env == manifest("claude").env
    env = launch("opencode", command=["wrapper"], seed="x", seed_file=Path("/seed.md"))[1]
    assert "/seed.md" in env["OPENCODE_CONFIG_CONTENT"]


@pytest.mark.parametrize("fields", [{"command": [""]}, {"args": ["a\0b"]}, {"env": {"A": "\0"}}])
def test_what_no_system_can_start_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(LaunchImpossible):
        launch("pi", **fields)


def test_a_runtime_that_reads_its_contract_from_a_file_needs_one() -> None:
    with pytest.raises(LaunchImpossible, match="from a file"):
        launch("opencode", seed="x")


def test_a_mark_inside_of_what_is_put_in_stays_as_it_is() -> None:
    assert fill("{a} {b} {c}", {"a": "{b}", "b": "{a}"}) == "{b} {a} {c}"


def test_json_values_are_joined_key_by_key_and_the_upper_one_wins() -> None:
    below, above = {"a": 1, "b": {"c": [1]}}, {"a": 2, "b": {"c": [1, 2], "d": 3}}
    assert merge(below, above) == {"a": 2, "b": {"c": [1, 2], "d": 3}}
