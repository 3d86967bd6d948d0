"""A backlog over a real register for tests: a tenant, people and agents in it, and replicas that claim side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.backlog.drafts import Draft
from mosaic_controlplane.backlog.reaper import Reaper
from mosaic_controlplane.backlog.standing import actor_of
from mosaic_controlplane.backlog.transitions import Under
from mosaic_controlplane.backlog.wishes import DEFAULT_LEASE, Filter, Wish
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import card as card_table
from mosaic_controlplane.register import card_history as history_table
from mosaic_controlplane.register import replica
from mosaic_controlplane.register.card import CardContent, CardRow
from mosaic_controlplane.register.card_claim import Actor, Completion, Spent, Taken, connect_hot
from mosaic_controlplane.register.card_view import Mismatch
from mosaic_controlplane.register.database import Database
from mosaic_framework.ids import new_id

from tests.support.register_rows import Site

NOTHING = Spent()
ANYTHING = Filter()


@dataclass
class Yard:
    """One replica's backlog, as somebody of one tenant meets it."""

    database: Database
    backlog: Backlog
    wakes: Wakes
    tenant_id: UUID
    tenant: str = "default"

    @property
    def operator(self) -> Caller:
        return Caller("operator", self.tenant_id, self.tenant, UUID(int=7), "anna", "operator", 1, "")

    def agent(self, name: str, *, role: str = "code", agent_id: UUID | None = None) -> Caller:
        return Caller("agent", self.tenant_id, self.tenant, agent_id or new_id(), name, role, 1, "", new_id())

    def worker(self, name: str = "worker") -> Actor:
        """An agent in a run of its own."""
        return Actor("agent", new_id(), name, new_id())

    async def create(self, *ids: str, **content: object) -> None:
        """Make cards that depend on nothing."""
        await self.make([Draft(one, CardContent(f"card {one}", **content)) for one in ids])  # type: ignore[arg-type]

    async def make(self, drafts: Sequence[Draft]) -> list[CardRow]:
        created = await self.backlog.cards.create(
            drafts, caller=self.operator, tenant_id=self.tenant_id, request_id=new_id(), payload=b""
        )
        assert not created.problems, created.problems
        return created.cards

    async def claim(
        self,
        who: Actor,
        card_id: str = "",
        *,
        most: int = 1,
        which: Filter = ANYTHING,
        request_id: UUID | None = None,
        lease: timedelta = DEFAULT_LEASE,
        wait: timedelta = timedelta(0),
    ) -> list[Taken]:
        wish = Wish(request_id or new_id(), who, which, card_id, most, lease, wait)
        return await self.backlog.claiming.claim(self.tenant_id, wish)

    async def complete(
        self, who: Actor, card_id: str, fence: int, *, request_id: UUID | None = None, result: str = ""
    ) -> CardRow:
        completion = Completion(card_id, fence, who, request_id or new_id(), result=result)
        return await self.backlog.complete(self.tenant_id, completion)

    async def release(
        self, who: Actor, card_id: str, fence: int, *, request_id: UUID | None = None, reason: str = "no"
    ) -> CardRow:
        under = Under(request_id or new_id(), who, card_id, fence)
        return await self.backlog.transitions.release(self.tenant_id, under, reason=reason, spent=NOTHING)

    async def block(self, who: Actor, card_id: str, fence: int) -> CardRow:
        under = Under(new_id(), who, card_id, fence)
        return await self.backlog.transitions.block(self.tenant_id, under, reason="waits for a key", spent=NOTHING)

    async def unblock(self, card_id: str) -> CardRow:
        under = Under(new_id(), actor_of(self.operator), card_id)
        return await self.backlog.transitions.unblock(self.tenant_id, under, reason="", caller=self.operator)

    async def link(self, card_id: str, *depends_on: str) -> CardRow:
        card, _ = await self.backlog.dependencies.link(
            card_id, depends_on, caller=self.operator, tenant_id=self.tenant_id, request_id=new_id(), payload=b""
        )
        return card

    async def unlink(self, card_id: str, *depends_on: str) -> CardRow:
        card, _ = await self.backlog.dependencies.unlink(
            card_id, depends_on, caller=self.operator, tenant_id=self.tenant_id, request_id=new_id(), payload=b""
        )
        return card

    async def pause(self, *, paused: bool = True) -> None:
        await self.backlog.transitions.pause(
            self.tenant_id, paused=paused, reason="", caller=self.operator, request_id=new_id()
        )

    async def card(self, card_id: str) -> CardRow:
        async with self.database.connection() as connection:
            return (await card_table.get(connection, tenant_id=self.tenant_id, card_ids=[card_id]))[card_id]

    async def history(self, card_id: str) -> list[str]:
        async with self.database.connection() as connection:
            events = await history_table.history(connection, tenant_id=self.tenant_id, card_id=card_id, limit=1000)
        return [event.kind for event in events]

    async def verify(self) -> list[Mismatch]:
        return (await self.backlog.views.verify(self.tenant_id))[2]

    async def run_out(self, *card_ids: str) -> None:
        """Let the leases of these cards be over, as if nobody had renewed them."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update fleet.card set lease_until = now() - interval '1 second' where card_id = any($1::text[])"
                " and status = 'claimed'",
                list(card_ids),
            )

    async def reap(self) -> int:
        """Tick as the elected reaper does, which has ticked just before."""
        reaper = Reaper(self.database, self.backlog.claiming, self.wakes)
        async with self.database.own() as connection:
            await connection.execute("update fleet.card_reaper set ticked_at = now()")
            return await reaper.tick(connection)

    def of_tenant(self, tenant_id: UUID, name: str) -> Yard:
        """The same replica, as somebody of another tenant meets it."""
        return replace(self, tenant_id=tenant_id, tenant=name)


async def add_tenant(database: Database, name: str) -> UUID:
    tenant_id = new_id()
    async with database.connection() as connection:
        await connection.execute("insert into fleet.tenant (tenant_id, name) values ($1, $2)", tenant_id, name)
    return tenant_id


@asynccontextmanager
async def open_yards(database: Database, *, replicas: int = 1) -> AsyncIterator[list[Yard]]:
    """Run `replicas` backlogs over one register, each with connections of its own, in one tenant."""
    tenant_id = await add_tenant(database, "default")
    async with AsyncExitStack() as stack:
        ids = [new_id() for _ in range(replicas)]
        async with database.connection() as connection:
            for replica_id in ids:
                await replica.arrive(connection, replica_id=replica_id, address="127.0.0.1:1", version="0")
        yield [await stack.enter_async_context(_yard(database, replica_id, tenant_id)) for replica_id in ids]


@asynccontextmanager
async def open_yards_of(site: Site) -> AsyncIterator[Yard]:
    """Run the backlog of the tenant and replica of a site."""
    async with _yard(site.database, site.replica_id, site.tenant_id) as yard:
        yield yard


@asynccontextmanager
async def _yard(database: Database, replica_id: UUID, tenant_id: UUID) -> AsyncIterator[Yard]:
    hot = await connect_hot(database.url)
    try:
        wakes = Wakes(database, replica_id)
        yield Yard(database, Backlog(database, hot, wakes), wakes, tenant_id)
    finally:
        await hot.close()
