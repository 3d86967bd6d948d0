"""Small private files of the host-agent, and what is told when the disk refuses them."""

from __future__ import annotations

from pathlib import Path

from mosaic_framework.errors import FleetError
from mosaic_framework.paths import write_private


class StateUnwritable(FleetError):
    """A file of the host-agent cannot be written."""

    code = "state-unwritable"
    hint = "look at the disk: df -h"


def write_state(path: Path, content: bytes) -> None:
    """Replace a private file; on disk when this returns. Raises StateUnwritable."""
    try:
        write_private(path, content)
    except OSError as error:
        raise StateUnwritable(f"{path} cannot be written", why=str(error.strerror or error)) from error
