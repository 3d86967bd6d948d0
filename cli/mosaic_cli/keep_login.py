"""The login of this machine's own `mosaic up`, kept good by its supervisor: who is away for days finds it as it was.

It is renewed as any login is, by what it still proves: one that has ended, or was revoked, stays so. In a process of
its own, since the supervisor starts others and so must not have gRPC in it.
"""

from __future__ import annotations

import asyncio
import sys

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home

from mosaic_cli import context
from mosaic_cli.context import LOCAL

LOOK_SECONDS = 60.0

log = structlog.get_logger(__name__)


def is_due(home: Home) -> bool:
    """Whether the machine's own login is good still, and old enough to be renewed."""
    try:
        known = context.load(home)
        if LOCAL not in known.names:
            return False
        identity = StoredIdentity.load(known.get(LOCAL).identity_folder(home))
    except (FleetError, OSError):
        return False  # whoever uses it is told
    return identity.due() and not identity.expired()


async def keep_login(home: Home) -> None:
    """Renew it whenever it is due, until cancelled."""
    while True:
        if is_due(home):
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mosaic_cli.keep_login",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                _, told = await child.communicate()
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
            if is_due(home):
                log.warning("this machine's login could not be renewed", why=told.decode(errors="replace")[-300:])
            else:
                log.info("this machine's login was renewed")
        await asyncio.sleep(LOOK_SECONDS)


def main() -> None:
    """Renew it once; a connection does so by itself."""
    from mosaic_cli.client import connect

    with connect(LOCAL):
        pass


if __name__ == "__main__":
    main()
