"""What becomes of a card under a claim and by hand, after `hold` has locked and judged it.

Which write is refused, and why, is decided by schema.sql, fleet.card_refusal; `hold` lets one more pass.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from mosaic_controlplane.register.card import CardRow, Maker, card_row
from mosaic_controlplane.register.card_claim import Actor, Spent
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("card_transition")


async def hold(
    connection: Connection, *, tenant_id: UUID, card_id: str, verb: str, fence: int, actor: Actor
) -> tuple[CardRow, str] | None:
    """Lock a card for a write; returns it and why the write is refused ('' when it is not), or None without a card."""
    row = await connection.fetchrow(
        SQL.hold, tenant_id, card_id, verb, fence, actor.id, actor.run_id, actor.may_override
    )
    return None if row is None else (card_row(row["card"]), row["refusal"])


async def written_by(
    connection: Connection, *, request_id: UUID, actor_id: UUID, place: int = 0
) -> tuple[str, str] | None:
    """Return the kind and the card of the transition that this request made (of several, at `place`), or None."""
    row = await connection.fetchrow(SQL.written_by, request_id, actor_id, place)
    return None if row is None else (row["kind"], row["card_id"])


async def note(
    connection: Connection,
    *,
    tenant_id: UUID,
    card_id: str,
    kind: str,
    actor: Actor,
    reason: str = "",
    details: dict[str, str] | None = None,
    request_id: UUID | None = None,
) -> None:
    """Write a transition into the history of a card that this transaction has locked and changed."""
    await connection.execute(
        SQL.note,
        tenant_id,
        card_id,
        kind,
        actor.kind,
        actor.id,
        actor.name,
        actor.run_id,
        reason,
        json.dumps(details) if details else None,
        request_id,
    )


async def renew(
    connection: Connection, *, tenant_id: UUID, card_id: str, lease: timedelta | None, extend: timedelta | None
) -> CardRow:
    """Begin the lease anew; `extend`: its limit is that long from now. To be called after `hold`, as all below."""
    return card_row(await connection.fetchval(SQL.renew, tenant_id, card_id, lease, extend))


async def propose(
    connection: Connection,
    *,
    tenant_id: UUID,
    card_id: str,
    branch: str,
    head: str,
    pull_request: str,
    evidence: Sequence[str],
    spent: Spent,
) -> CardRow:
    """Put a card into review; what is empty stays as it is on the card."""
    return card_row(
        await connection.fetchval(
            SQL.propose,
            tenant_id,
            card_id,
            branch,
            head,
            pull_request,
            list(evidence),
            spent.cost_micros,
            spent.tokens,
            spent.seconds,
        )
    )


async def release(connection: Connection, *, tenant_id: UUID, card_id: str, reason: str, spent: Spent) -> CardRow:
    """Give a card back; one that has used up its attempts is blocked instead."""
    return card_row(
        await connection.fetchval(
            SQL.release, tenant_id, card_id, reason, spent.cost_micros, spent.tokens, spent.seconds
        )
    )


async def block(connection: Connection, *, tenant_id: UUID, card_id: str, reason: str, spent: Spent) -> CardRow:
    """Take a card out of what can be claimed, until somebody unblocks it."""
    return card_row(
        await connection.fetchval(SQL.block, tenant_id, card_id, reason, spent.cost_micros, spent.tokens, spent.seconds)
    )


async def unblock(connection: Connection, *, tenant_id: UUID, card_id: str, reason: str) -> CardRow:
    """Make a blocked card ready, its attempts counted anew."""
    return card_row(await connection.fetchval(SQL.unblock, tenant_id, card_id, reason))


async def cancel(connection: Connection, *, tenant_id: UUID, card_id: str, reason: str) -> CardRow:
    """End a card that is not to be done."""
    return card_row(await connection.fetchval(SQL.cancel, tenant_id, card_id, reason))


async def reclaim(
    connection: Connection,
    *,
    tenant_id: UUID,
    card_ids: Sequence[str] | None,
    holder_id: UUID | None,
    reason: str,
    actor: Maker,
) -> list[CardRow]:
    """Take claimed cards from their holders: those of `card_ids` (None: any) that `holder_id` (None: anybody) holds."""
    rows = await connection.fetch(
        SQL.reclaim,
        tenant_id,
        None if card_ids is None else list(card_ids),
        holder_id,
        reason,
        actor.kind,
        actor.id,
        actor.name,
    )
    return [card_row(row["card"]) for row in rows]
