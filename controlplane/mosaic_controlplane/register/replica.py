"""Replicas of the control plane, and the waking of those where somebody waits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("replica")


@dataclass(frozen=True, slots=True)
class WakeKey:
    """What to wake for.

    With `host_id` only the replica that holds that host's link is woken; else every replica where somebody waits.
    """

    key: str
    tenant_id: UUID
    host_id: UUID | None = None

    @classmethod
    def host(cls, tenant_id: UUID, host_id: UUID) -> WakeKey:
        """There is work for a host."""
        return cls(f"host:{host_id}", tenant_id, host_id)

    @classmethod
    def message(cls, tenant_id: UUID, message_id: UUID) -> WakeKey:
        """A message made a step."""
        return cls(f"message:{message_id}", tenant_id)

    @classmethod
    def change(cls, tenant_id: UUID) -> WakeKey:
        """Something of a tenant changed."""
        return cls(f"change:{tenant_id}", tenant_id)

    @classmethod
    def outbox(cls, tenant_id: UUID) -> WakeKey:
        """A message waits here for a peer; whoever hands them over does so for all tenants."""
        return cls("outbox", tenant_id)

    @classmethod
    def cards(cls, tenant_id: UUID) -> WakeKey:
        """Cards of a tenant can be claimed that could not before."""
        return cls(f"cards:{tenant_id}", tenant_id)


@dataclass(frozen=True, slots=True)
class Holder:
    """The replica that holds a host's link. `address` is its fleet address, host:port."""

    replica_id: UUID
    address: str


def channel_of(replica_id: UUID) -> str:
    """Return the NOTIFY channel of a replica."""
    return f"mosaic_{replica_id.hex}"


@dataclass(frozen=True, slots=True)
class Doors:
    """Where other clusters reach this one (host:port): its replicas' peer listeners and enrolment listeners."""

    peer: tuple[str, ...]
    enrol: tuple[str, ...]


async def arrive(
    connection: Connection,
    *,
    replica_id: UUID,
    address: str,
    version: str,
    register_version: int = 0,
    peer_address: str = "",
    enrol_address: str = "",
) -> None:
    """Enter this replica in the register, and forget those that died without leaving.

    `register_version`: the one that it is made for.
    """
    await connection.execute(SQL.forget_dead)
    await connection.execute(SQL.arrive, replica_id, address, version, register_version, peer_address, enrol_address)


async def beat(connection: Connection, *, replica_id: UUID) -> bool:
    """Say that this replica lives. False when the register no longer knows it."""
    return await connection.fetchval(SQL.beat, replica_id) is not None


async def leave(connection: Connection, *, replica_id: UUID) -> None:
    """Take this replica out of the register."""
    await connection.execute(SQL.leave, replica_id)


async def set_watching(connection: Connection, *, replica_id: UUID, watching: bool) -> None:
    """Say whether anybody on this replica waits for messages or changes."""
    await connection.execute(SQL.set_watching, replica_id, watching)


async def addresses(connection: Connection) -> list[str]:
    """Return the fleet addresses of the replicas heard of within 15 s."""
    return [row["address"] for row in await connection.fetch(SQL.addresses)]


async def doors(connection: Connection) -> Doors:
    """Return where other clusters reach the replicas heard of within 15 s."""
    rows = await connection.fetch(SQL.doors)
    return Doors(
        tuple(row["peer_address"] for row in rows if row["peer_address"]),
        tuple(row["enrol_address"] for row in rows if row["enrol_address"]),
    )


async def versions(connection: Connection) -> list[str]:
    """Return the versions of the programs of the replicas heard of within 15 s."""
    return [row["version"] for row in await connection.fetch(SQL.versions)]


async def register_version(connection: Connection) -> int:
    """Return the newest migration that the register has had."""
    return int(await connection.fetchval(SQL.register_version))


async def holder_of_link(connection: Connection, *, tenant_id: UUID, host_id: UUID) -> Holder | None:
    """Return the replica that holds a host's link, or None."""
    row = await connection.fetchrow(SQL.holder_of_link, tenant_id, host_id)
    return Holder(**row) if row else None


async def database_time(connection: Connection) -> datetime:
    """Return the time that leases and expiries are measured by."""
    found: datetime = await connection.fetchval(SQL.database_time)
    return found


async def notify(connection: Connection, keys: Collection[WakeKey]) -> None:
    """Wake every replica that waits for one of `keys`: one statement."""
    await connection.execute(SQL.notify, [k.key for k in keys], [k.tenant_id for k in keys], [k.host_id for k in keys])
