"""The CLI starts fast: what is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("grpc", "rich", "ruamel", "cryptography", "psutil", "asyncio", "google.protobuf", "structlog")

PROBE = """
import sys
from mosaic_cli.main import run
code = run(sys.argv[1:])
sys.stderr.write(" ".join(sorted(set(sys.modules) & set({heavy!r}))))
sys.exit(code)
"""


def probe(
    home: Path, *arguments: str, heavy: tuple[str, ...] = HEAVY, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=heavy), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MOSAIC_HOME": str(home), **environment},
    )


@pytest.mark.parametrize("arguments", [["--help"], ["fleet", "--help"], ["agent", "send", "--help"], ["up", "--help"]])
def test_help_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    done = probe(tmp_path, *arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
    assert done.stderr == ""


def test_help_shows_every_command_and_no_markup(tmp_path: Path) -> None:
    from mosaic_cli.main import COMMANDS

    shown = probe(tmp_path, "--help").stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert "╭" not in shown
    assert "\x1b" not in shown


def test_completing_a_command_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = (*HEAVY, "pydantic")
    done = probe(tmp_path, heavy=heavy, _MOSAIC_COMPLETE="complete_bash", COMP_WORDS="mosaic fl", COMP_CWORD="1")
    assert done.stdout.split() == ["fleet"]
    assert done.stderr == ""


def test_a_command_completes_from_the_table_alone(tmp_path: Path) -> None:
    done = probe(tmp_path, _MOSAIC_COMPLETE="complete_bash", COMP_WORDS="mosaic con", COMP_CWORD="1")
    assert done.stdout.split() == ["context"]


def test_every_command_of_the_table_loads() -> None:
    import importlib

    import typer
    from mosaic_cli.main import COMMANDS

    for name, command in COMMANDS.items():
        module = importlib.import_module(f"mosaic_cli.commands.{command.module}")
        assert typer.main.get_command(module.app) is not None, name
        assert command.help.endswith((".", "…")), name
