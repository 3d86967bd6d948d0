"""Promises of `mosaic fleet init` and `mosaic fleet provision`."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.paths import Home
from mosaic_framework.roster_file import load_roster
from mosaic_framework.wizard import CONNECTORS

from tests.support.cli import Mosaic
from tests.support.terminal import on_a_terminal

SHIPPED = Catalog(shipped_data())
RUNTIMES = ("claude", "codex", "opencode", "pi")


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found, beside those of the system itself; it has codex and no other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("mosaic_framework.programs._PLACES", ())
    install(folder, "codex")
    return folder


def install(folder: Path, program: str) -> None:
    (folder / program).write_text("#!/bin/sh\n")
    (folder / program).chmod(0o755)


def roster(home: Home) -> Path:
    return home.fleet / "roster.yaml"


def test_questions_on_a_terminal_and_flags_give_the_same_roster(
    home: Home, mosaic: Mosaic, bin_folder: Path, tmp_path: Path
) -> None:
    for program in RUNTIMES:  # all are there, wherever else this machine may have them
        install(bin_folder, program)
    asked = Home(tmp_path / "asked")
    answers = [
        ("name or number [general]", "coding"),
        ("name or number [claude]", "claud"),
        ("the nearest is claude", ""),
        ("name or number [pi]", "codex"),
        ("act unattended? [y/N]", "y"),
        ("name or number [tmux]", "matrix"),
        ("matrix homeserver url:", ""),
        ("matrix homeserver url:", "https://matrix.example"),
        ("matrix user id:", "@fleet:example"),
        ("matrix room id:", "!room:example"),
        ("working directory [~]", "~/work"),
        (f"Write {asked.fleet / 'roster.yaml'}? [Y/n]", ""),
    ]
    environment = {"MOSAIC_HOME": str(asked.root), "TERM": "dumb", "NO_COLOR": "1"}
    code, shown = on_a_terminal(["fleet", "init"], answers, environment=environment, cwd=tmp_path)
    assert code == 0, shown
    flags = ["--preset", "coding", "--runtime", "pi=codex", "--unattended", "--connector", "matrix"]
    flags += ["--connector-field", "homeserver_url=https://matrix.example", "--working-directory", "~/work"]
    flags += ["--connector-field", "user_id=@fleet:example", "--connector-field", "room_id=!room:example"]
    done = mosaic("fleet", "init", *flags)
    assert done.code == 0, done.err
    assert roster(asked).read_bytes() == roster(home).read_bytes()
    for explanation in CONNECTORS.values():
        assert explanation in shown
    assert str(bin_folder / "claude") in shown
    assert "mosaic fleet apply" in shown
    assert "export MATRIX_ACCESS_TOKEN=" in shown


def test_enter_alone_takes_what_flags_take_by_default(
    home: Home, mosaic: Mosaic, bin_folder: Path, tmp_path: Path
) -> None:
    for program in RUNTIMES:
        install(bin_folder, program)
    asked = Home(tmp_path / "asked")
    questions = ["[general]", "[claude]", "[pi]", "[y/N]", "[tmux]", "[~]", "[Y/n]"]
    environment = {"MOSAIC_HOME": str(asked.root), "TERM": "dumb"}
    code, shown = on_a_terminal(
        ["fleet", "init"], [(one, "") for one in questions], environment=environment, cwd=tmp_path
    )
    assert code == 0, shown
    assert mosaic("fleet", "init").code == 0
    assert roster(asked).read_bytes() == roster(home).read_bytes()


def test_a_no_at_the_end_writes_nothing(home: Home, bin_folder: Path, tmp_path: Path) -> None:
    flags = ["--preset", "minimal", "--runtime", "codex", "--attended", "--connector", "tmux"]
    flags += ["--working-directory", "~"]
    environment = {"MOSAIC_HOME": str(home.root), "TERM": "dumb"}
    code, shown = on_a_terminal(["fleet", "init", *flags], [("[Y/n]", "n")], environment=environment, cwd=tmp_path)
    assert code == 1, shown
    assert not roster(home).exists()


def test_what_is_installed_takes_the_seats_of_what_is_not_and_that_is_told(
    home: Home, mosaic: Mosaic, bin_folder: Path
) -> None:
    done = mosaic("fleet", "init", "--preset", "general", "-o", "json")
    assert done.code == 0, done.err
    assert {agent["runtime"] for agent in done.json["agents"]} == {"codex"}
    assert "pi is not found here: codex runs generalist; to keep it: --runtime pi=pi" in done.err
    assert not any("npm install" in step for step in done.json["next"])
    kept = mosaic("fleet", "init", "--preset", "general", "--runtime", "pi=pi", "--yes", "-o", "json").json
    assert [agent["runtime"] for agent in kept["agents"]] == ["claude", "claude", "pi"]
    assert kept["next"][0] == "npm install -g @anthropic-ai/claude-code"


def test_the_same_answers_again_change_nothing_and_say_so(home: Home, mosaic: Mosaic, bin_folder: Path) -> None:
    assert mosaic("fleet", "init", "--preset", "coding").code == 0
    before = roster(home).stat()
    done = mosaic("fleet", "init", "--preset", "coding")
    assert done.code == 0
    assert "as it was; nothing to do" in done.out
    assert roster(home).stat().st_mtime_ns == before.st_mtime_ns
    assert sorted(path.name for path in home.fleet.iterdir()) == ["roster.yaml", "schema"]


def test_other_answers_show_the_difference_and_off_a_terminal_need_yes(
    home: Home, mosaic: Mosaic, bin_folder: Path
) -> None:
    assert mosaic("fleet", "init", "--preset", "general").code == 0
    before = roster(home).read_text()
    done = mosaic("fleet", "init", "--preset", "coding")
    assert done.code == 2
    assert "+  - name: coder0" in done.err
    assert roster(home).read_text() == before
    done = mosaic("fleet", "init", "--preset", "coding", "--yes", "-o", "json")
    assert done.code == 0, done.err
    assert Path(done.json["backup"]).read_text() == before


def test_a_hand_edited_roster_is_kept_unless_forced_and_then_kept_as_a_backup(
    home: Home, mosaic: Mosaic, bin_folder: Path
) -> None:
    assert mosaic("fleet", "init", "--preset", "general").code == 0
    edited = roster(home).read_text().replace("model_hint", "# model_hint") + "    alias: Ada\n"
    roster(home).write_text(edited)
    done = mosaic("fleet", "init", "--preset", "coding", "--yes")
    assert done.code == 6
    assert "--force" in done.err
    assert roster(home).read_text() == edited
    done = mosaic("fleet", "init", "--preset", "coding", "--force", "-o", "json")
    assert done.code == 0, done.err
    assert Path(done.json["backup"]).read_text() == edited


def test_comments_alone_are_no_reason_to_write_again(home: Home, mosaic: Mosaic, bin_folder: Path) -> None:
    assert mosaic("fleet", "init", "--preset", "general").code == 0
    commented = roster(home).read_text() + "# a note of mine\n"
    roster(home).write_text(commented)
    assert mosaic("fleet", "init", "--preset", "general").code == 0
    assert roster(home).read_text() == commented


def test_a_dry_run_shows_the_roster_and_writes_nothing(home: Home, mosaic: Mosaic, bin_folder: Path) -> None:
    done = mosaic("fleet", "init", "--dry-run")
    assert done.code == 0
    assert "+  - name: orchestrator" in done.err
    assert "would be written" in done.out
    assert not home.fleet.exists()


def test_a_roster_somewhere_else_is_written_there_and_named_in_what_comes_next(
    home: Home, mosaic: Mosaic, bin_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "project" / "roster.yaml"
    done = mosaic("fleet", "init", "--roster", str(path), "-o", "json")
    assert f"mosaic fleet apply --roster {path}" in done.json["next"]
    assert load_roster(path, catalog=SHIPPED).roster.agents
    assert not home.fleet.exists()


def test_the_schema_that_the_roster_names_for_editors_lies_beside_it(
    home: Home, mosaic: Mosaic, bin_folder: Path
) -> None:
    assert mosaic("fleet", "init").code == 0
    named = roster(home).read_text().splitlines()[0].rpartition("$schema=")[2]
    assert (home.fleet / named).read_bytes() == (shipped_data() / "schema" / "roster.schema.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--preset", "codng"], 3, "the nearest: coding"),
        (["--runtime", "pi=codx"], 3, "codex"),
        (["--runtime", "pi=codex", "--runtime", "pi=pi"], 2, "says twice"),
        (["--connector", "matrix"], 1, "--connector-field homeserver_url=…"),
        (["--connector-field", "room"], 2, "say NAME=VALUE"),
        (["--working-directory", "here"], 1, "must start with"),
    ],
)
def test_a_wrong_flag_is_told_and_writes_nothing(
    home: Home, mosaic: Mosaic, bin_folder: Path, arguments: list[str], code: int, told: str
) -> None:
    done = mosaic("fleet", "init", *arguments)
    assert done.code == code
    assert told in done.err
    assert not home.fleet.exists()


def test_a_preset_without_the_floor_makes_no_fleet(home: Home, mosaic: Mosaic, bin_folder: Path) -> None:
    folder = home.fleet / "presets.local"
    folder.mkdir(parents=True)
    text = (shipped_data() / "presets" / "general.yaml").read_text()
    (folder / "bare.yaml").write_text(text.replace("class: enhancer", "class: worker"))
    done = mosaic("fleet", "init", "--preset", "bare")
    assert done.code == 1
    assert "must have at least one" in done.err
    assert not roster(home).exists()


def test_provisioning_shows_a_roster_and_its_topology_and_writes_nothing(
    home: Home, mosaic: Mosaic, bin_folder: Path, tmp_path: Path
) -> None:
    done = mosaic("fleet", "provision", "--profile", "software-delivery", "--full")
    assert done.code == 0, done.err
    assert not home.fleet.exists()
    assert "#   │   └── decomposition · claude" in done.out
    copy = tmp_path / "copy.yaml"
    copy.write_text(done.out)
    agents = load_roster(copy, catalog=SHIPPED).roster.agents
    assert len(agents) == 15
    assert [agent.name for agent in agents[4:6]] == ["code0", "code1"]


def test_provisioning_takes_the_floor_alone_unless_asked_for_all(home: Home, mosaic: Mosaic, bin_folder: Path) -> None:
    made = mosaic("fleet", "provision", "--profile", "software-delivery", "-o", "json").json
    assert [agent["name"] for agent in made["roster"]["agents"]] == ["orchestrator", "enhancer"]


def test_provisioning_writes_when_told_and_replaces_by_force_alone(
    home: Home, mosaic: Mosaic, bin_folder: Path
) -> None:
    assert mosaic("fleet", "provision", "--profile", "research", "--write").code == 0
    first = roster(home).read_text()
    assert mosaic("fleet", "provision", "--profile", "research", "--write").code == 0
    assert roster(home).read_text() == first
    done = mosaic("fleet", "provision", "--profile", "marketing", "--write")
    assert done.code == 6
    assert roster(home).read_text() == first
    done = mosaic("fleet", "provision", "--profile", "marketing", "--write", "--force", "-o", "json")
    assert done.code == 0, done.err
    assert Path(done.json["backup"]).read_text() == first


def test_what_provisioning_says_to_run_writes_just_what_it_showed(
    home: Home, mosaic: Mosaic, bin_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a roster.yaml"
    flags = ["--full", "--unattended", "--runtime", "codex", "--runtime", "review=opencode:a/b", "--roster", str(path)]
    shown = mosaic("fleet", "provision", "--profile", "research", *flags)
    told = next(line for line in shown.err.splitlines() if line.startswith("nothing was written"))
    done = mosaic(*shlex.split(told.partition(": mosaic ")[2]))
    assert done.code == 0, done.err
    assert path.read_text() in shown.out
    assert not roster(home).exists()


def test_a_class_runs_on_what_the_policy_file_and_then_the_command_line_say(
    home: Home, mosaic: Mosaic, bin_folder: Path
) -> None:
    home.fleet.mkdir(parents=True)
    (home.fleet / "runtime-policy.yaml").write_text(
        "default: {runtime: codex}\nclasses:\n  code: {runtime: pi, model_hint: openai-codex/gpt-5.5:high}\n"
    )
    flags = ["--profile", "software-delivery", "--full", "--runtime", "review=opencode:a/b:c", "-o", "json"]
    agents = mosaic("fleet", "provision", *flags).json["roster"]["agents"]
    by_name = {agent["name"]: (agent["runtime"], agent.get("model_hint")) for agent in agents}
    assert by_name["orchestrator"] == ("codex", None)
    assert by_name["code1"] == ("pi", "openai-codex/gpt-5.5:high")
    assert by_name["review"] == ("opencode", "a/b:c")
    (home.fleet / "runtime-policy.yaml").write_text("defualt: {runtime: codex}\n")
    done = mosaic("fleet", "provision", *flags)
    assert done.code == 1
    assert "nearest: default" in done.err


def test_a_seat_whose_contract_cannot_be_read_stops_provisioning(home: Home, mosaic: Mosaic, bin_folder: Path) -> None:
    folder = home.fleet / "roles.local"
    folder.mkdir(parents=True)
    (folder / "ceo.md").write_text("no front matter\n")
    done = mosaic("fleet", "provision", "--profile", "business", "--write")
    assert done.code == 1
    assert "ceo" in done.err
    assert not roster(home).exists()
