"""Programs of ours as other Unix users, by number: no account is made. Needs root, `unshare` and `setpriv`.

Where the interpreter or the checkout lies behind a folder that others may not enter, such as root's home, the program
gets a mount namespace of its own in which only what it needs is let through.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from pathlib import Path

from tests.support.checkout import ROOT


def missing() -> str:
    """Say why nothing can be run as another user here; empty when it can."""
    if os.geteuid() != 0:
        return "running as another user needs root"
    return "" if all(shutil.which(name) for name in ("unshare", "setpriv")) else "util-linux is not installed"


def as_user(uid: int) -> list[str]:
    """Return what to put before a command to run it as that user, in that user's group alone."""
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT.resolve()}
    covers = {cover for path in needed if (cover := _closed(path)) is not None}
    script = ["hold=$(mktemp -d)", "chmod 755 $hold"]
    behind = sorted(path for path in needed if _closed(path) is not None)
    for index, path in enumerate(behind):
        script += [f"mkdir $hold/{index}", f"mount --bind {shlex.quote(str(path))} $hold/{index}"]
    script += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(cover))}" for cover in sorted(covers)]
    for index, path in enumerate(behind):
        script += [f"mkdir -p {shlex.quote(str(path))}", f"mount --bind $hold/{index} {shlex.quote(str(path))}"]
        script += [f"umount $hold/{index}", f"rmdir $hold/{index}"]
    script += ["rmdir $hold", f'exec setpriv --reuid {uid} --regid {uid} --clear-groups "$@"']
    return ["unshare", "-m", "bash", "-ec", "\n".join(script), "as-user"]


def _closed(path: Path) -> Path | None:
    """Return the first folder above `path` that others may not enter; None when the way is open."""
    for folder in reversed(path.parents):
        if not stat.S_IMODE(folder.stat().st_mode) & stat.S_IXOTH:
            return folder
    return None
