"""Running `mosaic` as a process of its own: with the environment of a pane's program, or of a person's shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_framework.paths import Home

from tests.support.checkout import ROOT
from tests.support.mesh import Mesh

Environment = dict[str, str]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error_code(self) -> str:
        return self.err.partition("\n")[0].rpartition("(")[2].rstrip(")\n")


async def inside(mesh: Mesh, name: str) -> Environment:
    """The environment that the program of a seat has, read from the kernel."""
    agent = await mesh.until_agent(name, lambda one: one.pid > 0)
    entries = Path(f"/proc/{agent.pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)


def mosaic(environment: Environment, *arguments: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "mosaic_cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def persons(mesh: Mesh, folder: Path) -> Environment:
    """The environment of a shell of the mesh's operator."""
    mesh.write_context(Home(folder))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MOSAIC_")}
    return {**clean, "MOSAIC_HOME": str(folder)}
