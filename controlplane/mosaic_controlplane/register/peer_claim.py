"""Cards that other clusters claim: which a grant lets them take, which they hold, and how those are taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from mosaic_controlplane.register import card_transition
from mosaic_controlplane.register.card import CardRow, Maker, card_row
from mosaic_controlplane.register.card_claim import Slot, Taken
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("peer_claim")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which cards a grant is about: regular expressions, one of which must fit (None: any); of `labels`, every one."""

    classes: tuple[str, ...] | None = None
    missions: tuple[str, ...] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A card that can be claimed, locked by this transaction. The lowest `place` is the best."""

    card_id: str
    place: tuple[int, int]


async def claimable(
    connection: Connection,
    *,
    tenant_id: UUID,
    bounds: Bounds,
    classes: Sequence[str] | None,
    labels: Sequence[str],
    card_id: str = "",
    limit: int,
) -> list[Candidate]:
    """Lock and return the best ready cards within `bounds`, of one of `classes` (None: any), with all `labels`."""
    rows = await connection.fetch(
        SQL.claimable,
        tenant_id,
        card_id,
        None if classes is None else list(classes),
        list(labels),
        bounds.classes,
        bounds.missions,
        bounds.labels,
        limit,
    )
    return [Candidate(row["card_id"], (row["rank"], row["seq"])) for row in rows]


async def held(connection: Connection, *, tenant_id: UUID, peer_id: UUID, bounds: Bounds) -> int:
    """Return how many cards within `bounds` a peer holds."""
    return int(await connection.fetchval(SQL.held, tenant_id, peer_id, bounds.classes, bounds.missions, bounds.labels))


async def covers(connection: Connection, *, tenant_id: UUID, card_id: str, bounds: Bounds) -> bool:
    """Return whether a card is within `bounds`, whoever holds it."""
    found = await connection.fetchval(SQL.covers, tenant_id, card_id, bounds.classes, bounds.missions, bounds.labels)
    return bool(found)


async def take(
    connection: Connection, *, tenant_id: UUID, card_ids: Sequence[str], slots: Sequence[Slot]
) -> list[Taken]:
    """Give cards that this transaction has locked to the slots, in their order."""
    rows = await connection.fetch(
        SQL.take,
        tenant_id,
        list(card_ids),
        [slot.request_id for slot in slots],
        [slot.place for slot in slots],
        [slot.actor.run_id for slot in slots],
        [slot.actor.kind for slot in slots],
        [slot.actor.id for slot in slots],
        [slot.actor.name for slot in slots],
        [slot.lease for slot in slots],
    )
    cards = [(row, card_row(row["card"])) for row in rows]
    return [Taken(row["request_id"], row["place"], card, card.fence, card.changed_at) for row, card in cards]


async def known(connection: Connection, *, tenant_id: UUID, peer_id: UUID, prefix: str) -> list[str]:
    """Return up to six cards that a peer has ever claimed whose id is `prefix` or begins with it."""
    return [row["card_id"] for row in await connection.fetch(SQL.known, tenant_id, peer_id, prefix)]


async def release_claims_of_peer(
    connection: Connection, *, tenant_id: UUID, peer_id: UUID, reason: str, by: Maker
) -> list[CardRow]:
    """Take back all that a peer holds, in the transaction in which it is revoked; returns the cards, ready again.

    To be called after the peer's row is locked or changed: a claim holds it until it has committed. Nobody who waits
    for work is woken: whoever does looks again within 5 s.
    """
    return await card_transition.reclaim(
        connection, tenant_id=tenant_id, card_ids=None, holder_id=peer_id, reason=reason, actor=by
    )
