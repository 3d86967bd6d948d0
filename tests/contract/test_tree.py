"""What must not be in the repository: where we happen to work, where packages come from, and secrets."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, tracked_files

# Written so that this file does not hold what it looks for.
PLACES = re.compile(r"(?<![\w.$~/])/(?:ro" + r"ot|wo" + r"rk)/")
REGISTRIES = re.compile(
    r"--(?:extra-)?index-u" + r"rl|https?://[^\s\"'`)>]*(?:/sim" + r"ple\b|pypi\.o" + r"rg|pythonho" + r"sted)",
    re.IGNORECASE,
)
PRIVATE_KEYS = re.compile("-----BEGIN [A-Z ]*PRIVATE " + "KEY-----\n[A-Za-z0-9+/=]{20}")


def offenders(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    return found


def test_no_file_names_a_place_of_somebodys_machine() -> None:
    assert offenders(PLACES) == []


def test_no_file_names_this_checkout_or_this_users_home() -> None:
    places = (ROOT, Path(pwd.getpwuid(os.getuid()).pw_dir))  # not $HOME, which is the test run's
    deep = [re.escape(f"{place}/") for place in places if len(place.parts) > 2]
    assert [found for place in deep for found in offenders(re.compile(place))] == []


def test_no_file_names_a_package_registry() -> None:
    assert offenders(REGISTRIES) == []


def test_no_file_holds_a_private_key() -> None:
    assert offenders(PRIVATE_KEYS) == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (PLACES, "see /ro" + "ot/notes"),
        (PLACES, "cd /wo" + "rk/clone"),
        (REGISTRIES, "https://files.pythonho" + "sted.org/x"),
        (REGISTRIES, "--index-u" + "rl http://mirror/"),
        (PRIVATE_KEYS, "-----BEGIN PRIVATE " + "KEY-----\n" + "M" * 64),
    ],
)
def test_each_of_these_would_be_found(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_the_lock_has_a_hash_for_every_package() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text())
    packages = [entry for entry in entries if "==" in entry.splitlines()[0]]
    assert len(packages) > 40
    assert [entry.splitlines()[0] for entry in packages if "--hash=sha256:" not in entry] == []


def test_the_licence_is_the_whole_of_apache_2() -> None:
    words = " ".join((ROOT / "LICENSE").read_text().split())
    assert words.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in words


@pytest.mark.parametrize(
    "script", sorted([*(ROOT / "script").iterdir(), ROOT / ".ci" / "run"]), ids=lambda path: path.name
)
def test_a_script_can_be_run_and_says_what_it_is(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    lines = script.read_text().splitlines()
    assert lines[0].startswith("#!")
    assert lines[1].startswith("# ")
