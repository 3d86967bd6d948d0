"""Where files live, and how private ones are written."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.errors import FleetError


class UnsafePath(FleetError):
    """Others could read or replace this file."""

    code = "unsafe-path"


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one `$MOSAIC_HOME`."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """Return the home that MOSAIC_HOME names, else `~/.config/mosaic`."""
        named = os.environ.get("MOSAIC_HOME")
        return cls(Path(named).expanduser().absolute() if named else Path.home() / ".config" / "mosaic")

    @property
    def digest(self) -> str:
        """8 hex digits that name this home where a whole path would be too long."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]

    @property
    def config(self) -> Path:
        """The CLI's settings and contexts."""
        return self.root / "config.yaml"

    @property
    def pki(self) -> Path:
        """Keys, certificates and bundles."""
        return self.root / "pki"

    @property
    def state(self) -> Path:
        """Databases and journals."""
        return self.root / "state"

    @property
    def logs(self) -> Path:
        """Log files of the background processes."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Pid files, locks and what running processes tell one another."""
        return self.root / "run"

    @property
    def fleet(self) -> Path:
        """The roster and people's own layers."""
        return self.root / "fleet"

    def sockets(self) -> Path:
        """Return (made, 0700) the folder for unix sockets: short, because a socket path holds 108 bytes."""
        return private_folder(runtime_root() / self.digest)


def runtime_place() -> Path:
    """Return where this user's folder of sockets and locks is: `$XDG_RUNTIME_DIR/mosaic` or `/tmp/mosaic-<uid>`."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        return Path(base) / "mosaic"
    return Path(tempfile.gettempdir()) / f"mosaic-{os.getuid()}"


def runtime_root() -> Path:
    """Return (made, 0700) this user's folder of sockets and locks."""
    return private_folder(runtime_place())


def tmux_folder(environment: Mapping[str, str]) -> Path:
    """Return (not made) where this user's tmux keeps its sockets; it may lie behind links."""
    return Path(environment.get("TMUX_TMPDIR") or "/tmp").resolve() / f"tmux-{os.getuid()}"  # noqa: S108 - tmux's own place


def private_folder(path: Path) -> Path:
    """Make `path` 0700 with its parents, and return it. Raises UnsafePath when it is a link or somebody else's."""
    for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)  # `parents=True` would leave those between open to the umask
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid():
        raise UnsafePath(f"{path} is a link or belongs to another user", next_step=f"look at it: ls -ld {path}")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` with `content` atomically, 0600 in a 0700 folder, on disk when this returns."""
    private_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
