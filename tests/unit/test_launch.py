"""The launch of a seat: an argument vector and an environment, for every runtime and for a command of one's own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest
from mosaic_framework.runtimes import ARGUMENT_LIMIT, LaunchImpossible, launch_vector, read_manifest

HOSTILE = 'a "b" \\ $(id) `id`; rm -rf / {text} {file} ünï 😀\n\tnext'


def manifest(name: str) -> Manifest:
    return read_manifest(Catalog(Catalog.open().shipped), name)


def launch(name: str, **fields: Any) -> tuple[list[str], dict[str, str]]:
    return launch_vector(manifest(name), environment={"PATH": "/usr/bin", "SHELL": "/bin/bash"}, **fields)


@pytest.mark.parametrize(
    ("name", "vector"),
    [
        ("claude", ["claude", "--model", "m", "--dangerously-skip-permissions", "--append-system-prompt", "Do.", "-x"]),
        (
            "codex",
            [
                "codex",
                "-m",
                "m",
                "--dangerously-bypass-approvals-and-sandbox",
                "-c",
                'developer_instructions="Do."',
                "-x",
            ],
        ),
        ("pi", ["pi", "--model", "m", "--append-system-prompt", "Do.", "-x"]),
        ("opencode", ["opencode", "-m", "m", "--auto", "-x"]),
        ("shell", ["/bin/bash", "-x"]),
    ],
)
def test_model_consent_contract_and_arguments_go_in_as_each_program_takes_them(name: str, vector: list[str]) -> None:
    fields = {"model": "m", "unattended": True, "contract": "Do.", "contract_file": Path("/c.md"), "args": ["-x"]}
    assert launch(name, **fields)[0] == vector


def test_a_seat_that_is_attended_gets_no_flag_that_skips_questions() -> None:
    for name in ("claude", "codex", "pi", "opencode", "shell"):
        vector, env = launch(name)
        assert len(vector) == 1
        assert "IS_SANDBOX" not in env


def test_claude_as_root_is_told_that_it_is_in_a_sandbox_only_when_unattended() -> None:
    assert launch("claude", unattended=True, as_root=True)[1]["IS_SANDBOX"] == "1"
    assert "IS_SANDBOX" not in launch("claude", unattended=True)[1]
    assert "IS_SANDBOX" not in launch("claude", as_root=True)[1]


def test_claude_is_held_to_its_context_unless_the_seat_says_otherwise() -> None:
    assert launch("claude")[1]["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] == "200000"
    own = {"CLAUDE_CODE_AUTO_COMPACT_WINDOW": "100000"}
    assert launch("claude", env=own)[1]["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] == "100000"


def test_no_text_of_a_contract_is_read_as_anything_but_text() -> None:
    assert launch("claude", contract=HOSTILE)[0][-1] == HOSTILE
    assert launch("pi", contract=HOSTILE)[0][-1] == HOSTILE
    assert tomllib.loads(launch("codex", contract=HOSTILE)[0][-1])["developer_instructions"] == HOSTILE
    path = Path('/home/a "b"/{file}/contract.md')
    env = launch("opencode", contract="x", contract_file=path)[1]
    assert json.loads(env["OPENCODE_CONFIG_CONTENT"]) == {"instructions": [str(path)]}


def test_a_command_replaces_program_and_arguments() -> None:
    vector, env = launch("claude", command=["/opt/echo", "--x"], model="m", unattended=True, contract="x", args=["-y"])
    assert vector == ["/opt/echo", "--x"]
    assert env == manifest("claude").env


def test_a_program_outside_of_path_brings_its_folder_along() -> None:
    vector, env = launch("codex", program="/home/u/.nvm/versions/node/v20/bin/codex")
    assert vector == ["/home/u/.nvm/versions/node/v20/bin/codex"]
    assert env["PATH"] == "/home/u/.nvm/versions/node/v20/bin:/usr/bin"
    assert "PATH" not in launch("codex", program="/usr/bin/codex")[1]


@pytest.mark.parametrize(
    "fields",
    [
        {"command": [""]},
        {"args": ["a\0b"]},
        {"env": {"A": "\0"}},
        {"contract": "x" * ARGUMENT_LIMIT},
    ],
)
def test_what_no_system_can_start_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(LaunchImpossible):
        launch("pi", **fields)


def test_a_runtime_that_reads_its_contract_from_a_file_needs_one() -> None:
    with pytest.raises(LaunchImpossible, match="from a file"):
        launch("opencode", contract="x")
