"""Claims of the seats' runs: while a run lives, its host vouches for it, and the control plane renews what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog
from mosaic_proto.v1 import host_link_pb2 as pb

from mosaic_hostagent.outgoing import Outgoing
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.waiting import wait_at_most

RENEW_SECONDS = 60.0
"""A lease that is renewed for an agent lasts 5 min: four renewals may be lost."""

log = structlog.get_logger(__name__)


def living_runs(residents: Mapping[str, Resident]) -> list[str]:
    """Return the runs whose program lives and is not being ended. Only for these does the host vouch."""
    return sorted(one.run_id for one in residents.values() if one.alive and not one.ending and one.run_id)


class Claims:
    """Vouches for living runs every 60 s, at a new link and when they change; keeps what it is told that they hold.

    A run that is gone is not named any more: its leases run out by themselves. `residents` is the supervisor's, and
    read only.
    """

    def __init__(
        self,
        residents: Mapping[str, Resident],
        outgoing: Outgoing,
        *,
        linked: Callable[[], bool],
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self._residents = residents
        self._outgoing = outgoing
        self._linked = linked
        self._renew_seconds = renew_seconds
        self._now = asyncio.Event()
        self._vouched: list[str] = []
        self._held: list[pb.HeldClaim] = []

    def __len__(self) -> int:
        return len(self._held)

    async def run(self) -> None:
        """Vouch until cancelled."""
        while True:
            if self._linked():
                self._vouched = living_runs(self._residents)
                self._outgoing.answer(pb.HostFrame(runs_alive=pb.RunsAlive(run_ids=self._vouched)))
            await wait_at_most(self._now, self._renew_seconds)
            self._now.clear()

    def link_is_up(self) -> None:
        """A new link: leases may have come near their end without one."""
        self._now.set()

    def seats_changed(self) -> None:
        """A seat is as it was not before: after a restart the link may well be up before its runs are found again."""
        if living_runs(self._residents) != self._vouched:
            self._now.set()

    async def told(self, held: pb.ClaimsHeld) -> None:
        """The control plane says what the runs of this host hold."""
        before = {(one.card_id, one.fence) for one in self._held}
        self._held = list(held.claims)
        for one in self._held:
            if (one.card_id, one.fence) not in before:
                log.info("a run holds a card", agent=one.agent_id, run=one.run_id, card=one.card_id, fence=one.fence)

    def of_agent(self, agent_id: str) -> list[pb.HeldClaim]:
        """Return the cards that a seat's living run held when the control plane told of them last."""
        resident = self._residents.get(agent_id)
        run_id = resident.run_id if resident is not None and resident.alive else ""
        return [one for one in self._held if one.agent_id == agent_id and one.run_id == run_id]
