"""Other clusters that are paired with this one, and the tombstones of those that were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from mosaic_controlplane.register import peer_claim, peer_grant
from mosaic_controlplane.register.card import Maker
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("peer")

BY_US, BY_PEER = "us", "peer"
"""Who ended a pairing."""


@dataclass(frozen=True, slots=True)
class NewPeer:
    """A pairing to be kept. `bundle` is the PEM of its roots; `name` and `role` are what it and its people are here.

    `cluster` and `their_tenant` are what it says of itself, and only shown.
    """

    tenant_id: UUID
    peer_id: UUID
    name: str
    trust_domain: str
    cluster: str
    their_tenant: str
    role: str
    bundle: bytes = field(repr=False)
    addresses: Sequence[str]
    enrol_addresses: Sequence[str]
    paired_by: str


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A peer as it stands, or its tombstone (`revoked_at`). `heard_at`: its last bookmark, by this database's clock."""

    tenant_id: UUID
    tenant: str
    peer_id: UUID
    name: str
    trust_domain: str
    cluster: str
    their_tenant: str
    role: str
    bundle: bytes = field(repr=False)
    addresses: Sequence[str]
    enrol_addresses: Sequence[str]
    paired_at: datetime
    paired_by: str
    revoked_at: datetime | None
    revoked_by: str
    revoked_reason: str
    told_at: datetime | None
    heard_at: datetime | None

    @property
    def stands(self) -> bool:
        """Whether it is paired still."""
        return self.revoked_at is None


@dataclass(frozen=True, slots=True)
class Feed:
    """What is known of a peer beside the pairing. `granted` is a serialised mosaic.v1.GrantsHeld.

    `skipped`: kinds of rows that this release does not know → how many came. `agents`: how many it shows.
    """

    peer_id: UUID
    health: str
    problem: str
    version: str
    granted: bytes
    skipped: dict[str, int]
    agents: int


async def add(connection: Connection, new: NewPeer) -> bool:
    """Keep a pairing, in place of tombstones of its name. False when its name, trust domain or id is taken."""
    added = await connection.fetchval(
        SQL.add,
        new.tenant_id,
        new.peer_id,
        new.name,
        new.trust_domain,
        new.cluster,
        new.their_tenant,
        new.role,
        new.bundle,
        list(new.addresses),
        list(new.enrol_addresses),
        new.paired_by,
    )
    if added is None:
        return False
    await connection.execute(SQL.forget_tombstones, new.tenant_id, new.name, new.peer_id)
    await connection.execute(SQL.add_feed, new.tenant_id, new.peer_id)
    return True


async def find(connection: Connection, peer_id: UUID) -> PeerRow | None:
    """Return the peer of that pairing, whichever tenant's and whether it stands or not, or None."""
    row = await connection.fetchrow(SQL.find, peer_id)
    return PeerRow(**row) if row else None


async def named(connection: Connection, *, tenant_id: UUID, name: str) -> PeerRow | None:
    """Return the tenant's peer of that name (or id): the one that stands, else the newest tombstone, or None."""
    row = await connection.fetchrow(SQL.named, tenant_id, name)
    return PeerRow(**row) if row else None


async def of_trust_domain(connection: Connection, *, tenant_id: UUID, trust_domain: str) -> PeerRow | None:
    """Return the tenant's peer of that trust domain that stands, or None."""
    row = await connection.fetchrow(SQL.of_trust_domain, tenant_id, trust_domain)
    return PeerRow(**row) if row else None


async def list_standing(connection: Connection) -> list[PeerRow]:
    """Return the peers of all tenants that stand."""
    return [PeerRow(**row) for row in await connection.fetch(SQL.list_standing)]


async def list_of_tenant(connection: Connection, *, tenant_id: UUID) -> list[PeerRow]:
    """Return a tenant's peers by name, the tombstones too."""
    return [PeerRow(**row) for row in await connection.fetch(SQL.list_of_tenant, tenant_id)]


async def feeds(connection: Connection, *, tenant_id: UUID) -> dict[UUID, Feed]:
    """Return what is known of a tenant's peers beside the pairing, by the pairing's id."""
    rows = await connection.fetch(SQL.feeds, tenant_id)
    return {row["peer_id"]: Feed(**{**row, "skipped": json.loads(row["skipped"])}) for row in rows}


async def hold(connection: Connection, *, tenant_id: UUID, peer_id: UUID) -> bool:
    """Lock a peer that stands until the transaction ends. False when it does not."""
    return await connection.fetchval(SQL.hold, tenant_id, peer_id) is not None


async def refresh(
    connection: Connection,
    *,
    tenant_id: UUID,
    peer_id: UUID,
    bundle: bytes,
    addresses: Sequence[str],
    enrol_addresses: Sequence[str],
) -> bool:
    """Keep a peer's bundle (PEM) and addresses as they are now; whether that was news. federation/bundles.py checks."""
    changed = await connection.fetchval(SQL.refresh, tenant_id, peer_id, bundle, list(addresses), list(enrol_addresses))
    return changed is not None


async def change_role(connection: Connection, *, tenant_id: UUID, peer_id: UUID, role: str) -> bool:
    """Let the peer's people count as `role` here: viewer or operator. False when it does not stand."""
    return await connection.fetchval(SQL.change_role, tenant_id, peer_id, role) is not None


async def grants_changed(connection: Connection, *, tenant_id: UUID, peer_id: UUID) -> None:
    """Let the streams of a peer look at its grants again, once this transaction commits."""
    await connection.execute(SQL.grants_changed, tenant_id, peer_id)


async def revoke(connection: Connection, *, tenant_id: UUID, peer_id: UUID, by: str, by_name: str, reason: str) -> bool:
    """Make a peer a tombstone: its bundle, addresses, grants, rows, feed and claims go. False when it did not stand.

    `by`: BY_US or BY_PEER; `by_name`: who, for the grants that end.
    """
    name = await connection.fetchval(SQL.revoke, tenant_id, peer_id, by, reason)
    if name is None:
        return False
    await peer_grant.end_all(connection, tenant_id=tenant_id, peer_id=peer_id, by=by_name)
    await connection.execute(SQL.forget_rows, tenant_id, peer_id)
    await connection.execute(SQL.forget_feed, tenant_id, peer_id)
    await connection.execute(SQL.fail_messages, tenant_id, peer_id, "the pairing was ended first")
    await peer_claim.release_claims_of_peer(
        connection,
        tenant_id=tenant_id,
        peer_id=peer_id,
        reason="the pairing with its holder's cluster was ended",
        by=Maker("peer", peer_id, by_name),
    )
    return True


async def told(connection: Connection, *, tenant_id: UUID, peer_id: UUID) -> None:
    """Note that the other side has heard that the pairing is over."""
    await connection.execute(SQL.told, tenant_id, peer_id)


async def remove(connection: Connection, *, tenant_id: UUID, peer_id: UUID) -> bool:
    """Delete a tombstone. False when there is none, or the peer stands."""
    return await connection.fetchval(SQL.remove, tenant_id, peer_id) is not None


async def untold(connection: Connection, authority_id: UUID) -> list[str]:
    """Return the names of peers that may not know this root of ours yet."""
    return [row["name"] for row in await connection.fetch(SQL.untold, authority_id)]


async def void_tokens(connection: Connection, *, tenant_id: UUID, name: str) -> int:
    """End the unused tokens for that name; returns how many there were."""
    return len(await connection.fetch(SQL.void_tokens, tenant_id, name))
