"""Cards of the backlog: what they say, and their state. Beside it card_*.py: history, claims, leases, edges, views."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from mosaic_controlplane.register.card_history import EventRow, add_events
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


async def everything(connection: Connection, *, tenant_id: UUID) -> AsyncIterator[list[CardRow]]:
    """Yield every card in the order of creation, a few hundred at a time. The connection is in a transaction."""
    cursor = await connection.cursor(SQL.everything, tenant_id)
    while rows := await cursor.fetch(_EXPORT_PAGE):
        yield [card_row(row["card"]) for row in rows]
