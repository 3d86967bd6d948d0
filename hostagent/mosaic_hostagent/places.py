"""Who may write to a pane: the folders of sockets, looked at before the first seat is touched."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping

import structlog
from mosaic_framework.errors import Denied
from mosaic_framework.paths import Home, private_folder, tmux_folder

log = structlog.get_logger(__name__)


class NotTheOwner(Denied):
    """This Mosaic home belongs to another user."""

    code = "not-the-owner"


def check_owner(home: Home) -> None:
    """Raise NotTheOwner when this process does not run as the user whom the home belongs to; writes nothing.

    A host is one tenant on one machine, and its Unix user is the boundary: seats of anybody else, root above all, would
    stand outside of it.
    """
    if not home.root.exists():
        return
    owner = home.root.stat().st_uid
    if owner != os.geteuid():
        raise NotTheOwner(
            f"{home.root} belongs to {_name(owner)}, and this host-agent runs as {_name(os.geteuid())}",
            why="a host's agents run as the user whose home it is, and as nobody else",
            next_step=f"run it as that user: sudo -iu '{_name(owner)}', or through that user's systemd",
        )


def close_to_others(home: Home, environment: Mapping[str, str]) -> None:
    """Make the folders of sockets 0700, ours and tmux's; what was open is told. Raises UnsafePath for one not ours."""
    tmux = tmux_folder(environment)
    for folder in (home.sockets(), *([tmux] if tmux.parent.is_dir() else [])):
        if folder.exists() and not folder.is_symlink() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
            log.warning("a folder of sockets was open to others", folder=str(folder))
        private_folder(folder)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # as sudo takes it
