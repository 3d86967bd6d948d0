"""Enrolment: a token and a signing request become a certificate, exactly once for one key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mosaic_framework import pki
from mosaic_framework.errors import (
    FleetError,
    TokenExpired,
    TokenInvalid,
    TokenSpent,
    TokenWrongName,
)

from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.renewal import issue
from mosaic_controlplane.identity.tokens import secret_hash
from mosaic_controlplane.register import audit, host_identity, join_token, operator, replica
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.join_token import TokenRow
from mosaic_controlplane.register.revocation import Identity

METHOD = "mosaic.v1.EnrolmentService/Enrol"


@dataclass(frozen=True, slots=True)
class Joiner:
    """Who asks to join: a token's secret, what they believe to be, and the key that they have proven to hold."""

    secret: str = field(repr=False)
    kind: str
    name: str
    key: ec.EllipticCurvePublicKey
    peer_address: str = ""

    @property
    def key_hash(self) -> bytes:
        """Return what tells a joiner who asks again from one who found the token."""
        return hashlib.sha256(pki.public_key_der(self.key)).digest()


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A joiner's new identity. `again`: the certificate was made by an earlier attempt with the same key."""

    certificate: x509.Certificate
    spiffe_id: pki.SpiffeId
    identity_id: UUID
    identity_epoch: int
    again: bool
    fleet_addresses: tuple[str, ...] = ()


async def enrol(
    database: Database,
    cluster: ClusterIdentity,
    joiner: Joiner,
    *,
    fleet_addresses: Sequence[str] = (),
    audit_unknown: bool = True,
) -> Enrolled:
    """Return the identity that the joiner's token gives; the same key gets the same one until the token expires.

    `fleet_addresses` come before those of the other replicas. Token, identity and audit row are one transaction; a
    refusal writes its audit row only, and without `audit_unknown` not even that for a token that nobody made.
    Raises TokenInvalid, TokenWrongName, TokenExpired, TokenSpent.
    """
    async with database.transaction() as connection:
        token = await join_token.hold_by_secret(connection, secret_hash(joiner.secret))
        outcome = await _decide(connection, cluster, token, joiner)
        if token is not None or audit_unknown:
            await _record(connection, token, joiner, outcome)
        others = await replica.addresses(connection)
    if isinstance(outcome, FleetError):
        raise outcome
    return replace(outcome, fleet_addresses=tuple(dict.fromkeys((*fleet_addresses, *others))))


async def _decide(
    connection: Connection, cluster: ClusterIdentity, token: TokenRow | None, joiner: Joiner
) -> Enrolled | FleetError:
    if token is None or not hmac.compare_digest(token.secret_hash, secret_hash(joiner.secret)):
        return TokenInvalid(
            why="this cluster has never made it, or it ended long ago",
            next_step=_make_another(joiner.kind, joiner.name),
        )
    another = _make_another(token.kind, token.name)
    if (joiner.kind, joiner.name) != (token.kind, token.name):
        return TokenWrongName(
            f"this token was made for {token.kind} {token.name}, not for {joiner.kind} {joiner.name[:80]}",
            why="a token gives one name only; it is still unused",
            next_step=f"use it there, or {_make_another(joiner.kind, joiner.name)}",
        )
    if token.expired:
        return TokenExpired(why=f"it expired at {token.expires_at:%Y-%m-%d %H:%M:%S} UTC", next_step=another)
    if token.spent_certificate is not None:
        if hmac.compare_digest(token.spent_key_hash or b"", joiner.key_hash):
            return _read_again(x509.load_der_x509_certificate(token.spent_certificate))
        return TokenSpent(
            why=f"{token.kind} {token.name} joined with it at {token.spent_at:%Y-%m-%d %H:%M:%S} UTC, with another key",
            next_step=f"if that was not you, revoke {token.name}; {another}",
        )
    return await _admit(connection, cluster, token, joiner)


async def _admit(
    connection: Connection, cluster: ClusterIdentity, token: TokenRow, joiner: Joiner
) -> Enrolled | FleetError:
    if token.kind == "host":
        found = await host_identity.enrol(connection, tenant_id=token.tenant_id, name=token.name)
    else:
        found = await operator.enrol(
            connection, tenant_id=token.tenant_id, name=token.name, role=token.role or "viewer"
        )
    identity_id, identity_epoch = found
    identity = Identity(token.tenant_id, token.kind, identity_id, identity_epoch, token.role or "")
    spiffe_id = pki.SpiffeId(cluster.trust_domain, token.kind, token.name, tenant=token.tenant)
    certificate = await issue(connection, cluster, identity, spiffe_id, joiner.key)
    der = pki.certificate_to_der(certificate)
    if not await join_token.spend(connection, token, key_hash=joiner.key_hash, certificate=der):
        raise AssertionError("a token that this transaction holds was spent by another")
    return Enrolled(certificate, spiffe_id, identity_id, identity_epoch, again=False)


def _read_again(certificate: x509.Certificate) -> Enrolled:
    """Return what a certificate of ours says; it was kept for a joiner whose reply was lost."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    (serial,) = certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    identity_id, _, epoch = str(serial.value).rpartition(":")
    return Enrolled(certificate, pki.SpiffeId.parse(uri), UUID(identity_id), int(epoch), again=True)


async def _record(
    connection: Connection, token: TokenRow | None, joiner: Joiner, outcome: Enrolled | FleetError
) -> None:
    detail = {"claimed_kind": joiner.kind, "claimed_name": joiner.name[:80], "key": joiner.key_hash.hex()}
    if token is not None:
        detail["token_id"] = str(token.token_id)
        detail["token_made_by"] = token.made_by
    if isinstance(outcome, Enrolled):
        detail["identity_epoch"] = str(outcome.identity_epoch)
        detail["again"] = str(outcome.again).lower()
    await audit.record(
        connection,
        tenant_id=token.tenant_id if token else None,
        caller_kind="joiner",
        caller_id=str(outcome.identity_id) if isinstance(outcome, Enrolled) else "",
        caller_name=token.name if token else "",
        peer_address=joiner.peer_address,
        method=METHOD,
        target=f"{token.kind}/{token.name}" if token else "",
        outcome=outcome.code if isinstance(outcome, FleetError) else "done",
        detail=detail,
    )


def _make_another(kind: str, name: str) -> str:
    """Return how to make a token of this kind."""
    if kind == "operator":
        return f"make a new one with: mosaic-controlplane operator-token --name {name[:64] or 'NAME'}"
    return f"make a new one with: mosaic host token {name[:64] or 'NAME'}"
