"""Who this process runs as, in words."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """Return this user's name; their number where there is no account, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the first until Python 3.12, the second from 3.13 on
        return str(os.getuid())
