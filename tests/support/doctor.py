"""Running `mosaic doctor` as a process of its own, on a machine that a test has broken, and reading what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RUN = "import sys\nfrom mosaic_cli.main import run\nsys.exit(run(['doctor', '-o', 'json']))\n"


@dataclass(frozen=True)
class Examined:
    """What one run found, and its exit code."""

    code: int
    document: dict[str, Any]

    def of(self, check: str) -> list[dict[str, str]]:
        return [item for item in self.document["items"] if item["check"] == check]

    def levels(self, check: str) -> set[str]:
        return {item["level"] for item in self.of(check)}

    def bad(self, check: str) -> dict[str, str]:
        """The one finding of a check that is not well."""
        (found,) = [item for item in self.of(check) if item["level"] != "well"]
        return found


def doctor(
    home: Path, *, before: str = "", inside: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Examined:
    """Run it for `home`. `before` is Python that runs first in that process; `inside` a command that runs it."""
    done = subprocess.run(
        [*inside, sys.executable, "-c", before + _RUN],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "MOSAIC_HOME": str(home), **(environment or {})},
    )
    assert done.returncode in (0, 1), done.stderr
    return Examined(done.returncode, json.loads(done.stdout))
