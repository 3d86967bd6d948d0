"""Who can get at keys, journals and sockets: whoever can write to a pane is whoever can open its socket."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.paths import Home, runtime_place
from mosaic_framework.users import user_name

from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding

_SHOWN = 5
_TMUX_FOLDER = "/tmp"  # noqa: S108 - tmux's own choice, whatever TMPDIR says


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or file as it is: permission bits, owner, and whether it is a link."""

    path: Path
    mode: int
    owner: int
    is_link: bool = False


def check(home: Home, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the home, and at the folders in which sockets are."""
    if not home.root.exists():
        yield Finding("files", NOTE, f"{home.root} does not exist yet", "mosaic up")
    elif not home.root.is_dir():
        text = f"{home.root} is a file: the home must be a folder"
        yield Finding("files", WRONG, text, "move it away, or name another place in MOSAIC_HOME")
    else:
        yield from judge_files(home.root, [_place(path) for path in _private_paths(home)])
    sockets = [_place(path) for path in socket_folders(home, environment) if os.path.lexists(path)]
    yield from judge_sockets(sockets, user=user_name(), uid=os.getuid())


def judge_files(root: Path, places: list[Place]) -> Iterator[Finding]:
    """Nobody else may read what lies in the home: keys, tokens, journals."""
    unsafe = [place for place in places if place.mode & 0o077]
    for place in unsafe[:_SHOWN]:
        yield Finding(
            "files", WRONG, f"others can get at {place.path} (mode {place.mode:o})", f"chmod go= {place.path}"
        )
    if len(unsafe) > _SHOWN:
        yield Finding("files", WRONG, f"and {len(unsafe) - _SHOWN} more", f"chmod -R go= {root}")
    if not unsafe:
        yield Finding("files", WELL, f"{root} is closed to others")


def judge_sockets(places: list[Place], *, user: str, uid: int) -> Iterator[Finding]:
    """Nobody else may enter a folder of sockets: who can, can type into every pane."""
    well = True
    for place in places:
        if place.is_link or place.owner != uid:
            whose = "a link" if place.is_link else f"of user {place.owner}"
            text = f"{place.path} is {whose}: its owner can type into panes"
            yield Finding("sockets", WRONG, text, f"look at it: ls -ld {place.path}")
            well = False
        elif place.mode & 0o077:
            text = f"others can enter {place.path} (mode {place.mode:o}), and type into panes"
            yield Finding("sockets", WRONG, text, f"chmod 700 {place.path}")
            well = False
    if well:
        yield Finding("sockets", WELL, f"only {' and '.join(dict.fromkeys((user, 'root')))} can write to panes here")


def socket_folders(home: Home, environment: Mapping[str, str]) -> list[Path]:
    """Return the folders with sockets of panes: the host-agent's, and those of the tmux servers in use."""
    root = runtime_place()
    base = Path(environment.get("TMUX_TMPDIR") or _TMUX_FOLDER)
    bases = [base, *(Path(server["tmux_tmpdir"] or _TMUX_FOLDER) for server in tmux_servers(home))]
    tmux = dict.fromkeys(one / f"tmux-{os.getuid()}" for one in bases)
    return [root, root / home.digest, *tmux]


def tmux_servers(home: Home) -> list[dict[str, str]]:
    """Return the tmux servers on which this home has sessions: socket_name, holder, tmux_tmpdir."""
    try:
        found = json.loads((home.state / "tmux-servers.json").read_text("utf-8"))
        return [{key: str(row.get(key, "")) for key in ("socket_name", "holder", "tmux_tmpdir")} for row in found]
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return []  # a damaged list is told by the host-agent, whose file it is


def _private_paths(home: Home) -> Iterator[Path]:
    # Inside a closed folder the mode of a folder does not matter; these are closed each by itself.
    yield from (folder for folder in (home.root, home.pki, home.run, home.logs) if folder.exists())
    yield from (path for path in home.root.rglob("*") if path.is_file() and not path.is_symlink())


def _place(path: Path) -> Place:
    found = path.lstat()
    return Place(path, stat.S_IMODE(found.st_mode), found.st_uid, stat.S_ISLNK(found.st_mode))
