"""Join tokens: made by an admin, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_framework import pki
from mosaic_framework.enrolment import KINDS, PEER, JoinToken
from mosaic_framework.errors import InvalidInput
from mosaic_framework.ids import new_id
from mosaic_framework.names import check_name

from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.caller import PEER_ROLES, ROLES
from mosaic_controlplane.register import join_token
from mosaic_controlplane.register.database import Connection

DEFAULT_TTL = timedelta(minutes=10)
LONGEST_TTL = timedelta(hours=24)
SECRET_BYTES = 32


def secret_hash(secret: str) -> bytes:
    """Return what the register keeps of a secret. It is 256 random bits: a plain SHA-256 cannot be guessed back."""
    return hashlib.sha256(secret.encode()).digest()


async def make_token(
    connection: Connection,
    cluster: ClusterIdentity,
    *,
    tenant_id: UUID,
    tenant: str,
    kind: str,
    name: str,
    role: str = "",
    made_by: str,
    ttl: timedelta = DEFAULT_TTL,
    enrol_addresses: Sequence[str],
) -> tuple[JoinToken, datetime]:
    """Make a token that turns its first user into the host, operator or peer `name`; return it and when it expires.

    `role` is an operator's (admin, operator or viewer), or what a peer's people count as (operator or viewer).
    Raises InvalidInput on a bad name, kind, role or time.
    """
    check_name(name, what=kind)
    if kind not in (*KINDS, PEER):
        raise InvalidInput(f"there is no token for a {kind!r}", why=f"it is one of {', '.join((*KINDS, PEER))}")
    roles = {"host": (role,), "operator": ROLES, PEER: PEER_ROLES}[kind]
    if role not in roles:
        raise InvalidInput(f"there is no role {role[:64]!r}", why=f"it is one of {', '.join(roles)}")
    if not timedelta(seconds=1) <= ttl <= LONGEST_TTL:
        raise InvalidInput(
            "a token cannot live that long" if ttl > LONGEST_TTL else "a token must live for a second at least",
            why="it lives for at most 24 hours",
        )
    secret = secrets.token_urlsafe(SECRET_BYTES)
    token = join_token.NewToken(
        tenant_id=tenant_id,
        token_id=new_id(),
        kind=kind,
        name=name,
        role=role if kind != "host" else None,
        secret_hash=secret_hash(secret),
        made_by=made_by,
    )
    await join_token.forget_old(connection)
    expires_at = await join_token.add(connection, token, ttl=ttl)
    shown = JoinToken(
        kind=kind,
        tenant=tenant,
        name=name,
        trust_domain=cluster.trust_domain,
        addresses=list(enrol_addresses),
        authority_der=pki.certificate_to_der(cluster.signer.certificate),
        secret=secret,
        further_der=[pki.certificate_to_der(root) for root in cluster.roots if root != cluster.signer.certificate],
        cluster=cluster.alias if kind == PEER else "",
    )
    return shown, expires_at
