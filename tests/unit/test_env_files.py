"""An agent's env file: what the site wrote stays as it stands, what is ours is refreshed, and all of it reads back."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mosaic_framework.catalog import Catalog
from mosaic_framework.env_files import OURS, EnvFileInvalid, EnvLine, new_env_file, parse_env_file, quoted
from mosaic_framework.errors import InvalidInput
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_framework.programs import RuntimeNotInstalled
from mosaic_framework.runtimes import read_manifest
from mosaic_framework.seat_environment import (
    env_file_path,
    find_for_seat,
    forget_env_file,
    read_env_file,
    record_programs,
    write_env_file,
)
from mosaic_hostagent.tidying import tidy

SITE = """\
# The key of the research account.
ANTHROPIC_API_KEY=sk-ant-1234 # not a comment
  export HTTPS_PROXY="http://proxy:3128"

QUOTED='a "b" $c'
"""

values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
names = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: not name.startswith(OURS))
own = st.dictionaries(names.map(lambda name: OURS + name), values, max_size=4)
comments = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=30).map(lambda text: f"#{text}")
site_lines = st.lists(
    st.one_of(comments, st.just(""), st.tuples(names, values).map(lambda p: f"{p[0]}={quoted(p[1])}"))
)


@settings(deadline=None)
@given(values)
def test_every_value_reads_back(value: str) -> None:
    (line,) = parse_env_file(f"A={quoted(value)}\n", source="x").lines
    assert (line.name, line.value) == ("A", value)


@settings(deadline=None)
@given(site_lines, own, own)
def test_refreshing_keeps_every_line_of_the_site_and_has_exactly_the_new_variables_of_ours(
    lines: list[str], before: dict[str, str], after: dict[str, str]
) -> None:
    text = "".join(f"{line}\n" for line in lines)
    file = parse_env_file(text, source="x").refreshed(before)
    again = parse_env_file(file.text, source="x")
    assert again == file
    refreshed = parse_env_file(again.refreshed(after).text, source="x")
    assert refreshed.generated == after
    assert [line.text for line in refreshed.lines if not line.name.startswith(OURS)] == lines
    assert refreshed.site == parse_env_file(text, source="x").site
    assert refreshed.refreshed(after) == refreshed


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_as_no_env_file(text: str) -> None:
    try:
        file = parse_env_file(text, source="x")
    except EnvFileInvalid:
        return
    assert parse_env_file(file.text, source="x") == file


def test_the_format_is_the_one_that_is_documented() -> None:
    found = parse_env_file(SITE, source="x").site
    assert found == {
        "ANTHROPIC_API_KEY": "sk-ant-1234 # not a comment",
        "HTTPS_PROXY": "http://proxy:3128",
        "QUOTED": 'a "b" $c',
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no sign", "must be NAME=value"),
        ("1A=x", "must be NAME=value"),
        ('A="x', "double quote"),
        ("A='x' y", "single quote"),
        (r'A="\q"', r"\q in double quotes"),
        ("A=\0", "NUL"),
    ],
)
def test_a_line_that_means_nothing_is_refused_with_its_number(line: str, told: str) -> None:
    with pytest.raises(EnvFileInvalid) as caught:
        parse_env_file(f"# fine\n{line}\n", source="/x.env")
    assert caught.value.problems[0].line == 2
    assert told in str(caught.value.problems[0])


def manifest(name: str = "codex") -> Manifest:
    return read_manifest(Catalog(Catalog.open().shipped), name)


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "mosaic")


@pytest.fixture
def around(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}


def test_a_program_that_is_found_is_written_down_and_found_again_when_it_moved(
    home: Home, around: dict[str, str], tmp_path: Path
) -> None:
    first = program(tmp_path / ".local" / "bin" / "codex")
    assert find_for_seat(home, "coder0", manifest(), around).program == str(first)
    path = env_file_path(home, "coder0")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(SITE + path.read_text())

    second = program(tmp_path / ".bun" / "bin" / "codex")
    assert find_for_seat(home, "coder0", manifest(), around).program == str(first)
    first.unlink()
    assert find_for_seat(home, "coder0", manifest(), around).program == str(second)
    file = read_env_file(home, "coder0")
    assert file is not None
    assert file.text.startswith(SITE)
    assert file.generated == {
        "MOSAIC_SEAT_RUNTIME": "codex",
        "MOSAIC_SEAT_PROGRAM": str(second),
        "MOSAIC_SEAT_PATH": str(second.parent),
    }


def test_recording_for_units_looks_anew_and_tells_of_each_seat(
    home: Home, around: dict[str, str], tmp_path: Path
) -> None:
    program(tmp_path / ".bun" / "bin" / "codex")
    find_for_seat(home, "a", manifest(), around)
    better = program(tmp_path / "path" / "codex")
    seats = [("a", manifest()), ("b", manifest("pi")), ("../c", manifest())]
    found = record_programs(home, seats, around | {"PATH": str(better.parent)})
    assert [(one.name, one.program) for one in found] == [("a", str(better)), ("b", ""), ("../c", "")]
    assert "npm install -g @mariozechner/pi-coding-agent" in found[1].problem


def test_a_missing_program_leaves_the_env_file_as_it_is(home: Home, around: dict[str, str]) -> None:
    write_env_file(home, "a", parse_env_file(SITE, source="x"))
    with pytest.raises(RuntimeNotInstalled):
        find_for_seat(home, "a", manifest(), around)
    assert env_file_path(home, "a").read_text() == SITE


def test_an_env_file_that_others_could_read_is_closed_when_it_is_read(home: Home) -> None:
    write_env_file(home, "a", parse_env_file(SITE, source="x"))
    env_file_path(home, "a").chmod(0o644)
    read_env_file(home, "a")
    assert stat.S_IMODE(env_file_path(home, "a").stat().st_mode) == 0o600


def test_a_link_to_a_persons_own_place_stays_a_link(home: Home, around: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / ".bun" / "bin" / "codex")
    kept = tmp_path / "dotfiles" / "a.env"
    kept.parent.mkdir(mode=0o755)
    kept.write_text(SITE)
    env_file_path(home, "a").parent.mkdir(parents=True, mode=0o700)
    env_file_path(home, "a").symlink_to(kept)
    find_for_seat(home, "a", manifest(), around)
    assert env_file_path(home, "a").is_symlink()
    assert "MOSAIC_SEAT_PROGRAM" in kept.read_text()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o755


def test_of_a_seat_that_is_gone_only_a_file_without_a_word_of_the_site_is_removed(
    home: Home, around: dict[str, str], tmp_path: Path
) -> None:
    program(tmp_path / ".bun" / "bin" / "codex")
    for name in ("ours", "theirs", "noted"):
        find_for_seat(home, name, manifest(), around)
    for name, line in (("theirs", "A=1"), ("noted", "# asked Ben about the proxy")):
        file = read_env_file(home, name)
        assert file is not None
        write_env_file(home, name, type(file)((*file.lines, *parse_env_file(line, source="x").lines)))
    assert [forget_env_file(home, name) for name in ("ours", "theirs", "noted", "never")] == [True, False, False, True]
    assert sorted(path.name for path in env_file_path(home, "x").parent.iterdir()) == ["noted.env", "theirs.env"]


def test_a_host_takes_away_the_env_files_of_seats_that_are_gone_and_no_other(
    home: Home, around: dict[str, str], tmp_path: Path
) -> None:
    tidy(home, names=[])  # there is no folder yet
    program(tmp_path / ".bun" / "bin" / "codex")
    for name in ("here", "gone"):
        find_for_seat(home, name, manifest(), around)
    folder = env_file_path(home, "here").parent
    (folder / "broken.env").write_text("no sign\n")
    (folder / "notes.txt").write_text("mine\n")
    tidy(home, names=["here"])
    assert sorted(path.name for path in folder.iterdir()) == ["broken.env", "here.env", "notes.txt"]


def test_no_name_leads_out_of_the_folder(home: Home) -> None:
    with pytest.raises(InvalidInput):
        env_file_path(home, "../x")


def test_a_new_file_begins_with_what_it_is() -> None:
    file = new_env_file("coder0").refreshed({f"{OURS}PROGRAM": "/bin/codex"})
    assert file.lines[-1] == EnvLine("MOSAIC_SEAT_PROGRAM=/bin/codex", "MOSAIC_SEAT_PROGRAM", "/bin/codex")
    assert "the agent coder0" in file.text
