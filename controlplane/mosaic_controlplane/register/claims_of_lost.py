"""What becomes of the claims of agents whose host is not heard of, as their tenant has it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("claims_of_lost")

Host = tuple[UUID, UUID]
"""(tenant, host)"""


async def hold(connection: Connection, silent: Sequence[Host]) -> None:
    """Keep what agents of these hosts have claimed until the claims' own limits, where the tenant holds claims."""
    await connection.execute(SQL.hold, [tenant for tenant, _ in silent], [host for _, host in silent])


async def release(connection: Connection, lost: Sequence[Host]) -> None:
    """End the leases of what agents of these hosts have claimed, where the tenant releases claims."""
    await connection.execute(SQL.release, [tenant for tenant, _ in lost], [host for _, host in lost])


async def recall(connection: Connection, *, tenant_id: UUID, host_id: UUID) -> None:
    """The host is back: what was held for it is an ordinary lease again."""
    await connection.execute(SQL.recall, tenant_id, host_id)
