"""The wheel alone, in an empty environment: all shipped data is there, all of it is valid, none of it names a site."""

from __future__ import annotations

import getpass
import json
import re
import socket
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, tracked_files
from tests.support.installed import Environment, build_wheel

KINDS = ("roles", "profiles", "presets", "runtimes", "units", "schema")

READ_EVERYTHING = """
import json, sys
from mosaic_framework import catalog, presets, profiles, roles, runtimes
found = catalog.Catalog.open()
assert found.shipped.is_relative_to(sys.prefix), found.shipped
broken = [str(one) for one in roles.role_problems(found)]
broken += [entry.problem for entry in presets.list_presets(found) if entry.preset is None]
broken += [str(one) for one in profiles.profile_problems(found)]
for name in runtimes.known_runtimes(found):
    runtimes.read_manifest(found, name)
for file in found.files("schema", ".json").values():
    json.loads(file.read())
roles.shared_contract(found)
print(json.dumps({
    "broken": broken,
    "files": sorted(
        p.relative_to(found.shipped).as_posix()
        for kind in catalog.KINDS for p in found.folder(kind).rglob("[!.]*") if p.is_file()
    ),
    "data": str(found.shipped),
}))
"""

# What belongs to one site and to no other. Written so that this file does not hold what it looks for.
SITES = {
    "a path of somebody's": re.compile(r"(?<![\w.$~])/(?:ro" + r"ot|wo" + r"rk|ho" + r"me|Us" + r"ers|mnt|srv)/\w"),
    "an address": re.compile(r"\b(?!127\.0\.0\.1|0\.0\.0\.0)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b"),
    "a mail address": re.compile(r"[\w.+-]+@[\w-]+\.\w+"),
    "a host of a site's own": re.compile(r"\b[\w-]+\.(?:local|lan|internal|corp|intra|home\.arpa)\b(?!/)"),
    "an id": re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b\d{17,20}\b"),
    "a room or person of a chat": re.compile(r"[!@#][\w.=-]+:[\w-]+\.\w+"),
    "a web address": re.compile(r"https?://(?!json-schema\.org/)[\w.-]+"),
    "a secret": re.compile(r"\b(?:sk-|ghp_|xox[a-z]-|syt_)\w{8,}"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment.make(tmp_path_factory.mktemp("empty") / "environment")
    environment.install(build_wheel(ROOT, tmp_path_factory.mktemp("wheel")))
    return environment


@pytest.fixture(scope="module")
def content(installed: Environment) -> dict[str, object]:
    done = installed.run(installed.python, "-c", READ_EVERYTHING, MOSAIC_HOME=str(installed.folder / "no-home"))
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_every_contract_profile_preset_manifest_unit_and_schema_is_there_and_valid(content: dict[str, object]) -> None:
    data = [path.relative_to(ROOT / "framework") for path in tracked_files() if ROOT / "framework" in path.parents]
    shipped = sorted(path.as_posix() for path in data if path.parts[0] in KINDS and not path.name.startswith("."))
    assert {kind: sum(name.startswith(f"{kind}/") for name in shipped) > 0 for kind in KINDS} == dict.fromkeys(
        KINDS, True
    )
    assert content["files"] == shipped
    assert content["broken"] == []


def test_the_installed_program_lists_them(installed: Environment) -> None:
    home = installed.folder / "no-home"
    for noun, count in (("persona", 54), ("profile", 5)):
        done = installed.mosaic(home, noun, "ls", "-o", "json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["items"]) == count
    made = installed.mosaic(home, "fleet", "init", "--preset", "hybrid", "--dry-run")
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("what", SITES)
def test_no_shipped_data_holds(what: str, content: dict[str, object]) -> None:
    assert offenders(SITES[what], Path(str(content["data"]))) == []


def test_no_shipped_data_names_this_machine_or_this_user(content: dict[str, object]) -> None:
    data = Path(str(content["data"]))
    # A name of three letters, or the system's own user, stands in ordinary words too.
    names = [name for name in (socket.gethostname().partition(".")[0], getpass.getuser()) if len(name) > 4]
    for name in [*names, str(ROOT)]:
        assert offenders(re.compile(rf"(?<!\w){re.escape(name)}(?!\w)"), data) == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of somebody's", "cd /ho" + "me/anna/src"),
        ("an address", "10.1." + "2.3"),
        ("a mail address", "anna@" + "example.org"),
        ("a host of a site's own", "build7." + "internal"),
        ("an id", "01900000-0000-7000-" + "8000-000000000001"),
        ("an id", "1234567890" + "12345678"),
        ("a room or person of a chat", "!abc:" + "matrix.example"),
        ("a web address", "https://" + "fleet.example"),
        ("a secret", "ghp_" + "abcdefgh12345"),
    ],
)
def test_each_of_these_would_be_found(what: str, text: str) -> None:
    assert SITES[what].search(text)


def offenders(pattern: re.Pattern[str], data: Path) -> list[str]:
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) > 60
    return [
        f"{path.relative_to(data)}: {match[0]}" for path in files for match in pattern.finditer(path.read_text("utf-8"))
    ]
