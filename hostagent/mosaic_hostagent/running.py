"""What program really runs in a seat's pane, by its processes and not by what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import psutil
import structlog
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import FleetError
from mosaic_framework.manifest import Manifest
from mosaic_framework.recognise import Recognised, recognise
from mosaic_framework.runtimes import known_runtimes, read_manifest

from mosaic_hostagent.processes import foreground_group
from mosaic_hostagent.seats import Seat, Session

NOTHING = Recognised("", "")

log = structlog.get_logger(__name__)


def what_runs(seat: Seat, session: Session, manifest: Manifest) -> Recognised:
    """Return the runtime that the seat's pane is seen to run, with the model it was started with.

    `NOTHING` where nobody can say, and for a seat with a `command` of its own, whose program is whatever it is.
    A title that a program gave itself hides its arguments; then the model is the one that its launch was given.
    """
    if seat.spec.command:
        return NOTHING
    known = [manifest, *(one for one in _shipped() if one.name != manifest.name)]
    root = _recognised(session.pid, known)
    if root is None or _is_shell(root, known):
        for pid in _in_front(session.pid, looking=root is None):
            inner = _recognised(pid, known)
            if inner is not None and not _is_shell(inner, known):
                return inner
    if root is None:
        return NOTHING
    return root if root.model else Recognised(root.runtime, session.model)


def _recognised(pid: int, known: Sequence[Manifest]) -> Recognised | None:
    try:
        return recognise(psutil.Process(pid).cmdline(), known)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _is_shell(found: Recognised, known: Sequence[Manifest]) -> bool:
    return any(one.name == found.runtime and one.composer.kind == "line" for one in known)


def _in_front(pid: int, *, looking: bool) -> list[int]:
    """Return who has the terminal of the session leader `pid`, and, `looking` behind a wrapper, what it started."""
    front = foreground_group(pid)
    found = [front] if front not in (-1, pid) else []
    if looking:
        try:
            found += [child.pid for child in psutil.Process(pid).children()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return found
    return found


@cache
def _shipped() -> tuple[Manifest, ...]:
    """The runtimes that this program knows of; a broken one of the user's own is told once and left out."""
    catalog = Catalog.open()
    found = []
    for name in known_runtimes(catalog):
        try:
            found.append(read_manifest(catalog, name))
        except FleetError as error:
            log.warning("a runtime manifest cannot be used to recognise programs", runtime=name, why=error.why)
    return tuple(found)
