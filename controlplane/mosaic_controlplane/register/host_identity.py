"""Identity columns of hosts: enrolment, and how the register knows the holder of a certificate now."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from mosaic_framework.ids import new_id

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("host_identity")


@dataclass(frozen=True, slots=True)
class Standing:
    """How the register knows an identity now. `role` is an operator's, or an agent's class."""

    tenant_id: UUID
    name: str
    role: str
    identity_epoch: int
    revoked: bool


async def enrol(connection: Connection, *, tenant_id: UUID, name: str) -> tuple[UUID, int]:
    """Return (host id, identity epoch) of a new host, or of a known one (revoked or not) whose epoch rose."""
    row = await connection.fetchrow(SQL.enrol, tenant_id, new_id(), name)
    assert row is not None
    return row["host_id"], row["identity_epoch"]


async def standing(connection: Connection, *, tenant: str, host_id: UUID) -> Standing | None:
    """Return how the register knows this host now, or None."""
    row = await connection.fetchrow(SQL.standing, tenant, host_id)
    return Standing(**row) if row else None


@dataclass(frozen=True, slots=True)
class SpokenFor:
    """An agent of a host, and whether the run in which it is spoken for lives."""

    name: str
    class_name: str
    run_lives: bool


async def agent_on_host(
    connection: Connection, *, tenant_id: UUID, agent_id: UUID, host_id: UUID, run_id: UUID
) -> SpokenFor | None:
    """Return an agent that sits on this host, or None."""
    row = await connection.fetchrow(SQL.agent_on_host, tenant_id, agent_id, host_id, run_id)
    return SpokenFor(**row) if row else None


async def replica_known(connection: Connection, *, replica_id: UUID) -> bool:
    """Say whether the register knows this replica."""
    return await connection.fetchval(SQL.replica_standing, replica_id) is not None
