"""The backlog as a whole: its parts made and joined."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from mosaic_framework.errors import FleetError

from mosaic_controlplane.backlog.cards import Cards
from mosaic_controlplane.backlog.claiming import Claiming, completed
from mosaic_controlplane.backlog.dependencies import Dependencies
from mosaic_controlplane.backlog.errors import CardNotFound, HostDraining
from mosaic_controlplane.backlog.exchange import Exchange
from mosaic_controlplane.backlog.standing import held_card, resolve
from mosaic_controlplane.backlog.transitions import Transitions
from mosaic_controlplane.backlog.views import Views
from mosaic_controlplane.backlog.wishes import AGENT_LEASE, Wish
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import card_claim as claim_table
from mosaic_controlplane.register import card_lease as lease_table
from mosaic_controlplane.register import card_transition as transition_table
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import host_life
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import Completed, Completion, Taken
from mosaic_controlplane.register.card_lease import HeldByRun
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.host import LinkKey


class Backlog:
    """The backlogs of all tenants. `hot`: connections with card_claim.HOT_SETTINGS, for claims and completions."""

    def __init__(self, database: Database, hot: Database, wakes: Wakes) -> None:
        self.database = database
        self.claiming = Claiming(hot, wakes)
        self.cards = Cards(database, self.claiming)
        self.dependencies = Dependencies(database, self.claiming)
        self.transitions = Transitions(database, self.claiming)
        self.views = Views(database)
        self.exchange = Exchange(database, self.claiming)

    async def complete(self, tenant_id: UUID, completion: Completion) -> CardRow:
        """Complete the card that is named whole or by a prefix, or else the one that the actor holds."""
        if not completion.card_id:
            return await self.claiming.complete(tenant_id, await self._named(tenant_id, completion))
        try:
            return await self.claiming.complete(tenant_id, completion)
        except CardNotFound:
            async with self.database.connection() as connection:
                named = await resolve(connection, tenant_id=tenant_id, card_id=completion.card_id)
            return await self.claiming.complete(tenant_id, replace(completion, card_id=named))

    async def _named(self, tenant_id: UUID, completion: Completion) -> Completion:
        """Return a completion that names no card with the one it is of. Raises NotHolder or Ambiguous.

        Repeated after its answer was lost, it is of the card that it completed then: the actor may hold another by now.
        """
        async with self.database.connection() as connection:
            written = await transition_table.written_by(
                connection, request_id=completion.request_id, actor_id=completion.actor.id, place=completion.place
            )
            if written is not None:
                return replace(completion, card_id=written[1])
            held = await held_card(connection, tenant_id=tenant_id, actor=completion.actor)
        return replace(completion, card_id=held)

    async def work(
        self, tenant_id: UUID, done: Sequence[Completion], wish: Wish | None
    ) -> tuple[list[tuple[Completion, CardRow | FleetError]], list[Taken]]:
        """Complete what is done and claim what is wished for, in one statement; returns what came of each.

        A card that is not named whole is completed apart, by `complete`.
        """
        came_of_it: dict[int, CardRow | FleetError] = {}
        done = list(done)
        for place, one in enumerate(done):
            if not one.card_id:  # before the next one is claimed, which would be held as well
                try:
                    done[place] = await self._named(tenant_id, one)
                except FleetError as error:
                    came_of_it[place] = error
        named = {one.card_id: place for place, one in enumerate(done) if one.card_id}
        at_once = [done[place] for place in sorted(named.values())]
        answers, taken = await self.claiming.work(tenant_id, at_once, wish) if at_once or wish else ([], [])
        for one, answer in zip(at_once, answers, strict=True):
            if answer.card is not None:
                came_of_it[named[one.card_id]] = _told(one, answer)
        try:
            for place, one in enumerate(done):
                if place not in came_of_it:
                    try:
                        came_of_it[place] = await self.complete(tenant_id, one)
                    except FleetError as error:
                        came_of_it[place] = error
        except asyncio.CancelledError:
            self.claiming.untold(tenant_id, wish, taken)
            raise
        return [(one, came_of_it[place]) for place, one in enumerate(done)], taken

    async def paused(self, tenant_id: UUID) -> bool:
        """Whether nothing of a tenant is claimed now."""
        async with self.database.connection() as connection:
            return (await claim_table.paused(connection, tenant_id=tenant_id)).paused

    async def check_host(self, caller: Caller) -> None:
        """Raise HostDraining when the caller is an agent who gets no card because its host is being drained."""
        if caller.kind != "agent" or caller.host_id is None:
            return
        async with self.database.connection() as connection:
            draining = await host_life.is_draining(connection, tenant_id=caller.tenant_id, host_id=caller.host_id)
        if draining:
            raise HostDraining(
                f"host {caller.host} is being drained", why="until it is back its agents claim nothing new"
            )

    async def renew_runs(self, link: LinkKey, run_ids: list[UUID]) -> list[HeldByRun]:
        """A host vouches for runs of its seats: renew what they hold, and return it. Raises LinkSuperseded."""
        async with self.database.transaction() as connection:
            await host_table.hold_link(connection, link)
            return await lease_table.renew_runs(
                connection, tenant_id=link.tenant_id, host_id=link.host_id, run_ids=run_ids, lease=AGENT_LEASE
            )


def _told(completion: Completion, answer: Completed) -> CardRow | FleetError:
    try:
        return completed(completion, answer)
    except FleetError as error:
        return error
