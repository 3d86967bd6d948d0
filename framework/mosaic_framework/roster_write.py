"""Writing a roster file without losing what a person wrote: what would change, who wrote the old one, a backup of it.

`$MOSAIC_HOME/state/written.json` holds the digest of each roster as the tool last wrote it; a file of another digest
was edited by hand and is replaced only by force.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mosaic_framework.errors import Conflict, FleetError, NotFound
from mosaic_framework.paths import Home, write_private
from mosaic_framework.roster_file import FILE_NAMES, roster_path

Kind = Literal["created", "changed", "unchanged"]


class RosterHandEdited(Conflict):
    """This roster was edited by hand."""

    code = "roster-hand-edited"


class RosterExists(Conflict):
    """There is a roster already."""

    code = "roster-exists"


class RosterMoved(Conflict):
    """The roster file was changed by something else meanwhile."""

    code = "roster-moved"
    hint = "run it again"


class RosterUnwritable(FleetError):
    """The roster cannot be written."""

    code = "roster-unwritable"


@dataclass(frozen=True, slots=True)
class Writing:
    """A roster file about to be written. `before` None: there is none yet. `by_tool`: nobody edited it since we did."""

    path: Path
    before: bytes | None
    after: str
    by_tool: bool
    already: bool = False

    @property
    def kind(self) -> Kind:
        """What it does to the file. `already`: the file says the same, in words of its own."""
        if self.before is None:
            return "created"
        return "unchanged" if self.already or self.before == self.after.encode() else "changed"

    def diff(self) -> list[str]:
        """Return the unified difference, a line each without its end."""
        if self.kind == "unchanged":
            return []
        old = "" if self.before is None else self.before.decode("utf-8", "replace")
        name = str(self.path)
        return list(difflib.unified_diff(old.splitlines(), self.after.splitlines(), name, f"{name} (new)", lineterm=""))


def roster_target(home: Home, given: Path | None) -> Path:
    """Return which file to write: the one given, the roster that is there, else `fleet/roster.yaml`; links followed."""
    if given is not None:
        return Path(os.path.realpath(given.expanduser()))
    try:
        return Path(os.path.realpath(roster_path(home)))
    except NotFound:
        return home.fleet / FILE_NAMES[0]


def plan_writing(home: Home, path: Path, after: str, *, says_same: Callable[[bytes], bool] | None = None) -> Writing:
    """Return what writing `after` to `path` would do. `says_same(content)`: whether a file needs no change at all.

    Raises RosterUnwritable: what is there cannot be read.
    """
    try:
        before: bytes | None = path.read_bytes()
    except FileNotFoundError:
        before = None
    except OSError as error:
        raise RosterUnwritable(f"{path} cannot be read", why=error.strerror or str(error)) from error
    by_tool = before is None or _read_memory(home).get(str(path)) == _digest(before)
    already = before is not None and says_same is not None and says_same(before)
    return Writing(path, before, after, by_tool, already)


def write_roster(home: Home, writing: Writing, *, force: bool = False) -> Path | None:
    """Write the file, atomically, and return the backup of the one it replaces (None: there was none to replace).

    Raises RosterHandEdited without `force`, RosterMoved when the file is no longer as it was planned from.
    """
    if writing.kind == "unchanged":
        return None
    if writing.kind == "changed" and not writing.by_tool and not force:
        raise RosterHandEdited(
            f"{writing.path} was edited by hand, and this would undo it",
            why=f"{sum(line[:1] in '+-' for line in writing.diff()[2:])} lines differ",
            next_step="look at the difference; --force replaces it and keeps a backup",
        )
    try:
        writing.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (writing.path.read_bytes() if writing.path.exists() else None) != writing.before:
            raise RosterMoved(f"{writing.path} was changed by something else meanwhile")
        backup = _keep(writing) if writing.before is not None else None
        content = writing.after.encode()
        # First the memory: killed in between, the file counts as edited by hand, and nothing of it can be lost.
        _remember(home, writing.path, content)
        replace_file(writing.path, content)
    except OSError as error:
        raise RosterUnwritable(f"{writing.path} cannot be written", why=error.strerror or str(error)) from error
    return backup


def replace_file(path: Path, content: bytes) -> None:
    """Replace `path` atomically, on disk when this returns. Its mode stays (new: 0600), and its folder's."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _keep(writing: Writing) -> Path:
    """Copy the file as it is beside itself, under a name with the time in UTC, and return that."""
    assert writing.before is not None
    now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S%fZ")
    backup = writing.path.with_name(f"{writing.path.name}.{now}.bak")
    replace_file(backup, writing.before)
    return backup


def _memory(home: Home) -> Path:
    return home.state / "written.json"


def _read_memory(home: Home) -> dict[str, str]:
    try:
        found = json.loads(_memory(home).read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # without a memory every file counts as edited by hand: the careful side
        return {}
    return found if isinstance(found, dict) else {}


def _remember(home: Home, path: Path, content: bytes) -> None:
    known = _read_memory(home) | {str(path): _digest(content)}
    write_private(_memory(home), (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
