"""Figures about the register's open rows, for metrics."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("figures")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: what it counts, and the state or step that it is of."""

    name: str
    label: str
    value: float


async def figures(connection: Connection) -> list[Figure]:
    """Return how many hosts, agents, messages, cards and leases are in which state; over all tenants."""
    return [Figure(**dict(row)) for row in await connection.fetch(SQL.figures)]
