"""Two control planes that are paired, as `peer token` and `peer join` leave them, without the way there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import grpc.aio
from cryptography import x509
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity, open_cluster
from mosaic_controlplane.identity.origin import AUDIENCE_KEY, PAIRING_KEY
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer import PeerRow
from mosaic_framework import wire
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_framework.pki import SERVER_NAME, Authority, SpiffeId, certificate_to_pem, key_to_pem, new_key

from tests.support.mesh import Mesh


@dataclass(frozen=True)
class Paired:
    """A pairing: its id, and what each side calls the other."""

    peer_id: str
    name_of_first: str
    """what the second calls the first"""
    name_of_second: str


@dataclass(frozen=True)
class _Side:
    """What a cluster tells another of itself."""

    trust_domain: str
    alias: str
    bundle: bytes
    addresses: list[str]
    enrol_addresses: list[str]


async def pair(
    first: Mesh, second: Mesh, *, name_of_first: str = "east", name_of_second: str = "west", role: str = "operator"
) -> Paired:
    """Write one pairing into both registers, each side's people counting as `role` at the other."""
    sides = await asyncio.gather(_side(first), _side(second))
    peer_id = str(new_id())
    await _write(second, peer_id, name_of_first, sides[0], role)
    await _write(first, peer_id, name_of_second, sides[1], role)
    return Paired(peer_id, name_of_first, name_of_second)


async def grant(
    mesh: Mesh,
    peer_id: str,
    kind: str,
    selector: str = "*",
    *,
    fields: tuple[str, ...] = (),
    most: int = 0,
    lasts: str = "1 hour",
) -> str:
    """Let a peer do something at `mesh`, and tell its replicas; returns the grant's id."""
    grant_id = str(new_id())
    async with _register(mesh) as connection, connection.transaction():
        await connection.execute(
            "insert into fleet.peer_grant"
            " (tenant_id, grant_id, peer_id, kind, selector, fields, most, expires_at, made_by)"
            " select tenant_id, $2, peer_id, $3, $4, $5, $6, now() + $7::text::interval, 'a test'"
            " from fleet.peer where peer_id = $1",
            peer_id,
            grant_id,
            kind,
            selector,
            list(fields),
            most,
            lasts,
        )
        await _grants_changed(connection, peer_id)
    return grant_id


async def ungrant(mesh: Mesh, peer_id: str, *grants: str) -> None:
    """End grants of a peer at `mesh`: those named, or all."""
    async with _register(mesh) as connection, connection.transaction():
        await connection.execute(
            "update fleet.peer_grant set ended_at = now() where peer_id = $1 and ended_at is null"
            " and ($2::uuid[] = '{}' or grant_id = any($2::uuid[]))",
            peer_id,
            list(grants),
        )
        await _grants_changed(connection, peer_id)


@asynccontextmanager
async def outgoing_of(
    mesh: Mesh, show: Callable[[ClusterIdentity], ServerIdentity] | None = None
) -> AsyncIterator[Outgoing]:
    """Lend what a replica of this mesh would call its peers with: its register, its authority, a leaf of its own.

    `show` makes another leaf than such a replica's.
    """
    database = await Database.connect(mesh.controlplane.environment["MOSAIC_DATABASE_URL"], pool_size=2)
    try:
        cluster = await open_cluster(database, Home(mesh.controlplane.home), alias="test")
        leaf = show(cluster) if show is not None else cluster.issue_replica_leaf(new_id())
        yield Outgoing(database, cluster, lambda: leaf)
    finally:
        await database.close()


async def peer_row(mesh: Mesh, name: str) -> PeerRow:
    """Return a peer of the tenant `default` as the register of `mesh` has it."""
    async with _register(mesh) as connection:
        tenant_id = await connection.fetchval("select tenant_id from fleet.tenant where name = 'default'")
        found = await peer_table.named(connection, tenant_id=tenant_id, name=name)
    assert found is not None
    return found


async def write_peer(
    mesh: Mesh, name: str, *, tenant: str = "default", role: str = "viewer", authority: Authority | None = None
) -> str:
    """Write a peer into the register that nobody runs, of that authority's roots; returns the pairing's id."""
    peer_id = str(new_id())
    domain = f"{name}.{tenant}"
    authority = authority or Authority.create(domain)
    async with _register(mesh) as connection:
        await connection.execute(
            "with made as (insert into fleet.peer"
            " (tenant_id, peer_id, name, trust_domain, cluster, their_tenant, bundle, paired_by, role)"
            " select tenant_id, $1, $2, $3, $2, 'default', $4, 'a test', $6"
            " from fleet.tenant where name = $5 returning tenant_id, peer_id)"
            " insert into fleet.peer_feed (tenant_id, peer_id) select tenant_id, peer_id from made",
            peer_id,
            name,
            domain,
            certificate_to_pem(authority.certificate),
            tenant,
            role,
        )
    return peer_id


@dataclass(frozen=True)
class StandInPeer:
    """A peer of which there is nothing but a replica's certificate."""

    peer_id: str
    key_pem: bytes
    certificate_pem: bytes

    def channel(self, mesh: Mesh) -> grpc.aio.Channel:
        """Return a channel to the peer listener of `mesh`."""
        assert mesh.operator is not None
        address = f"{mesh.listen}:{mesh.peer_port}"
        return wire.replica_channel(self.key_pem, self.certificate_pem, mesh.operator.bundle_pem, address)

    def metadata(self, mesh: Mesh) -> tuple[tuple[str, str], ...]:
        """Return what its calls of `mesh` say of themselves."""
        assert mesh.operator is not None
        return ((PAIRING_KEY, self.peer_id), (AUDIENCE_KEY, mesh.operator.trust_domain))


async def stand_in_peer(mesh: Mesh, name: str) -> StandInPeer:
    """Pair `mesh` with a cluster that nobody runs, and let it see, send to, watch and claim everything."""
    authority = Authority.create(f"{name}.default")
    key, replica_id = new_key(), str(new_id())
    leaf = authority.issue(
        key.public_key(),
        SpiffeId.parse(f"spiffe://{name}.default/replica/{replica_id}"),
        identity_id=replica_id,
        identity_epoch=1,
        dns_names=[SERVER_NAME],
    )
    peer_id = await write_peer(mesh, name, role="operator", authority=authority)
    for kind, most in (("see", 0), ("send", 0), ("watch", 0), ("claim", 5)):
        await grant(mesh, peer_id, kind, most=most)
    return StandInPeer(peer_id, key_to_pem(key), certificate_to_pem(leaf))


async def _grants_changed(connection: asyncpg.Connection[asyncpg.Record], peer_id: str) -> None:
    await connection.execute("update fleet.peer set grants_changed_at = clock_timestamp() where peer_id = $1", peer_id)


@asynccontextmanager
async def _register(mesh: Mesh) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Lend a connection of its own to a mesh's register."""
    connection = await asyncpg.connect(mesh.controlplane.environment["MOSAIC_DATABASE_URL"])
    try:
        yield connection
    finally:
        await connection.close()


async def _side(mesh: Mesh) -> _Side:
    async with _register(mesh) as connection:
        cluster = await connection.fetchrow("select trust_domain, alias from fleet.cluster")
        roots = await connection.fetch("select certificate from fleet.authority")
    assert cluster is not None
    bundle = b"".join(certificate_to_pem(x509.load_der_x509_certificate(row["certificate"])) for row in roots)
    return _Side(
        cluster["trust_domain"],
        cluster["alias"],
        bundle,
        [f"{mesh.listen}:{mesh.peer_port}"],
        [f"{mesh.listen}:{mesh.enrol_port}"],
    )


async def _write(mesh: Mesh, peer_id: str, name: str, other: _Side, role: str) -> None:
    async with _register(mesh) as connection, connection.transaction():
        await connection.execute(
            "insert into fleet.peer (tenant_id, peer_id, name, trust_domain, cluster, their_tenant, role, bundle,"
            " addresses, enrol_addresses, paired_by)"
            " select tenant_id, $1, $2, $3, $4, 'default', $5, $6, $7, $8, 'a test'"
            " from fleet.tenant where name = 'default'",
            peer_id,
            name,
            other.trust_domain,
            other.alias,
            role,
            other.bundle,
            other.addresses,
            other.enrol_addresses,
        )
        await connection.execute(
            "insert into fleet.peer_feed (tenant_id, peer_id)"
            " select tenant_id, peer_id from fleet.peer where peer_id = $1",
            peer_id,
        )
