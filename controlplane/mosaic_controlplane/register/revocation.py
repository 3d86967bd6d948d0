"""Revocation: an identity is shut out, with all that hangs on it, in the caller's transaction.

Whoever holds streams hears of it on CHANNEL when that transaction commits: triggers on the rows tell every replica, so
that no path to a row can forget it. `fallen` is what a replica asks when it may have missed a word.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from mosaic_controlplane.register import message
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("revocation")

CHANNEL = "mosaic_standing"
"""NOTIFY channel of all replicas; the payload is the id of a host, an operator, a peer or an authority."""

HOST_REVOKED = "the host was revoked, so nobody can say whether it was typed"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a stream belongs to: a host, an operator or a peer (`kind`), by id and epoch; `role`: none of a host."""

    tenant_id: UUID
    kind: str
    identity_id: UUID
    identity_epoch: int
    role: str = ""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a revocation did. `already`: it was revoked before, and nothing was done.

    `messages` became unknown; the leases of `cards` are over; `tokens` is how many unused join tokens were voided.
    """

    identity: Identity
    already: bool
    cards: list[str] = field(default_factory=list)
    messages: list[UUID] = field(default_factory=list)
    tokens: int = 0


async def revoke_host(connection: Connection, *, tenant_id: UUID, name: str, by: str, reason: str) -> Revoked | None:
    """Shut a host out; None when there is none of that name.

    Its seats stay desired and wait, as those of any host that is away; what it was given and did not report is unknown.
    """
    row = await connection.fetchrow(SQL.hold_host, tenant_id, name)
    if row is None:
        return None
    host_id = row["host_id"]
    identity = Identity(tenant_id, "host", host_id, row["identity_epoch"])
    tokens = await connection.fetch(SQL.void_tokens, tenant_id, "host", name)
    if row["already"]:
        return Revoked(identity, already=True, tokens=len(tokens))
    await connection.execute(SQL.revoke_host, tenant_id, host_id, by, reason)
    messages = await message.journal_replaced(connection, tenant_id=tenant_id, host_id=host_id, reason=HOST_REVOKED)
    cards = await connection.fetch(SQL.end_leases, tenant_id, host_id)
    return Revoked(identity, False, [row["card_id"] for row in cards], messages, len(tokens))


async def revoke_operator(
    connection: Connection, *, tenant_id: UUID, name: str, by: str, reason: str
) -> Revoked | None:
    """Shut an operator out, on every machine; None when there is none of that name."""
    row = await connection.fetchrow(SQL.hold_operator, tenant_id, name)
    if row is None:
        return None
    identity = Identity(tenant_id, "operator", row["operator_id"], row["identity_epoch"], row["role"])
    tokens = await connection.fetch(SQL.void_tokens, tenant_id, "operator", name)
    if not row["already"]:
        await connection.execute(SQL.revoke_operator, tenant_id, row["operator_id"], by, reason)
    return Revoked(identity, row["already"], tokens=len(tokens))


async def fallen(connection: Connection, identities: Collection[Identity]) -> set[UUID]:
    """Return the ids of those that stand no longer as they did, in one statement."""
    asked = list(identities)
    rows = await connection.fetch(
        SQL.fallen,
        [one.tenant_id for one in asked],
        [one.kind for one in asked],
        [one.identity_id for one in asked],
        [one.identity_epoch for one in asked],
        [one.role for one in asked],
    )
    return {row["identity_id"] for row in rows}
