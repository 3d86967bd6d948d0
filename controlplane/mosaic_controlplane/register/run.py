"""Runs: one launch or reset of a seat each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("run")


async def start(
    connection: Connection,
    *,
    tenant_id: UUID,
    host_id: UUID,
    run_id: UUID,
    agent_id: UUID,
    model: str,
    account: str,
    age: timedelta,
) -> None:
    """A run began `age` ago. A repeated report, or one of a seat that is not this host's, changes nothing."""
    await connection.execute(SQL.start, tenant_id, run_id, agent_id, host_id, model, account, age)


async def finish(
    connection: Connection,
    *,
    tenant_id: UUID,
    host_id: UUID,
    run_id: UUID,
    agent_id: UUID,
    reason: str,
    exit_status: int | None,
    age: timedelta,
) -> None:
    """A run ended `age` ago. A repeated report changes nothing."""
    await connection.execute(SQL.finish, tenant_id, run_id, agent_id, host_id, age, reason, exit_status)


async def name_sessions(
    connection: Connection, *, tenant_id: UUID, host_id: UUID, sessions: Mapping[UUID, str]
) -> None:
    """Note what the programs of this host's runs call their own sessions: run → name."""
    if sessions:
        await connection.execute(SQL.name_sessions, tenant_id, host_id, list(sessions), list(sessions.values()))
