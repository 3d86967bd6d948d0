"""docs/fleet-files.md: every command it shows is run as written, on a new machine; every file it shows is valid."""

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
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.document import read_tree, validate
from mosaic_framework.env_files import parse_env_file
from mosaic_framework.marked import Problems
from mosaic_framework.profiles import parse_profile
from mosaic_framework.provision import RuntimePolicy

from tests.support.checkout import ROOT

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("machine")]

TEXT = (ROOT / "docs" / "fleet-files.md").read_text(encoding="utf-8")

# Shows a composer, as Claude Code does, and takes whatever is typed.
STAND_IN = """\
#!/bin/bash
if [ "$1" = --version ]; then echo "2.1.329 (stand-in)"; exit; fi
printf '\\342\\235\\257 \\n'
while read -r line; do printf '\\342\\235\\257 \\n'; done
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def machine() -> Iterator[tuple[Path, dict[str, str]]]:
    """A new person's machine on which Claude Code is installed: a folder to be in, and its environment."""
    folder = Path(tempfile.mkdtemp(prefix="docs-"))
    for name in ("user", "run", "tmux", "bin", "here"):
        (folder / name).mkdir(mode=0o700)
    for name, content in (("claude", STAND_IN), ("editor", '#!/bin/sh\necho "Mine." >> "$1"\n')):
        (folder / "bin" / name).write_text(content)
        (folder / "bin" / name).chmod(0o755)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MOSAIC_", "TMUX", "VISUAL"))}
    made = clean | {
        "HOME": str(folder / "user"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "TMUX_TMPDIR": str(folder / "tmux"),
        "SHELL": "/bin/bash",
        "EDITOR": str(folder / "bin" / "editor"),
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MOSAIC_ENROL_PORT": "0",
        "MOSAIC_FLEET_PORT": "0",
    }
    yield folder / "here", made
    subprocess.run(["mosaic", "down", "--yes"], env=made, capture_output=True, check=False, timeout=120)
    shutil.rmtree(folder, ignore_errors=True)


def test_every_command_that_the_guide_shows_works_in_its_order(machine: tuple[Path, dict[str, str]]) -> None:
    here, environment = machine

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            env=environment,
            cwd=here,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    run("mosaic up")
    shown = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    assert len(shown) > 20
    said = {command: run(command) for command in shown}
    assert "orchestrator" in said["mosaic fleet ps"]
    assert (here / "research.yaml").read_text().count("- name:") == 8


def test_every_command_of_the_guide_exists_with_the_flags_it_names() -> None:
    """Those in running text too, which are not run."""
    helps: dict[tuple[str, ...], str] = {}
    for noun, verb, flags in re.findall(r"`mosaic (\w+)(?: ([a-z]+))?((?: --[a-z-]+)*)`", TEXT):
        words = tuple(word for word in (noun, verb) if word)
        if words not in helps:
            done = subprocess.run(
                [sys.executable, "-m", "mosaic_cli.main", *words, "--help"],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            helps[words] = done.stdout
        for flag in flags.split():
            assert flag in helps[words], (words, flag)
    assert len(helps) > 8


def test_the_files_that_the_guide_shows_are_valid() -> None:
    policy, profile = blocks("yaml")
    problems = Problems("guide")
    tree = read_tree(policy, problems)
    assert tree is not None
    assert validate(tree, RuntimePolicy, problems) is not None, problems.sorted()
    assert parse_profile(profile, source="guide", name="studio", catalog=Catalog(shipped_data())).seat_count() == 4


def test_the_env_file_that_the_guide_shows_is_one() -> None:
    (shown,) = blocks("env")
    file = parse_env_file(shown, source="docs")
    assert list(file.site) == ["ANTHROPIC_API_KEY", "HTTPS_PROXY", "GREETING"]
    assert file.site["GREETING"] == 'two\nlines, and a "quote"'
    assert file.refreshed(file.generated).text == shown


def test_the_presets_of_the_guide_are_those_that_ship() -> None:
    table = TEXT.partition("| preset | seats |")[2].partition("\n\n")[0]
    named = set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE))
    assert named == set(Catalog(shipped_data()).files("presets", ".yaml"))
