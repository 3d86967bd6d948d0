"""A program on a real pseudo-terminal, answered as a person would: after what it asks has been seen."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

WAIT_SECONDS = 30.0


def on_a_terminal(
    arguments: Sequence[str], answers: Sequence[tuple[str, str]], *, environment: dict[str, str], cwd: Path
) -> tuple[int, str]:
    """Run `mosaic` with these arguments, and return its exit code and all that its terminal showed.

    Each of `answers` is (what must be shown after the last answer, what is then typed).
    """
    terminal, inside = pty.openpty()
    try:
        program = subprocess.Popen(
            [sys.executable, "-m", "mosaic_cli.main", *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=cwd,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    finally:
        os.close(inside)
    shown, seen = "", 0
    try:
        for question, answer in answers:
            while question not in shown[seen:]:
                shown += _read(terminal, f"{question!r} after {shown[seen:]!r}")
            seen = len(shown)
            os.write(terminal, f"{answer}\r".encode())
        while text := _read(terminal, "the end", may_end=True):
            shown += text
        return program.wait(WAIT_SECONDS), shown
    finally:
        os.close(terminal)
        program.kill()
        program.wait()


def _read(terminal: int, awaited: str, *, may_end: bool = False) -> str:
    ready, _, _ = select.select([terminal], [], [], WAIT_SECONDS)
    if not ready:
        raise AssertionError(f"never shown: {awaited}")
    try:
        text = os.read(terminal, 4096).decode(errors="replace")
    except OSError:  # Linux: the other end is closed
        text = ""
    if not text and not may_end:
        raise AssertionError(f"it ended before it showed {awaited}")
    return text
