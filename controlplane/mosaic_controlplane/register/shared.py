"""Agents and hosts by their ids, many at a time: for watchers that catch up, here and in other clusters."""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter
from uuid import UUID

from mosaic_controlplane.register.agent import AgentRow
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.host import HostRow
from mosaic_controlplane.register.sql import load

SQL = load("shared")

# Taken by C code: of 100,000 rows every microsecond counts.
_AGENT = itemgetter(*("class" if field == "class_name" else field for field in AgentRow.__slots__))
_HOST = itemgetter(*HostRow.__slots__)


async def agents(connection: Connection, *, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, AgentRow]:
    """Return these agents, those that were removed too, by id."""
    if not ids:
        return {}
    rows = await connection.fetch(SQL.agents, tenant_id, list(ids))
    return {row["agent_id"]: AgentRow(*_AGENT(row)) for row in rows}


async def agent(connection: Connection, *, tenant_id: UUID, agent_id: UUID) -> AgentRow:
    """Return one agent that is or was; an id is never given again, and no row of a seat is deleted."""
    return (await agents(connection, tenant_id=tenant_id, ids=[agent_id]))[agent_id]


async def hosts(connection: Connection, *, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, HostRow]:
    """Return these hosts, by id."""
    if not ids:
        return {}
    rows = await connection.fetch(SQL.hosts, tenant_id, list(ids))
    return {row["host_id"]: HostRow(*_HOST(row)) for row in rows}


async def agent_page(connection: Connection, *, tenant_id: UUID, after: UUID, limit: int) -> list[UUID]:
    """Return the ids of up to `limit` agents after one, in their order."""
    return [row["agent_id"] for row in await connection.fetch(SQL.agent_page, tenant_id, after, limit)]


async def host_page(connection: Connection, *, tenant_id: UUID, after: UUID, limit: int) -> list[UUID]:
    """Return the ids of up to `limit` hosts after one, in their order."""
    return [row["host_id"] for row in await connection.fetch(SQL.host_page, tenant_id, after, limit)]


async def places(connection: Connection, *, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Return the host of each of these agents."""
    return {row["agent_id"]: row["host_id"] for row in await connection.fetch(SQL.places, tenant_id, list(ids))}
