"""Cards of the backlog: what they say, their state, their history. Claims: card_claim.py; edges: card_graph.py."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("card")

ATTEMPT_LIMIT = 5
TIME_LIMIT = timedelta(hours=4)
STATUSES = ("claimed", "review", "blocked", "ready", "done", "cancelled")
"""In the order in which cards are listed: what needs a person comes first."""

_EXPORT_PAGE = 500
_WHENEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CardContent:
    """What a card says. `required_class` empty: any class may take it. Costs in millionths of a currency unit."""

    title: str
    body: str = ""
    mission: str = ""
    phase: str = ""
    priority: int = 0
    acceptance: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    required_class: str = ""
    urgency: str = "normal"
    estimate_cost_micros: int = 0
    estimate_tokens: int = 0
    estimate_seconds: int = 0
    estimate_basis: str = ""
    goals: list[str] = field(default_factory=list)
    requirements: list[str] = field(default_factory=list)
    repository: str = ""
    branch: str = ""
    head: str = ""
    pull_request: str = ""
    evidence: list[str] = field(default_factory=list)
    gated: bool = False
    attempt_limit: int = ATTEMPT_LIMIT
    time_limit: timedelta = TIME_LIMIT


CONTENT_FIELDS = tuple(one.name for one in fields(CardContent))


@dataclass(frozen=True, slots=True)
class NewCard:
    """A card to be added: what it says, and what follows from its dependencies."""

    card_id: str
    content: CardContent
    unmet: int
    depth: int
    idempotency_key: str | None = None
    draft_digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class CardRow:
    """A card as it is now. Columns and their meaning: schema.sql."""

    tenant_id: UUID
    card_id: str
    seq: int
    status: str
    reason: str
    priority: int
    required_class: str
    labels: list[str]
    unmet: int
    depth: int
    ready_since: datetime | None
    fence: int
    attempts: int
    attempt_limit: int
    time_limit: timedelta
    expired: bool
    run_id: UUID | None
    holder_kind: str | None
    holder_id: UUID | None
    holder_name: str | None
    claimed_at: datetime | None
    lease: timedelta | None
    lease_until: datetime | None
    renew_until: datetime | None
    title: str
    body: str
    mission: str
    phase: str
    acceptance: list[str]
    urgency: str
    goals: list[str]
    requirements: list[str]
    repository: str
    branch: str
    head: str
    pull_request: str
    evidence: list[str]
    gated: bool
    estimate_cost_micros: int
    estimate_tokens: int
    estimate_seconds: int
    estimate_basis: str
    spent_cost_micros: int
    spent_tokens: int
    spent_seconds: int
    result: str
    idempotency_key: str | None
    draft_digest: bytes | None
    made_by_kind: str
    made_by_id: UUID
    made_by_name: str
    made_at: datetime
    changed_at: datetime
    finished_at: datetime | None

    @property
    def place(self) -> tuple[int, int]:
        """Return where it stands in the order of claims: the lower, the earlier."""
        return (-self.priority, self.seq)

    @property
    def claimable(self) -> bool:
        """Whether it can be claimed while its tenant is not paused."""
        return self.status == "ready" and self.unmet == 0

    @property
    def content(self) -> CardContent:
        """Return what it says."""
        return CardContent(**{name: getattr(self, name) for name in CONTENT_FIELDS})


_ROW_FIELDS = tuple(one.name for one in fields(CardRow))


def card_row(found: Any) -> CardRow:
    """Return the row that a query gives as one value of type fleet.card."""
    return CardRow(*[found[name] for name in _ROW_FIELDS])


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes or changes a card."""

    kind: str
    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """One transition of a card. `status` and `fence` are those afterwards."""

    at: datetime
    kind: str
    status: str
    fence: int
    actor_kind: str
    actor_id: UUID
    actor_name: str
    run_id: UUID | None
    reason: str
    details: dict[str, str]
    waited: timedelta | None = None


_EVENT_FIELDS = tuple(one.name for one in fields(EventRow))


@dataclass(frozen=True, slots=True)
class PageFilter:
    """Which cards a listing shows; empty: any."""

    required_class: str = ""
    labels: Sequence[str] = ()
    mission: str = ""
    phase: str = ""
    holder: str = ""
    repository: str = ""
    text: str = ""
    goal: str = ""
    requirement: str = ""

    def parameters(self) -> tuple[object, ...]:
        """Return the parameters that both queries of pages take in the middle."""
        return (
            self.required_class,
            list(self.labels),
            self.mission,
            self.phase,
            self.holder,
            self.repository,
            self.text,
            self.goal,
            self.requirement,
        )


@dataclass(frozen=True, slots=True)
class CountRow:
    """How many cards have one status, one required class, and something unmet or not; and what they cost."""

    status: str
    free: bool
    required_class: str
    cards: int
    spent_cost_micros: int
    spent_tokens: int
    spent_seconds: int
    estimate_cost_micros: int
    estimate_tokens: int
    estimate_seconds: int
    leases_over: int


@dataclass(frozen=True, slots=True)
class FlowRow:
    """Transitions of one kind within a window, and how long each had waited, in seconds."""

    kind: str
    events: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Something kept about a card that is not what follows from the other rows."""

    card_id: str
    what: str
    kept: str
    found: str


def _content_parameters(content: CardContent) -> list[object]:
    return [getattr(content, name) for name in CONTENT_FIELDS]


async def add(connection: Connection, *, tenant_id: UUID, cards: Sequence[NewCard], maker: Maker) -> None:
    """Add ready cards with their first event. asyncpg's UniqueViolationError: an id or key is taken."""
    await connection.executemany(
        SQL.add,
        [
            (
                tenant_id,
                card.card_id,
                *_content_parameters(card.content),
                card.idempotency_key,
                card.draft_digest,
                card.unmet,
                card.depth,
                maker.kind,
                maker.id,
                maker.name,
            )
            for card in cards
        ],
    )
    created = EventRow(_WHENEVER, "created", "ready", 0, maker.kind, maker.id, maker.name, None, "", {})
    await add_events(connection, tenant_id=tenant_id, events=[(card.card_id, created) for card in cards], now=True)


async def bring_in(connection: Connection, *, tenant_id: UUID, cards: Sequence[tuple[CardRow, int, int]]) -> None:
    """Add cards as they were exported, each with its unmet count and depth. Their history is added apart."""
    await connection.executemany(
        SQL.bring_in,
        [
            (
                tenant_id,
                card.card_id,
                *_content_parameters(card.content),
                card.idempotency_key,
                card.draft_digest,
                unmet,
                depth,
                card.made_by_kind,
                card.made_by_id,
                card.made_by_name,
                card.status,
                card.ready_since,
                card.reason,
                card.fence,
                card.attempts,
                card.expired,
                card.spent_cost_micros,
                card.spent_tokens,
                card.spent_seconds,
                card.result,
                card.made_at,
                card.changed_at,
                card.finished_at,
                card.holder_kind,
                card.holder_id,
                card.holder_name,
                card.run_id,
                card.claimed_at,
            )
            for card, unmet, depth in cards
        ],
    )


async def add_events(
    connection: Connection, *, tenant_id: UUID, events: Sequence[tuple[str, EventRow]], now: bool = False
) -> None:
    """Add transitions to histories. `now`: their time is the transaction's."""
    await connection.executemany(
        SQL.add_event,
        [
            (
                tenant_id,
                card_id,
                None if now else event.at,
                event.kind,
                event.status,
                event.fence,
                event.actor_kind,
                event.actor_id,
                event.actor_name,
                event.run_id,
                event.reason,
                json.dumps(event.details) if event.details else None,
            )
            for card_id, event in events
        ],
    )


async def get(connection: Connection, *, tenant_id: UUID, card_ids: Sequence[str]) -> dict[str, CardRow]:
    """Return the cards there are of these ids."""
    rows = await connection.fetch(SQL.get, tenant_id, list(card_ids))
    return {row["card"]["card_id"]: card_row(row["card"]) for row in rows}


async def by_prefix(connection: Connection, *, tenant_id: UUID, prefix: str) -> list[str]:
    """Return up to six ids that begin with `prefix`."""
    return [row["card_id"] for row in await connection.fetch(SQL.by_prefix, tenant_id, prefix)]


async def beside(connection: Connection, *, tenant_id: UUID, card_id: str, most: int) -> list[str]:
    """Return up to `most` ids on either side of `card_id` in the order of ids."""
    return [row["card_id"] for row in await connection.fetch(SQL.beside, tenant_id, card_id, most)]


async def by_keys(connection: Connection, *, tenant_id: UUID, keys: Sequence[str]) -> dict[str, CardRow]:
    """Return the cards that were made with these idempotency keys."""
    rows = await connection.fetch(SQL.by_keys, tenant_id, list(keys))
    return {row["card"]["idempotency_key"]: card_row(row["card"]) for row in rows}


async def lock(connection: Connection, *, tenant_id: UUID, card_id: str) -> CardRow | None:
    """Lock a card against every other write until the transaction ends; None when there is none."""
    found = await connection.fetchval(SQL.lock, tenant_id, card_id)
    return None if found is None else card_row(found)


async def set_content(connection: Connection, *, tenant_id: UUID, card_id: str, content: CardContent) -> CardRow:
    """Change what a card says."""
    return card_row(
        await connection.fetchval(SQL.set_content, tenant_id, card_id, *_content_parameters(content)),
    )


async def page(
    connection: Connection, *, tenant_id: UUID, status: str, after: int, wanted: PageFilter, limit: int
) -> list[CardRow]:
    """Return cards of one status after the one of that seq, oldest first."""
    rows = await connection.fetch(SQL.page, tenant_id, status, after, *wanted.parameters(), limit)
    return [card_row(row["card"]) for row in rows]


async def page_ready(
    connection: Connection, *, tenant_id: UUID, after: tuple[int, int], wanted: PageFilter, limit: int
) -> list[CardRow]:
    """Return what can be claimed now after that place, in the order of claims."""
    rows = await connection.fetch(SQL.page_ready, tenant_id, *after, *wanted.parameters(), limit)
    return [card_row(row["card"]) for row in rows]


async def everything(connection: Connection, *, tenant_id: UUID) -> AsyncIterator[list[CardRow]]:
    """Yield every card in the order of creation, a few hundred at a time. The connection is in a transaction."""
    cursor = await connection.cursor(SQL.everything, tenant_id)
    while rows := await cursor.fetch(_EXPORT_PAGE):
        yield [card_row(row["card"]) for row in rows]


async def history(connection: Connection, *, tenant_id: UUID, card_id: str, limit: int) -> list[EventRow]:
    """Return the newest transitions of a card, oldest first."""
    rows = await connection.fetch(SQL.history, tenant_id, card_id, limit)
    return [_event(row) for row in reversed(rows)]


async def histories(connection: Connection, *, tenant_id: UUID, card_ids: Sequence[str]) -> dict[str, list[EventRow]]:
    """Return all transitions of these cards, oldest first."""
    found: dict[str, list[EventRow]] = defaultdict(list)
    for row in await connection.fetch(SQL.histories, tenant_id, list(card_ids)):
        found[row["card_id"]].append(_event(row))
    return dict(found)


def _event(row: Any) -> EventRow:
    values = {name: row[name] for name in _EVENT_FIELDS}
    return EventRow(**{**values, "details": json.loads(row["details"] or "{}")})


async def counts(connection: Connection, *, tenant_id: UUID) -> list[CountRow]:
    """Return the cards counted by status, required class, and whether anything is unmet."""
    return [CountRow(**dict(row)) for row in await connection.fetch(SQL.counts, tenant_id)]


async def oldest_ready(connection: Connection, *, tenant_id: UUID) -> tuple[str, datetime] | None:
    """Return the card that has been claimable for longest, and since when; or None."""
    row = await connection.fetchrow(SQL.oldest_ready, tenant_id)
    return None if row is None else (row["card_id"], row["ready_since"])


async def flow(connection: Connection, *, tenant_id: UUID, window: timedelta) -> list[FlowRow]:
    """Return how many claims, completions and expiries the last `window` saw."""
    return [FlowRow(**dict(row)) for row in await connection.fetch(SQL.flow, tenant_id, window)]


async def verify(connection: Connection, *, tenant_id: UUID, limit: int) -> list[Mismatch]:
    """Compute anew what is kept about every card; returns what differs."""
    return [Mismatch(**dict(row)) for row in await connection.fetch(SQL.verify, tenant_id, limit)]


async def size(connection: Connection, *, tenant_id: UUID) -> tuple[int, int]:
    """Return how many cards and edges there are."""
    row = await connection.fetchrow(SQL.size, tenant_id)
    assert row is not None
    return row["cards"], row["edges"]
