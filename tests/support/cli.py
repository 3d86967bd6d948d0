"""Running `mosaic` in a test: in this process, with what it writes and its exit code."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from mosaic_cli.main import run


@dataclass(frozen=True)
class Done:
    """How one command line ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """stdout as JSON, an object on each line."""
        return [json.loads(line) for line in self.out.splitlines()]


Mosaic = Callable[..., Done]


def runner(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mosaic:
    """Return a function that runs one command line; `stdin` is what it reads."""

    def mosaic(*arguments: str, stdin: str | bytes = b"") -> Done:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capsys.readouterr()
        began = time.monotonic()
        code = run(list(arguments))
        seconds = time.monotonic() - began
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err, seconds)

    return mosaic


def lines(text: str) -> Sequence[str]:
    """Return the lines of `text` that hold something."""
    return [line for line in text.splitlines() if line.strip()]
