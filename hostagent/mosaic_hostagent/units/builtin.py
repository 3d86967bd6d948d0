"""Supervision by the host-agent itself, for machines without systemd: it starts seats, and starts them again."""

# ruff: noqa: ARG002 - what others need to know of a seat, this one observes

from __future__ import annotations

from collections.abc import Collection

from mosaic_hostagent.seats import ServerKey, Session
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.terminal.server import Launch
from mosaic_hostagent.units.supervision import BUILT_IN, Standing


class BuiltIn:
    """The host-agent's own rounds are the supervisor: nothing happens to a seat while it does not run."""

    restarts = False

    def __init__(self, pool: ServerPool) -> None:
        self._pool = pool

    async def start(self, launch: Launch, server: ServerKey) -> Session:
        """Start a program in a session of its own. Raises FleetError."""
        return await self._pool.get(server).start(launch)

    async def adopt(self, launch: Launch, server: ServerKey) -> None:
        """Nothing is to be done: whoever is observed is kept."""

    async def renew(self, launch: Launch, server: ServerKey) -> None:
        """Nothing is to be done: each start is prepared when it is due."""

    async def let_go(self, agent_id: str, *, for_good: bool) -> None:
        """Nothing is to be done: it acts only when told to."""

    async def keep_only(self, agent_ids: Collection[str]) -> None:
        """Nothing is to be done: there is no second list of seats."""

    async def awaited(self, agent_ids: Collection[str]) -> frozenset[str]:
        """Nothing starts here by itself."""
        return frozenset()

    def keeps(self, agent_id: str) -> bool:
        """Every observed seat is kept."""
        return True

    def standing(self, agent_id: str, name: str) -> Standing:
        """No seat comes back at boot unless somebody starts the host-agent."""
        return Standing(BUILT_IN, "", enabled=False)
