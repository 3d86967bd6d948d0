"""Whole backlogs out and in: every card with its edges and its history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.backlog import writing
from mosaic_controlplane.backlog.claiming import Claiming
from mosaic_controlplane.backlog.drafts import Draft, Problem, check, check_dependencies
from mosaic_controlplane.backlog.graph import depths, order
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register import card as card_table
from mosaic_controlplane.register import card_graph as graph_table
from mosaic_controlplane.register import card_history as history_table
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_history import EventRow
from mosaic_controlplane.register.database import Connection, Database

IMPORT_LIMIT = 200_000
HISTORY_LIMIT = 10_000
_WAS_CLAIMED = "it was claimed where it was exported"


@dataclass(frozen=True, slots=True)
class Record:
    """A card as it is exchanged. Of an imported row, what follows from other rows is computed anew."""

    card: CardRow
    depends_on: tuple[str, ...]
    history: tuple[EventRow, ...] = ()

    @property
    def draft(self) -> Draft:
        """Return what was once asked for to make it."""
        return Draft(self.card.card_id, self.card.content, self.depends_on, self.card.idempotency_key or "")


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of records: how many were brought in, how many were there; or problems, and nothing was."""

    imported: int
    existed: int
    problems: list[Problem]


class Exchange:
    """Exports and imports of every tenant; each call names its caller's."""

    def __init__(self, database: Database, claiming: Claiming) -> None:
        self._database = database
        self._claiming = claiming

    async def export(self, tenant_id: UUID, *, history: bool) -> AsyncIterator[Record]:
        """Yield every card in the order of creation, all as of one moment."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            async for cards in card_table.everything(connection, tenant_id=tenant_id):
                ids = [card.card_id for card in cards]
                edges = await graph_table.dependencies(connection, tenant_id=tenant_id, card_ids=ids)
                events: dict[str, list[EventRow]] = {}
                if history:
                    events = await history_table.histories(connection, tenant_id=tenant_id, card_ids=ids)
                for card in cards:
                    yield Record(card, tuple(edges.get(card.card_id, ())), tuple(events.get(card.card_id, ())))

    async def bring_in(
        self, records: Sequence[Record], *, caller: Caller, tenant_id: UUID, request_id: UUID
    ) -> Imported:
        """Bring cards in, all or none. One that is there already, and says the same, is passed over."""
        if len(records) > IMPORT_LIMIT:
            raise InvalidInput(f"{len(records):,} cards are too many for one import", why=f"at most {IMPORT_LIMIT:,}")
        problems = check([record.draft for record in records])
        for index, record in enumerate(records):
            if len(record.history) > HISTORY_LIMIT:
                what = f"its history has {len(record.history):,} transitions; at most {HISTORY_LIMIT:,} are allowed"
                problems.append(Problem(index, record.card.card_id, "history", "too-long", what))
        if problems:
            return Imported(0, 0, problems)
        async with self._database.transaction() as connection:
            await graph_table.lock_graph(connection, tenant_id=tenant_id)
            existed, problems = await self._compare(connection, records, tenant_id)
            new = [record for record in records if record.card.card_id not in existed]
            wanted = {record.card.card_id: list(record.depends_on) for record in new}
            outside = sorted({one for needed in wanted.values() for one in needed if one not in wanted})
            known = await graph_table.lock_dependencies(connection, tenant_id=tenant_id, card_ids=outside)
            ordered, _ = order(wanted)
            depth_of = depths(ordered, wanted, {one.card_id: one.depth for one in known.values()})
            index_of = {record.card.card_id: index for index, record in enumerate(records)}
            for found in check_dependencies([record.draft for record in new], known, depth_of):
                # A card may well have come to depend on one that was cancelled after it.
                if found.code != "cancelled-dependency":
                    problems.append(replace(found, index=index_of[found.card_id]))
            if not problems and new:
                await self._add(connection, new, known, depth_of, caller, tenant_id)
                await writing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method="Import",
                    target=f"{len(new)} cards",
                    request_id=request_id,
                )
        if problems:
            return Imported(0, 0, problems)
        self._claiming.claimable(tenant_id)
        return Imported(len(new), len(existed), [])

    async def _compare(
        self, connection: Connection, records: Sequence[Record], tenant_id: UUID
    ) -> tuple[set[str], list[Problem]]:
        """Return the cards that are there already and say the same, and a problem for each other one that is taken."""
        ids = [record.card.card_id for record in records]
        there = await card_table.get(connection, tenant_id=tenant_id, card_ids=ids)
        edges = await graph_table.dependencies(connection, tenant_id=tenant_id, card_ids=list(there))
        keys = [record.card.idempotency_key for record in records if record.card.idempotency_key]
        by_key = await card_table.by_keys(connection, tenant_id=tenant_id, keys=keys)
        existed: set[str] = set()
        problems: list[Problem] = []
        for index, record in enumerate(records):
            card = record.card
            kept = there.get(card.card_id)
            if kept is None:
                if card.idempotency_key in by_key:
                    what = f"its idempotency key is that of card {by_key[card.idempotency_key].card_id}"
                    problems.append(Problem(index, card.card_id, "idempotency_key", "key-reused", what))
                continue
            same = (kept.content, sorted(edges.get(card.card_id, []))) == (card.content, sorted(record.depends_on))
            if same:
                existed.add(card.card_id)
            else:
                what = f"there is another card {card.card_id!r} already"
                problems.append(Problem(index, card.card_id, "id", "exists", what))
        return existed, problems

    async def _add(
        self,
        connection: Connection,
        new: Sequence[Record],
        known: dict[str, graph_table.Dependency],
        depth_of: dict[str, int],
        caller: Caller,
        tenant_id: UUID,
    ) -> None:
        status_of = {record.card.card_id: record.card.status for record in new}
        status_of |= {one.card_id: one.status for one in known.values()}
        rows = []
        events: list[tuple[str, EventRow]] = []
        for record in new:
            card = record.card
            if card.status == "claimed":
                card = replace(card, status="ready", reason=_WAS_CLAIMED, expired=False)
            unmet = sum(1 for one in record.depends_on if status_of[one] != "done")
            rows.append((card, unmet, depth_of[card.card_id]))
            events += [(card.card_id, event) for event in record.history]
        await card_table.bring_in(connection, tenant_id=tenant_id, cards=rows)
        edges = [(record.card.card_id, one) for record in new for one in record.depends_on]
        await graph_table.add_edges(connection, tenant_id=tenant_id, edges=edges)
        await history_table.add_events(connection, tenant_id=tenant_id, events=events)
        imported = [
            (
                card.card_id,
                EventRow(
                    card.changed_at,
                    "imported",
                    card.status,
                    card.fence,
                    caller.kind,
                    caller.id,
                    caller.name,
                    None,
                    card.reason if card.reason == _WAS_CLAIMED else "",
                    {},
                ),
            )
            for card, _, _ in rows
        ]
        await history_table.add_events(connection, tenant_id=tenant_id, events=imported, now=True)
