"""What to say when a name is not there: the nearest ones."""

from __future__ import annotations

from collections.abc import Sequence

from mosaic_framework.errors import NotFound
from mosaic_framework.names import nearest


def no_such_host(name: str, known: Sequence[str]) -> NotFound:
    """Return the error for a host that is not there."""
    close = nearest(name, known)
    return NotFound(
        f"there is no host {name!r}",
        why=f"the nearest names are {', '.join(close)}" if close else "no host has a name like it",
        next_step="mosaic host ls",
        details={"nearest": " ".join(close)} if close else {},
    )
