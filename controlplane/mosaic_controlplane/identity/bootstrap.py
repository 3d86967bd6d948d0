"""The cluster's own identity: made at the first start, once, and opened at every later one."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from cryptography import x509
from mosaic_framework import pki
from mosaic_framework.ids import new_id
from mosaic_framework.names import check_name
from mosaic_framework.paths import Home

from mosaic_controlplane.identity.authority_key import (
    FILE,
    AuthorityKeyFile,
    AuthorityKeyMissing,
    AuthorityKeyWrong,
    missing,
)
from mosaic_controlplane.register import authority as authority_table
from mosaic_controlplane.register import cluster as cluster_table
from mosaic_controlplane.register import tenant as tenant_table
from mosaic_controlplane.register.authority import AuthorityRow
from mosaic_controlplane.register.cluster import ClusterRow
from mosaic_controlplane.register.database import Connection, Database

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What a replica's listeners need. Times are aware UTC."""

    key_pem: bytes
    certificate_pem: bytes
    bundle_pem: bytes
    not_after: datetime


@dataclass(frozen=True, slots=True)
class KnownAuthority:
    """A root with its key, and the register's id of it."""

    authority_id: UUID
    authority: pki.Authority


@dataclass(slots=True)
class ClusterIdentity:
    """A cluster as its replicas know it. `authorities`: the first signs, all are trusted; they change as roots do."""

    trust_domain: str
    alias: str
    register_epoch: UUID
    authorities: tuple[KnownAuthority, ...]
    leaf_lifetime: timedelta = pki.LEAF_LIFETIME
    """for how long the certificates that are issued here are good"""

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """Return the certificates that a leaf of this cluster may have been issued by."""
        return tuple(known.authority.certificate for known in self.authorities)

    @property
    def signer(self) -> pki.Authority:
        """Return the authority that issues now."""
        return self.authorities[0].authority

    @property
    def signer_id(self) -> UUID:
        """Return the register's id of the authority that issues now."""
        return self.authorities[0].authority_id

    @property
    def bundle_pem(self) -> bytes:
        """Return the roots as one PEM text."""
        return b"".join(pki.certificate_to_pem(root) for root in self.roots)

    def issue_replica_leaf(self, replica_id: UUID) -> ServerIdentity:
        """Return a new key and certificate for a replica. Keep them in memory: a restarted replica makes others."""
        key = pki.new_key()
        certificate = self.signer.issue(
            key.public_key(),
            pki.SpiffeId(self.trust_domain, "replica", str(replica_id)),
            identity_id=str(replica_id),
            identity_epoch=1,
            dns_names=[pki.SERVER_NAME],
            lifetime=self.leaf_lifetime,
        )
        return ServerIdentity(
            key_pem=pki.key_to_pem(key),
            certificate_pem=pki.certificate_to_pem(certificate),
            bundle_pem=self.bundle_pem,
            not_after=certificate.not_valid_after_utc,
        )


async def open_cluster(
    database: Database, home: Home, *, alias: str, leaf_lifetime: timedelta = pki.LEAF_LIFETIME
) -> ClusterIdentity:
    """Return the cluster of this register; in a new register make it, its authority and the tenant `default`.

    `alias` names a new cluster and is ignored by one that exists. Replicas that start together make one cluster.
    Raises AuthorityKeyMissing or AuthorityKeyWrong when this machine cannot open the register's authority.
    """
    check_name(alias, what="cluster")
    path = home.pki / FILE
    async with database.transaction() as connection:
        await cluster_table.lock_making(connection)
        cluster = await cluster_table.find(connection) or await _make_cluster(connection, alias)
        await tenant_table.ensure(connection, tenant_table.DEFAULT)
        rows = await authority_table.list_authorities(connection)
        key_file = AuthorityKeyFile.read(path)
        if key_file is None:
            if rows:
                raise missing(path)
            key_file = AuthorityKeyFile.make(path)
        if not rows:
            rows = [await _make_authority(connection, key_file, cluster.trust_domain, signs=True)]
        authorities = tuple(_open_authority(row, key_file) for row in rows)
    return ClusterIdentity(cluster.trust_domain, cluster.alias, cluster.register_epoch, authorities, leaf_lifetime)


async def roots_changed(database: Database, cluster: ClusterIdentity, home: Home) -> bool:
    """Take up roots that came, went or began to sign since; returns whether there were any.

    Those that this machine cannot open are logged, and the ones known before stay. Raises RegisterUnreachable.
    """
    async with database.connection() as connection:
        rows = await authority_table.list_authorities(connection)
    if not rows or [row.authority_id for row in rows] == [known.authority_id for known in cluster.authorities]:
        return False
    try:
        key_file = _key_file(home)
        cluster.authorities = tuple(_open_authority(row, key_file) for row in rows)
    except (AuthorityKeyMissing, AuthorityKeyWrong) as error:
        log.error("the cluster's roots have changed and cannot be opened", what=error.what, next=error.next_step)
        return False
    log.info("the cluster's roots have changed", roots=len(rows), signer=str(cluster.signer_id))
    return True


async def add_authority(connection: Connection, cluster: ClusterIdentity, home: Home) -> UUID:
    """Make a further root, which is trusted at once and signs when it is told to. Returns its id."""
    row = await _make_authority(connection, _key_file(home), cluster.trust_domain, signs=False)
    return row.authority_id


def _key_file(home: Home) -> AuthorityKeyFile:
    key_file = AuthorityKeyFile.read(home.pki / FILE)
    if key_file is None:
        raise missing(home.pki / FILE)
    return key_file


async def _make_cluster(connection: Connection, alias: str) -> ClusterRow:
    random = base64.b32encode(os.urandom(10)).decode().lower()  # 80 bits: two clusters never meet under one name
    cluster = ClusterRow(trust_domain=f"{random}.mosaic", alias=alias, register_epoch=new_id())
    await cluster_table.make(connection, cluster)
    return cluster


async def _make_authority(
    connection: Connection, key_file: AuthorityKeyFile, trust_domain: str, *, signs: bool
) -> AuthorityRow:
    made = pki.Authority.create(trust_domain)
    authority_id = new_id()
    row = AuthorityRow(
        authority_id=authority_id,
        certificate=pki.certificate_to_der(made.certificate),
        encrypted_key=key_file.encrypt(made.key, authority_id),
        not_after=made.certificate.not_valid_after_utc,
    )
    await authority_table.add(connection, row, signs=signs)
    return row


def _open_authority(row: AuthorityRow, key_file: AuthorityKeyFile) -> KnownAuthority:
    certificate = x509.load_der_x509_certificate(row.certificate)
    authority = pki.Authority(certificate, key_file.decrypt(row.encrypted_key, row.authority_id))
    return KnownAuthority(row.authority_id, authority)
