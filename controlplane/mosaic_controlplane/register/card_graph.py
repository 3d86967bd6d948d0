"""Edges between cards. Whoever adds one locks what it depends on first, and the dependant after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("card_graph")

DEPTH_LIMIT = 1000
"""No chain of dependencies is longer: drawing one, and putting depths right, walks it level by level."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A card that others depend on, as it was when it was locked."""

    card_id: str
    status: str
    depth: int


async def lock_graph(connection: Connection, *, tenant_id: UUID) -> None:
    """Let nobody else link cards of this tenant until the transaction ends."""
    await connection.execute(SQL.lock_graph, str(tenant_id))


async def share_graph(connection: Connection, *, tenant_id: UUID) -> None:
    """Let nobody link cards of this tenant until the transaction ends; others may share the graph."""
    await connection.execute(SQL.share_graph, str(tenant_id))


async def lock_dependencies(
    connection: Connection, *, tenant_id: UUID, card_ids: Sequence[str]
) -> dict[str, Dependency]:
    """Hold off completions of these cards until the transaction ends; returns those there are."""
    if not card_ids:
        return {}
    rows = await connection.fetch(SQL.lock_dependencies, tenant_id, list(card_ids))
    return {row["card_id"]: Dependency(**dict(row)) for row in rows}


async def add_edges(connection: Connection, *, tenant_id: UUID, edges: Sequence[tuple[str, str]]) -> None:
    """Add edges (card, what it depends on); the counters are the caller's to keep."""
    if not edges:
        return
    await connection.executemany(SQL.add_edge, [(tenant_id, card, needed) for card, needed in edges])


async def remove_edges(
    connection: Connection, *, tenant_id: UUID, card_id: str, depends_on: Sequence[str]
) -> list[str]:
    """Remove edges of a card; returns those that were there."""
    rows = await connection.fetch(SQL.remove_edges, tenant_id, card_id, list(depends_on))
    return [row["depends_on"] for row in rows]


async def dependencies(connection: Connection, *, tenant_id: UUID, card_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return what each of these cards depends on, sorted; cards without dependencies are not in it."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in await connection.fetch(SQL.dependencies, tenant_id, list(card_ids)):
        found[row["card_id"]].append(row["depends_on"])
    return dict(found)


async def change_unmet(connection: Connection, *, tenant_id: UUID, card_id: str, by: int) -> None:
    """Count `by` more dependencies as unmet."""
    await connection.execute(SQL.change_unmet, tenant_id, card_id, by)


async def settle_depth(connection: Connection, *, tenant_id: UUID, card_id: str) -> str | None:
    """Put the depth of a card, and of all that depend on it, right. Returns a card that lies too deep, or None."""
    found: str | None = await connection.fetchval(SQL.settle_depth, tenant_id, card_id, DEPTH_LIMIT)
    return found


async def edges_below(
    connection: Connection, *, tenant_id: UUID, card_ids: Sequence[str], down_to_depth: int
) -> list[tuple[str, str]]:
    """Return the edges (card, what it depends on) on every way down from `card_ids` to cards of a depth."""
    rows = await connection.fetch(SQL.edges_below, tenant_id, list(card_ids), down_to_depth)
    return [(row["card_id"], row["depends_on"]) for row in rows]


async def deepest_chain(connection: Connection, *, tenant_id: UUID, card_id: str) -> list[str]:
    """Return the longest chain of dependencies below a card, itself first."""
    return [row["card_id"] for row in await connection.fetch(SQL.deepest_chain, tenant_id, card_id)]


async def tree(
    connection: Connection, *, tenant_id: UUID, card_id: str, levels: int, limit: int, upward: bool
) -> dict[str, list[str]]:
    """Return parent → children of the tree of `levels` below a card; `upward`: of what depends on it instead."""
    found: dict[str, list[str]] = defaultdict(list)
    query = SQL.tree_above if upward else SQL.tree_below
    for row in await connection.fetch(query, tenant_id, card_id, levels, limit):
        found[row["parent"]].append(row["child"])
    return dict(found)
