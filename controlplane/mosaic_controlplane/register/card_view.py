"""What a backlog shows: pages of cards, counts, what flowed, and whether what is kept about the graph is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_controlplane.register.card import CardRow, card_row
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("card_view")


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
