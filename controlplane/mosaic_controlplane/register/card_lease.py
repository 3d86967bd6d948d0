"""Leases of cards: what a run holds, kept up by its host, and what has run out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mosaic_controlplane.register.card import CardRow, card_row
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("card_lease")


@dataclass(frozen=True, slots=True)
class HeldByRun:
    """A claim that a host has just renewed."""

    run_id: UUID
    holder_id: UUID
    card_id: str
    title: str
    fence: int
    lease_left: timedelta
    limit_left: timedelta


async def held_by_run(connection: Connection, *, tenant_id: UUID, run_id: UUID) -> list[CardRow]:
    """Return what a run holds, newest claim first, and after it what ran out on it and nobody has taken up."""
    return [card_row(row["card"]) for row in await connection.fetch(SQL.held_by_run, tenant_id, run_id)]


async def renew_runs(
    connection: Connection, *, tenant_id: UUID, host_id: UUID, run_ids: Sequence[UUID], lease: timedelta
) -> list[HeldByRun]:
    """Renew what runs of agents of this host hold; returns all of it."""
    rows = await connection.fetch(SQL.renew_runs, tenant_id, host_id, list(run_ids), lease)
    return [HeldByRun(**dict(row)) for row in rows]


async def run_ended(connection: Connection, *, tenant_id: UUID, run_id: UUID, agent_id: UUID, host_id: UUID) -> None:
    """End the leases of a run of an agent of this host that is over."""
    await connection.execute(SQL.run_ended, tenant_id, run_id, agent_id, host_id)


async def tick(connection: Connection) -> timedelta | None:
    """Extend all leases when nobody has looked for over 3 s; returns that gap. In one transaction with `expire`."""
    gap: timedelta | None = await connection.fetchval(SQL.tick)
    if gap is not None:
        await connection.execute(SQL.extend_leases, gap)
    return gap


async def expire(connection: Connection, *, limit: int, tenant_id: UUID | None = None) -> list[tuple[CardRow, bool]]:
    """Take back cards whose lease is over; returns each with whether its claim had reached its limit."""
    rows = await connection.fetch(SQL.expire, limit, tenant_id)
    return [(card_row(row["card"]), row["at_limit"]) for row in rows]
