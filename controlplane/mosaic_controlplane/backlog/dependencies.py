"""What cards depend on: dependencies added and removed, so that no card waits for itself."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.backlog import writing
from mosaic_controlplane.backlog.claiming import Claiming
from mosaic_controlplane.backlog.drafts import DEPENDENCY_LIMIT, cycle_through, shown_path
from mosaic_controlplane.backlog.errors import CardEnded
from mosaic_controlplane.backlog.standing import actor_of, resolve
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register import card as card_table
from mosaic_controlplane.register import card_graph as graph_table
from mosaic_controlplane.register import card_transition as transition_table
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_graph import DEPTH_LIMIT
from mosaic_controlplane.register.database import Connection, Database


class LinkRefused(InvalidInput):
    """This dependency cannot be added."""

    code = "dependency-refused"


class Dependencies:
    """The dependencies of every tenant's cards; each call names its caller's."""

    def __init__(self, database: Database, claiming: Claiming) -> None:
        self._database = database
        self._claiming = claiming

    async def link(
        self,
        card_id: str,
        depends_on: Sequence[str],
        *,
        caller: Caller,
        tenant_id: UUID,
        request_id: UUID,
        payload: bytes,
    ) -> tuple[CardRow, list[str]]:
        """Let a card depend on others; returns it and all that it depends on.

        Raises LinkRefused, naming the path, for what no graph may have.
        """
        return await self._change_edges("Link", card_id, depends_on, caller, tenant_id, request_id, payload)

    async def unlink(
        self,
        card_id: str,
        depends_on: Sequence[str],
        *,
        caller: Caller,
        tenant_id: UUID,
        request_id: UUID,
        payload: bytes,
    ) -> tuple[CardRow, list[str]]:
        """Let a card depend on others no longer; returns it and what it still depends on."""
        card, left = await self._change_edges("Unlink", card_id, depends_on, caller, tenant_id, request_id, payload)
        if card.claimable:
            self._claiming.claimable(tenant_id, card.place)
        return card, left

    async def _change_edges(
        self,
        method: str,
        card_id: str,
        depends_on: Sequence[str],
        caller: Caller,
        tenant_id: UUID,
        request_id: UUID,
        payload: bytes,
    ) -> tuple[CardRow, list[str]]:
        if not 1 <= len(depends_on) <= DEPENDENCY_LIMIT:
            raise InvalidInput("no dependency is named" if not depends_on else "too many dependencies are named")
        async with self._database.transaction() as connection:

            async def write() -> list[str]:
                await graph_table.lock_graph(connection, tenant_id=tenant_id)
                named = await resolve(connection, tenant_id=tenant_id, card_id=card_id)
                needed = [
                    await resolve(connection, tenant_id=tenant_id, card_id=one) for one in dict.fromkeys(depends_on)
                ]
                change = self._add_edges if method == "Link" else self._remove_edges
                changed = await change(connection, tenant_id, named, needed)
                if changed:
                    actor = actor_of(caller)
                    await transition_table.note(
                        connection,
                        tenant_id=tenant_id,
                        card_id=named,
                        kind="linked" if method == "Link" else "unlinked",
                        actor=actor,
                        reason=shown_path(changed),
                    )
                    await writing.record(
                        connection,
                        caller,
                        tenant_id=tenant_id,
                        method=method,
                        target=named,
                        request_id=request_id,
                        detail={"depends_on": " ".join(changed)[:1000]},
                    )
                return [named]

            (named,) = await writing.once(
                connection,
                caller,
                tenant_id=tenant_id,
                method=method,
                request_id=request_id,
                payload=payload,
                write=write,
            )
            card = (await card_table.get(connection, tenant_id=tenant_id, card_ids=[named]))[named]
            edges = await graph_table.dependencies(connection, tenant_id=tenant_id, card_ids=[named])
            return card, edges.get(named, [])

    async def _add_edges(self, connection: Connection, tenant_id: UUID, card_id: str, needed: list[str]) -> list[str]:
        if card_id in needed:
            raise LinkRefused("a card cannot depend on itself", why=f"{card_id} → {card_id}")
        known = await graph_table.lock_dependencies(connection, tenant_id=tenant_id, card_ids=needed)
        card = await card_table.lock(connection, tenant_id=tenant_id, card_id=card_id)
        assert card is not None  # cards are never deleted
        has = (await graph_table.dependencies(connection, tenant_id=tenant_id, card_ids=[card_id])).get(card_id, [])
        new = [one for one in needed if one not in has]
        if not new:
            return []
        if card.status not in ("ready", "blocked"):
            raise CardEnded(
                f"card {card_id} is {card.status}",
                why="what it depends on can change only while it is ready or blocked",
                next_step=f"mosaic backlog release {card_id}" if card.status == "claimed" else "",
            )
        if len(has) + len(new) > DEPENDENCY_LIMIT:
            raise LinkRefused(f"card {card_id} would have too many dependencies", why=f"at most {DEPENDENCY_LIMIT:,}")
        for one in new:
            if known[one].status == "cancelled":
                raise LinkRefused(f"card {one} is cancelled, and will never be done")
        below = await graph_table.edges_below(connection, tenant_id=tenant_id, card_ids=new, down_to_depth=card.depth)
        for one in new:
            if cycle := cycle_through(below, card_id, one):
                raise LinkRefused(
                    f"card {card_id} cannot depend on {one}: they would wait for one another",
                    why=shown_path(cycle),
                    details={"path": " ".join(cycle[:40])},
                )
        await graph_table.add_edges(connection, tenant_id=tenant_id, edges=[(card_id, one) for one in new])
        unmet = sum(1 for one in new if known[one].status != "done")
        await graph_table.change_unmet(connection, tenant_id=tenant_id, card_id=card_id, by=unmet)
        offender = await graph_table.settle_depth(connection, tenant_id=tenant_id, card_id=card_id)
        if offender is not None:
            path = await graph_table.deepest_chain(connection, tenant_id=tenant_id, card_id=offender)
            raise LinkRefused(
                f"a chain of dependencies would be longer than {DEPTH_LIMIT:,} cards",
                why=shown_path(path),
                details={"path": " ".join(path[:40])},
            )
        return new

    async def _remove_edges(
        self, connection: Connection, tenant_id: UUID, card_id: str, needed: list[str]
    ) -> list[str]:
        known = await graph_table.lock_dependencies(connection, tenant_id=tenant_id, card_ids=needed)
        await card_table.lock(connection, tenant_id=tenant_id, card_id=card_id)
        removed = await graph_table.remove_edges(connection, tenant_id=tenant_id, card_id=card_id, depends_on=needed)
        unmet = sum(1 for one in removed if known[one].status != "done")
        await graph_table.change_unmet(connection, tenant_id=tenant_id, card_id=card_id, by=-unmet)
        await graph_table.settle_depth(connection, tenant_id=tenant_id, card_id=card_id)
        return removed
