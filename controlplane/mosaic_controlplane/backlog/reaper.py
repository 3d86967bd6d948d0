"""The reaper: the only one that makes a card claimable again whose lease ran out. One at a time over all replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from mosaic_framework.errors import FleetError

from mosaic_controlplane.backlog.claiming import Claiming
from mosaic_controlplane.backlog.notices import tell_of_limit
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import card_lease as lease_table
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.replica import WakeKey
from mosaic_controlplane.register.singleton import elected

DUTY = "backlog-reaper"
TICK_SECONDS = 0.5
ELECTION_SECONDS = 1.0
AT_ONCE = 500

log = structlog.get_logger(__name__)


class Reaper:
    """Ticks where it is elected; elsewhere it stands by."""

    def __init__(
        self, database: Database, claiming: Claiming, wakes: Wakes, *, tick_seconds: float = TICK_SECONDS
    ) -> None:
        self._database = database
        self._claiming = claiming
        self._wakes = wakes
        self._tick_seconds = tick_seconds

    async def run(self) -> None:
        """Reap, or stand by, until cancelled."""
        while True:
            try:
                async with elected(self._database, DUTY) as connection:
                    while connection is not None:
                        if await self.tick(connection) < AT_ONCE:
                            await asyncio.sleep(self._tick_seconds)
            except FleetError as error:
                log.warning("the reaper has lost the register", why=error.why or error.what)
            except Exception:  # one tick that failed must not end the replica: the next does its work
                log.exception("a tick of the reaper failed")
            await asyncio.sleep(ELECTION_SECONDS)

    async def tick(self, connection: Connection) -> int:
        """Take back what ran out, and tell the agents that came to their limit; returns how many cards that were."""
        wakes: list[WakeKey] = []
        async with connection.transaction():
            gap = await lease_table.tick(connection)
            expired = await lease_table.expire(connection, limit=AT_ONCE)
            for card, at_limit in expired:
                if at_limit:
                    wakes += await tell_of_limit(connection, card)
        if gap is not None:
            log.warning("leases were extended: no reaper had ticked", seconds=round(gap.total_seconds(), 1))
        self._wakes.tell(*wakes)
        self._tell(card for card, _ in expired)
        return len(expired)

    def _tell(self, expired: Iterable[CardRow]) -> None:
        for card in expired:
            log.info(
                "a claim ran out", card=card.card_id, holder=card.holder_name, fence=card.fence, status=card.status
            )
            if card.claimable:
                self._claiming.claimable(card.tenant_id, card.place)
