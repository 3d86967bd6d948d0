"""How a command line ends: exit codes, and what a person or a program is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mosaic_cli import failures
from mosaic_framework.errors import Ambiguous, Conflict, Denied, FleetError, NotFound, Unfinished, Unreachable

from tests.support.cli import lines


def raising(error: BaseException) -> Callable[[], Any]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FleetError("x"), 1),
        (failures.UsageError("x"), 2),
        (NotFound("x"), 3),
        (Ambiguous("x"), 3),
        (Denied("x"), 4),
        (Unreachable("x"), 5),
        (Conflict("x"), 6),
        (Unfinished("x"), 8),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "no", "/x"), 1),
        (ZeroDivisionError("oops"), 1),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.guarded(raising(error), arguments=[]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_has_four_lines_at_most_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFound("a\nb", why="c\n\nd\x1b[31m", next_step="e\nf", details={"request_id": "r1"})
    failures.guarded(raising(error), arguments=[])
    assert capsys.readouterr().err.splitlines() == [
        "error: a b (not-found)",
        "why:   c  d[31m",
        "next:  e f",
        "request: r1",
    ]


def test_in_json_mode_the_error_is_one_json_object_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFound("a", why="b", next_step="c", details={"request_id": "r1", "nearest": "x"})
    failures.guarded(raising(error), arguments=["fleet", "ps", "-o", "json"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err) == {
        "apiVersion": "mosaic.v1",
        "kind": "Error",
        "code": "not-found",
        "what": "a",
        "why": "b",
        "next": "c",
        "requestId": "r1",
        "exitCode": 3,
        "details": {"nearest": "x"},
    }


@pytest.mark.parametrize(
    ("arguments", "as_json"),
    [
        (["ps", "-o", "json"], True),
        (["ps", "-ojson"], True),
        (["ps", "--output", "json"], True),
        (["ps", "--output=json"], True),
        (["ps", "-o", "yaml"], False),
        (["send", "--", "-o", "json"], False),
        ([], False),
    ],
)
def test_json_mode_is_known_before_the_command_line_is_parsed(arguments: list[str], as_json: bool) -> None:
    assert failures.wants_json(arguments) is as_json


def mosaic(*arguments: str, home: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mosaic_cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MOSAIC_HOME": str(home)},
        timeout=30,
        **more,
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statsu"], "the nearest are status, tenant"),
        (["fleet", "aply"], "the nearest is apply"),
        (["fleet", "ps", "--nonsense"], "no such option: --nonsense"),
        (["agent", "show"], "missing argument 'AGENT'"),
        (["agent", "tail", "x", "-n", "many"], "invalid value for '--lines' / '-n'"),
        (["fleet", "apply", "--timeout", "soon"], "is no length of time"),
        (["fleet", "stop"], "name the agents, or say --all"),
    ],
)
def test_a_wrong_command_line_ends_with_2_in_four_lines(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = mosaic(*arguments, home=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(lines(done.stderr)) <= 4
    assert done.stdout == ""


def test_without_a_context_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = mosaic("fleet", "ps", home=tmp_path)
    assert done.returncode == 4
    assert "mosaic up" in done.stderr
    assert "mosaic login" in done.stderr


def test_debug_shows_the_traceback_as_well(tmp_path: Path) -> None:
    assert "Traceback" in mosaic("--debug", "fleet", "ps", home=tmp_path).stderr
    assert "Traceback" not in mosaic("fleet", "ps", home=tmp_path).stderr


def test_a_reader_that_had_enough_is_no_failure(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "mosaic_cli.main", "version", "--client"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "MOSAIC_HOME": str(tmp_path)},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
