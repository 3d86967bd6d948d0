"""How many files and connections this process may have open."""

from __future__ import annotations

import contextlib
import resource

ENOUGH = 65_536


def raise_limit() -> int:
    """Raise this process's own limit as far as it may, up to 65,536; returns what it is now.

    Many systems begin at 1,024, which a control plane of a thousand hosts goes beyond.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    wanted = ENOUGH if unlimited else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # then it stays as it was, and is told
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return ENOUGH if soft == resource.RLIM_INFINITY else soft
