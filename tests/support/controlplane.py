"""Running `mosaic-controlplane VERB` where a mesh's control plane runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.mesh import Mesh


def controlplane(
    *arguments: str, home: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one verb to its end in a home."""
    return subprocess.run(
        [sys.executable, "-m", "mosaic_controlplane.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, **(environment or {}), "MOSAIC_HOME": str(home)},
    )


def beside(mesh: Mesh, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one verb with the settings of a mesh's control plane."""
    return controlplane(*arguments, home=mesh.controlplane.home, environment=mesh.controlplane.environment)
