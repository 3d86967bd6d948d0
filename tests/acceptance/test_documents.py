"""A command that a document shows is one that works: every `sh` block of the operator's documents is run as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
ELSEWHERE = ("script/demo", "script/test", "source ")  # run by script/test itself, or only set up a shell

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("machine")]


def commands(document: str) -> list[str]:
    text = (CHECKOUT / document).read_text()
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith(("#", *ELSEWHERE))]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A new person's machine: an empty home, ports and a tmux server of its own."""
    folder = Path(tempfile.mkdtemp(prefix="docs-"))
    for name in ("user", "run", "tmux"):
        (folder / name).mkdir(mode=0o700)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MOSAIC_", "TMUX"))}
    made = clean | {
        "HOME": str(folder / "user"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "TMUX_TMPDIR": str(folder / "tmux"),
        "SHELL": "/bin/bash",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MOSAIC_ENROL_PORT": "0",
        "MOSAIC_FLEET_PORT": "0",
    }
    yield made
    subprocess.run(["mosaic", "down", "--yes"], env=made, cwd=CHECKOUT, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def run(command: str, environment: dict[str, str], document: str = "") -> str:
    done = subprocess.run(
        ["bash", "-c", command], env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{document} $ {command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_five_minutes_of_the_readme_work_as_written(environment: dict[str, str]) -> None:
    shown = commands("README.md")
    assert shown[0].startswith("mosaic up")
    assert shown[-1].startswith("mosaic down")
    said = {command.split("#")[0].strip(): run(command, environment) for command in shown}
    assert "the answer is 42" in said["mosaic agent tail counter"]
    assert "counter" in said["mosaic fleet ps"]


def test_the_guides_to_one_machine_work_as_written_one_after_another(environment: dict[str, str]) -> None:
    """On one fleet: what is up already is no fault in a guide that begins by it. The one to hosts needs it empty."""
    said: dict[str, str] = {}
    for name in ("metrics", "hosts", "states", "sending", "backlog", "tenants", "operating"):
        for command in commands(f"docs/{name}.md"):
            said[command] = run(command.replace(" code.txt", f" {environment['HOME']}/code.txt"), environment, name)
    assert "rule:" in said["mosaic agent explain counter"]
    assert "lease" in said["mosaic host policy"]


def test_the_guide_to_productions_commands_work_as_written(environment: dict[str, str]) -> None:
    said = {command: run(command, environment) for command in commands("docs/production.md")}
    assert "counter" in said["mosaic fleet ps"], "it was in the backup"


def test_the_guide_to_other_clusters_works_as_written(environment: dict[str, str]) -> None:
    try:
        said = [(command, run(command, environment)) for command in commands("docs/federation.md")]
    finally:
        for name in ("east", "west"):
            run(f"MOSAIC_HOME=$HOME/{name} mosaic down --yes", environment)
    tombstone, again = [text for command, text in said if command.endswith("mosaic peer ls")][-2:]
    assert "ended by them" in tombstone
    assert "REVOKED" not in again
