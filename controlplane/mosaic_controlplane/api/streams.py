"""How long a stream may go on: as long as its caller's certificate and standing last; a relay with the register."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from mosaic_framework.errors import FleetError, NotAuthenticated, Unreachable

from mosaic_controlplane.identity.authenticate import Authenticated
from mosaic_controlplane.identity.renewal import identity_of
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh.liveness import AWAY_SECONDS
from mosaic_controlplane.register.database import RegisterUnreachable

RELAYS = frozenset(
    {"mosaic.v1.TerminalService/Watch", "mosaic.v1.TerminalService/Attach", "mosaic.v1.FederationService/WatchTerminal"}
)
"""Streams that need no register once they run, and must not go on when nobody can say any more who may have them."""

RECHECK_SECONDS = 10.0  # how long an agent's stream may outlive its run: nobody tells of that
_LONGEST_WAIT = 60.0  # a machine that was suspended, or whose clock was set, is found out by then

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Streams:
    """Bounds streams. `register_away`: for how many seconds the register has not answered."""

    standings: Standings
    register_away: Callable[[], float]
    recheck_seconds: float = RECHECK_SECONDS

    @asynccontextmanager
    async def while_standing(
        self,
        found: Authenticated,
        method: str,
        *,
        since: int,
        again: Callable[[], Awaitable[Authenticated]],
        ends_with_leaf: bool = True,
    ) -> AsyncIterator[None]:
        """End the block when its caller may not go on: raises what `again`, which looks the caller up, raises then.

        `since`: what `standings.changes` was before `found` was looked up. Without `ends_with_leaf` the end of the
        certificate is for another replica to see to: the one that the caller is connected to.
        """
        lost: list[FleetError] = []

        async def watch(until: asyncio.Timeout) -> None:
            try:
                await self._until_lost(found, method, since, again, ends_with_leaf)
            except FleetError as error:
                lost.append(error)
            until.reschedule(asyncio.get_running_loop().time())

        ended = asyncio.timeout(None)
        watcher: asyncio.Task[None] | None = None
        try:
            async with ended:
                watcher = asyncio.create_task(watch(ended))
                yield
        except TimeoutError:
            if lost and ended.expired():
                raise lost.pop() from None  # kept here, it would keep the call
            raise  # the servicer's own
        finally:
            if watcher is not None:
                watcher.cancel()

    async def _until_lost(
        self,
        found: Authenticated,
        method: str,
        since: int,
        again: Callable[[], Awaitable[Authenticated]],
        ends_with_leaf: bool,
    ) -> None:
        """Return never; raise why the stream must end."""
        caller = found.caller
        relay = method in RELAYS
        with self.standings.watching(identity_of(caller), since=since) as changed:
            while True:
                wait = min(_LONGEST_WAIT, _left(found.not_after)) if ends_with_leaf else _LONGEST_WAIT
                if caller.kind == "agent":
                    wait = min(wait, self.recheck_seconds)
                if relay:
                    wait = min(wait, AWAY_SECONDS - self.register_away())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(wait, 0.01)):
                        await changed.wait()
                ended = ends_with_leaf and _left(found.not_after) <= 0
                due = changed.is_set() or caller.kind == "agent" or ended
                changed.clear()
                if relay and self.register_away() >= AWAY_SECONDS:
                    raise RegisterUnreachable(
                        why=f"terminals are not shown without it for more than {AWAY_SECONDS:g} s"
                    )
                if not due:
                    continue
                try:
                    found = await again()
                except Unreachable:
                    log.warning("could not look a stream's caller up again", caller=caller.key)
                    if ended:
                        raise _expired(found) from None
                    await asyncio.sleep(1.0)
                    changed.set()
                except NotAuthenticated:
                    if ended:
                        raise _expired(found) from None
                    raise


def _left(until: datetime) -> float:
    return (until - datetime.now(UTC)).total_seconds()


def _expired(found: Authenticated) -> NotAuthenticated:
    return NotAuthenticated(
        "the caller's certificate has expired",
        why=f"it was good until {found.not_after:%Y-%m-%d %H:%M:%S} UTC, and no newer one was shown",
        next_step="run it again: it is renewed by itself while the control plane can be reached; else: mosaic login",
    )
