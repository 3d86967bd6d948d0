"""Renewal: whoever still stands gets a new leaf for a new key, under the identity it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mosaic_framework import pki
from mosaic_framework.errors import IdentityRevoked, InvalidInput

from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register import leaf, replica
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.revocation import Identity


@dataclass(frozen=True, slots=True)
class Renewed:
    """A new leaf, and where the fleet listeners are."""

    certificate: x509.Certificate
    fleet_addresses: tuple[str, ...]


def identity_of(caller: Caller) -> Identity:
    """Return whose certificate this caller calls with: an agent calls with its host's."""
    if caller.kind in ("operator", "peer"):
        return Identity(caller.tenant_id, caller.kind, caller.id, caller.identity_epoch, caller.role)
    kind = "host" if caller.kind == "agent" else caller.kind
    return Identity(caller.tenant_id, kind, caller.host_id or caller.id, caller.identity_epoch)


async def issue(
    connection: Connection,
    cluster: ClusterIdentity,
    identity: Identity,
    spiffe_id: pki.SpiffeId,
    key: ec.EllipticCurvePublicKey,
) -> x509.Certificate:
    """Issue a leaf and write it down, in the caller's transaction."""
    certificate = cluster.signer.issue(
        key,
        spiffe_id,
        identity_id=str(identity.identity_id),
        identity_epoch=identity.identity_epoch,
        lifetime=cluster.leaf_lifetime,
    )
    await leaf.add(
        connection,
        leaf.NewLeaf(identity, pki.serial_of(certificate), cluster.signer_id, certificate.not_valid_after_utc),
    )
    return certificate


async def renew(
    database: Database,
    cluster: ClusterIdentity,
    caller: Caller,
    *,
    leaf_pem: bytes,
    key: ec.EllipticCurvePublicKey,
    fleet_addresses: Sequence[str],
) -> Renewed:
    """Return a new leaf for `caller`, who calls with `leaf_pem` and has proven to hold `key`.

    Raises IdentityRevoked when it no longer stands at this moment, whatever was known a moment ago; InvalidInput for
    the key that it has already.
    """
    present = x509.load_pem_x509_certificate(leaf_pem)
    if present.public_key() == key:
        raise InvalidInput("a renewal needs a new key", why="this one is the key of the certificate in use")
    identity = identity_of(caller)
    spiffe_id = pki.SpiffeId(cluster.trust_domain, caller.kind, caller.name, tenant=caller.tenant)
    async with database.transaction() as connection:
        if not await leaf.hold_standing(connection, identity):
            raise IdentityRevoked(
                f"{caller.kind} {caller.name} has been revoked or replaced", next_step="ask an admin of the cluster"
            )
        certificate = await issue(connection, cluster, identity, spiffe_id, key)
        await leaf.replace(connection, tenant_id=caller.tenant_id, serial=pki.serial_of(present))
        others = await replica.addresses(connection)
    return Renewed(certificate, tuple(dict.fromkeys((*fleet_addresses, *others))))
