"""`mosaic update` on a really installed program: what is a person's survives, what nobody touched follows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.support.checkout import ROOT
from tests.support.installed import Environment, build_wheel, copy_of_the_source

pytestmark = pytest.mark.timeout(180)

MARK = "Release {}."


def release(folder: Path, version: str) -> Path:
    """Build a wheel of another version, with changes in shipped data of every kind."""
    source = copy_of_the_source(folder / "source")
    for path, old in (
        (source / "pyproject.toml", 'version = "0.1.0"'),
        (source / "framework/mosaic_framework/__init__.py", '__version__ = "0.1.0"'),
    ):
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, old.replace("0.1.0", version)))
    mark = MARK.format(version)
    for name in ("roles/code.md", "roles/review.md"):
        path = source / "framework" / name
        path.write_text(f"{path.read_text()}\n{mark}\n")
    for name in ("presets/coding.yaml", "profiles/research.yaml", "runtimes/pi.yaml"):
        path = source / "framework" / name
        path.write_text(f"{path.read_text()}# {mark}\n")
    schema = source / "framework/schema/roster.schema.json"
    schema.write_text(json.dumps(json.loads(schema.read_text()) | {"$comment": mark}, indent=2))
    return build_wheel(source, folder)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "0.1.0": build_wheel(ROOT, tmp_path_factory.mktemp("first")),
        "0.1.1": release(tmp_path_factory.mktemp("second"), "0.1.1"),
        "0.1.2": release(tmp_path_factory.mktemp("third"), "0.1.2"),
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    environment = Environment.make(tmp_path_factory.mktemp("user") / "environment")
    environment.install(wheels["0.1.0"])
    environment.keep()
    return environment


class User:
    """Somebody with an installed mosaic, a fleet, and changes of their own."""

    def __init__(self, environment: Environment, home: Path) -> None:
        self.environment, self.home = environment, home
        self.fleet = home / "fleet"
        assert self("fleet", "init", "--preset", "coding", "--runtime", "claude").returncode == 0
        roster = self.fleet / "roster.yaml"
        roster.write_text(roster.read_text() + "# mine: ask Ada before a third coder\n")
        shown = json.loads(self("persona", "show", "code", "-o", "json").stdout)["text"]
        mine = home.parent / "mine.md"
        mine.write_text(shown + "\nMine: never on Fridays.\n")
        assert self("persona", "edit", "code", "--file", str(mine)).returncode == 0
        self.owned = {roster: b"", self.fleet / "roles.local" / "code.md": b""}
        for name, content in (
            ("fleet/agents/coder0.env", b"LEVEL=1\n# mine\n"),
            ("fleet/profiles.local/studio.yaml", b"# not even valid\n\xff"),
            ("fleet/presets.local/general.yaml", b"version: 1\n"),
            ("fleet/USER.md", b"I am Ada.\r\n"),
            ("run/hostagent.json", b'{"pid": 1}'),
            ("state/journal.db", bytes(range(256))),
            ("backlog.jsonl", b"{}\n"),
            ("config.yaml", b"current: there\ncontexts: []\n"),
        ):
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            self.owned[path] = b""
        self.owned = {path: path.read_bytes() for path in self.owned}
        # A copy that was never touched: of a preset, to be changed one day.
        self.copy = self.fleet / "presets.local" / "coding.yaml"
        self.copy.write_bytes(self.shipped("presets/coding.yaml"))

    def __call__(self, *arguments: str, killed_at: str = "") -> subprocess.CompletedProcess[str]:
        return self.environment.mosaic(self.home, *arguments, killed_at=killed_at)

    def shipped(self, name: str) -> bytes:
        return (self.environment.packages / "mosaic_framework" / "data" / name).read_bytes()

    @property
    def version(self) -> str:
        return str(json.loads(self("version", "--client", "-o", "json").stdout)["client"])

    def is_on(self, version: str) -> None:
        """Check that all is as it must be after an update to that version."""
        assert self.version == version
        assert MARK.format(version).encode() in self.copy.read_bytes()
        assert self.copy.read_bytes() == self.shipped("presets/coding.yaml")
        schema = self.fleet / "schema" / "roster.schema.json"
        assert schema.read_bytes() == self.shipped("schema/roster.schema.json")
        self.has_lost_nothing()
        assert not (self.home / "state" / "update.json").exists()
        assert json.loads((self.home / "state" / "shipped.json").read_text())["version"] == version

    def has_lost_nothing(self) -> None:
        assert {path: path.read_bytes() for path in self.owned} == self.owned


@pytest.fixture
def user(installed: Environment, tmp_path: Path) -> User:
    installed.put_back()
    return User(installed, tmp_path / "home")


def test_what_is_a_persons_survives_two_updates_byte_for_byte_and_an_untouched_file_follows(
    user: User, wheels: dict[str, Path]
) -> None:
    for version in ("0.1.1", "0.1.2"):
        done = user("update", "--from", str(wheels[version]), "-o", "json")
        assert done.returncode == 0, done.stderr
        user.is_on(version)
        told = {item["file"]: item["change"] for item in json.loads(done.stdout)["items"]}
        assert told == {
            "roles/code.md": "changed",
            "roles/review.md": "changed",
            "presets/coding.yaml": "changed",
            "profiles/research.yaml": "changed",
            "runtimes/pi.yaml": "changed",
            "schema/roster.schema.json": "changed",
            "fleet/roles.local/code.md": "kept",
            "fleet/presets.local/coding.yaml": "refreshed",
            "fleet/schema/roster.schema.json": "refreshed",
        }
    again = user("update", "--no-upgrade", "-o", "json")
    assert [item["file"] for item in json.loads(again.stdout)["items"]] == ["fleet/roles.local/code.md"]


@pytest.mark.parametrize(
    ("place", "ends_with"),
    [
        ("mosaic.update-begun", -signal.SIGKILL),
        ("mosaic.update-installing", -signal.SIGKILL),
        ("mosaic.update-upgraded", -signal.SIGKILL),
        # From here on it is the new program that is killed, and the old one tells.
        ("mosaic.reseed-file", 1),
        ("mosaic.reseed-record", 1),
    ],
)
def test_an_update_killed_half_way_is_completed_by_the_next_one(
    user: User, wheels: dict[str, Path], place: str, ends_with: int
) -> None:
    wheel = str(wheels["0.1.1"])
    killed = user("update", "--from", wheel, killed_at=place)
    assert killed.returncode == ends_with, killed.stderr
    assert ends_with < 0 or "complete it: mosaic update" in killed.stderr
    user.has_lost_nothing()
    done = user("update", "--from", wheel)
    assert done.returncode == 0, done.stderr
    assert "the last update was interrupted; completing it" in done.stderr
    user.is_on("0.1.1")


def test_an_update_whose_whole_installer_was_killed_is_completed_too(user: User, wheels: dict[str, Path]) -> None:
    """Power loss: pip dies as well. Files of the program are then missing, which the next run puts back."""
    wheel = str(wheels["0.1.1"])
    assert user("update", "--from", wheel, killed_at="mosaic.update-installing").returncode == -signal.SIGKILL
    journal = json.loads((user.home / "state" / "update.json").read_text())
    try:
        process = psutil.Process(journal["pid"])
        process.kill()
        process.wait(30)
    except psutil.NoSuchProcess:
        pass  # pip was done already; what it did is undone here all the same
    (user.environment.packages / "mosaic_framework/data/roles/code.md").unlink(missing_ok=True)
    if not (user.environment.packages / "mosaic_cli/main.py").exists():
        user.environment.install(wheels["0.1.0"])  # as `mosaic` cannot start, a person runs what it had printed
    done = user("update", "--from", wheel)
    assert done.returncode == 0, done.stderr
    user.is_on("0.1.1")


def test_a_second_update_waits_for_the_first(user: User, wheels: dict[str, Path]) -> None:
    import fcntl
    import threading

    (user.home / "state").mkdir(exist_ok=True)
    lock = os.open(user.home / "state" / "update.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    ended: list[float] = []
    waiting = threading.Thread(target=lambda: (user("update", "--no-upgrade"), ended.append(time.monotonic())))
    waiting.start()
    waiting.join(1.5)
    assert waiting.is_alive()
    os.close(lock)
    waiting.join(60)
    assert ended


def test_an_installer_that_fails_leaves_the_version_that_was_there(user: User, tmp_path: Path) -> None:
    done = user("update", "--from", str(tmp_path / "missing.whl"))
    assert done.returncode == 1
    assert "pip ended with" in done.stderr
    assert user.version == "0.1.0"
    assert not (user.home / "state" / "update.json").exists()
    user.has_lost_nothing()


def test_a_dry_run_tells_the_command_and_does_nothing(user: User, wheels: dict[str, Path]) -> None:
    before = {path: path.read_bytes() for path in user.home.rglob("*") if path.is_file()}
    done = user("update", "--dry-run", "--from", str(wheels["0.1.1"]))
    assert done.returncode == 0
    assert f"--upgrade {wheels['0.1.1']}" in done.stderr
    assert {path: path.read_bytes() for path in user.home.rglob("*") if path.is_file()} == before
    assert user.version == "0.1.0"


def test_without_reseeding_only_the_program_changes(user: User, wheels: dict[str, Path]) -> None:
    copy = user.copy.read_bytes()
    done = user("update", "--no-reseed", "--from", str(wheels["0.1.1"]))
    assert done.returncode == 0, done.stderr
    assert user.version == "0.1.1"
    assert user.copy.read_bytes() == copy
    assert user("update", "--no-upgrade").returncode == 0
    user.is_on("0.1.1")
