"""The one row that says which cluster this register belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("cluster")


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A cluster: its immutable trust domain, the name people use, and the epoch of its change cursor."""

    trust_domain: str
    alias: str
    register_epoch: UUID


async def lock_making(connection: Connection) -> None:
    """Wait until nobody else makes the cluster; held until the transaction ends."""
    await connection.execute(SQL.lock_making)


async def find(connection: Connection) -> ClusterRow | None:
    """Return the cluster, or None in a new register."""
    row = await connection.fetchrow(SQL.find)
    return ClusterRow(**row) if row else None


async def make(connection: Connection, cluster: ClusterRow) -> None:
    """Write the cluster's row, once and for all."""
    await connection.execute(SQL.make, cluster.trust_domain, cluster.alias, cluster.register_epoch)
