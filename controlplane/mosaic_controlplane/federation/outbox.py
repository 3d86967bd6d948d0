"""The outbox: what waits here for peers that are away is handed over when they answer, or is ended at its deadline.

What they have is asked after until it has come to its end there, so that what is told of it here does not stay behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

import structlog
from mosaic_framework.errors import FleetError, LimitReached, Unreachable

from mosaic_controlplane.federation.sending import PeerSends
from mosaic_controlplane.identity.caller import NO_TENANT
from mosaic_controlplane.mesh.wakes import RESCAN_SECONDS, Wakes, wait_for_wake
from mosaic_controlplane.register import peer_message as table
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer_message import PeerMessageRow
from mosaic_controlplane.register.replica import WakeKey

AT_ONCE = 100
"""The most messages that one look takes for one peer."""

ASKED_AT_ONCE = 20
"""The most messages that one look asks one peer after."""

PAUSE_FIRST, PAUSE_MOST = 1.0, 15.0
"""Seconds until a peer that was away is tried again: doubled each time, and at once when it is heard of meanwhile."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Away:
    """A peer that did not answer: when it is tried again, and when it had been heard of by then."""

    heard_at: datetime | None
    pause: float = PAUSE_FIRST
    again_at: float = 0.0


class Outbox:
    """Hands over what waits. One replica does it at a time; were it two, the peers would take everything once still."""

    def __init__(self, database: Database, wakes: Wakes, sends: PeerSends) -> None:
        self._database = database
        self._wakes = wakes
        self._sends = sends
        self._away: dict[UUID, _Away] = {}

    async def run(self) -> None:
        """Hand over until cancelled."""
        async with self._wakes.watching(WakeKey.outbox(NO_TENANT)) as wake:
            while True:
                more = False
                try:
                    more = await self.flush()
                    await self.ask_after()
                except Unreachable as error:
                    log.warning("the outbox could not be looked through", why=error.why or error.what)
                if not more:
                    await wait_for_wake(wake, self._pause())

    async def flush(self, peer_id: UUID | None = None) -> bool:
        """Hand over what waits for all peers that may be there, or for this one whether or not it was away.

        Returns whether there may be more to hand over at once.
        """
        async with self._database.connection() as connection:
            ended = await table.expire(connection)
            due = await table.due(connection, peer_id=peer_id, limit=AT_ONCE)
        self._wakes.tell(
            *(key for tenant, one in ended for key in (WakeKey.message(tenant, one), WakeKey.change(tenant)))
        )
        by_peer = [list(rows) for _, rows in groupby(due, key=lambda row: row.peer_id)]
        self._away = {rows[0].peer_id: self._away[rows[0].peer_id] for rows in by_peer if rows[0].peer_id in self._away}
        tried = [rows for rows in by_peer if peer_id is not None or self._may_be_there(rows[0])]
        done = await asyncio.gather(*(self._hand_over(rows) for rows in tried))
        return AT_ONCE in done

    async def ask_after(self) -> None:
        """Ask the peers that may be there how far messages are that they have not told the end of."""
        async with self._database.connection() as connection:
            rows = await table.on_their_way(connection, limit=ASKED_AT_ONCE)
        by_peer = [list(rows) for _, rows in groupby(rows, key=lambda row: row.peer_id)]
        await asyncio.gather(*(self._ask_after(rows) for rows in by_peer if self._may_be_there(rows[0])))

    async def _ask_after(self, rows: Sequence[PeerMessageRow]) -> None:
        for row in rows:
            async with self._database.connection() as connection:
                await table.asked(connection, tenant_id=row.tenant_id, message_id=row.message_id)
            try:
                await self._sends.settle(row)
            except FleetError as error:  # it is asked again, and more and more rarely
                log.info("a peer does not say how far a message is", message=str(row.message_id), code=error.code)
                return

    def _may_be_there(self, row: PeerMessageRow) -> bool:
        away = self._away.get(row.peer_id)
        return away is None or away.heard_at != row.heard_at or time.monotonic() >= away.again_at

    def _pause(self) -> float:
        soonest = min((away.again_at for away in self._away.values()), default=float("inf"))
        return max(0.05, min(RESCAN_SECONDS, soonest - time.monotonic()))

    async def _hand_over(self, rows: Sequence[PeerMessageRow]) -> int:
        """Hand over to one peer, the oldest first, until it is away; returns how many do not wait any more."""
        settled = 0
        for row in rows:
            try:
                await self._one(row)
                settled += 1
            except LimitReached as error:
                log.info("a message to a peer waits on", message=str(row.message_id), peer=row.peer, why=error.what)
            except Unreachable as error:
                away = self._away.setdefault(row.peer_id, _Away(row.heard_at))
                if away.again_at == 0.0:
                    log.info("a peer with messages waiting is away", peer=row.peer, why=error.why or error.what)
                away.heard_at, away.again_at = row.heard_at, time.monotonic() + away.pause
                away.pause = min(2 * away.pause, PAUSE_MOST)
                return settled
            except FleetError as error:
                log.info("a peer refused a message", message=str(row.message_id), peer=row.peer, code=error.code)
                settled += 1
        self._away.pop(rows[0].peer_id, None)
        return settled

    async def _one(self, row: PeerMessageRow) -> None:
        if row.state == "offered" and not row.queued:
            await self._sends.settle(row)
            return
        async with self._database.connection() as connection:
            attempt = await table.offer(connection, tenant_id=row.tenant_id, message_id=row.message_id, by_sender=False)
        if attempt is not None:
            await self._sends.hand_over(row, attempt)
