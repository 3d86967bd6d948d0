"""Who writes to the backlog, and which card they mean."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from mosaic_framework.errors import Ambiguous, InvalidInput
from mosaic_framework.names import nearest

from mosaic_controlplane.backlog.drafts import CARD_ID
from mosaic_controlplane.backlog.errors import CardNotFound, NotHolder
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register import card as card_table
from mosaic_controlplane.register import card_lease as lease_table
from mosaic_controlplane.register import peer_claim
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import Actor
from mosaic_controlplane.register.database import Connection

GATE_CLASS = "merge-gate"
"""The class of agents that completes what others propose."""

_BESIDE = 100


def actor_of(caller: Caller, *, claimant: UUID | None = None) -> Actor:
    """Return the caller as the one who writes.

    An agent's claims are its run's, which its host named and the register knows to live. An operator's are those of
    `claimant`, an id it made for a worker of its own, else of the operator. Raises InvalidInput for one of an agent.
    """
    if caller.kind == "agent":
        if claimant is not None:
            raise InvalidInput("an agent claims for itself", why="a claimant id is for operators and their scripts")
        run_id = caller.run_id or caller.id
        return Actor("agent", caller.id, caller.name, run_id, may_override=caller.role == GATE_CLASS)
    return Actor(caller.kind, caller.id, caller.name, claimant or caller.id, may_override=True)


def seen_by(card: CardRow, actor: Actor) -> CardRow:
    """Return a card as the actor may see it: who else holds it, or held it last, is no peer's matter."""
    if actor.kind != "peer" or card.holder_id == actor.id:
        return card
    return replace(card, holder_kind=None, holder_id=None, holder_name=None, run_id=None)


async def resolve(connection: Connection, *, tenant_id: UUID, card_id: str) -> str:
    """Return the id that `card_id` is, or begins. Raises CardNotFound with the nearest ids, or Ambiguous."""
    if not CARD_ID.fullmatch(card_id):
        raise CardNotFound(f"{card_id[:64]!r} is no card id", why="it has letters, digits and _.-, at most 128")
    found = await card_table.by_prefix(connection, tenant_id=tenant_id, prefix=card_id)
    if card_id in found or len(found) == 1:
        return card_id if card_id in found else found[0]
    if not found:
        # A backlog may hold a million ids: only those beside this one in their order are compared.
        close = nearest(
            card_id, await card_table.beside(connection, tenant_id=tenant_id, card_id=card_id, most=_BESIDE)
        )
        raise CardNotFound(
            f"there is no card {card_id!r}",
            why=f"the nearest ids are {', '.join(close)}" if close else "",
            details={"nearest": " ".join(close)} if close else {},
        )
    candidates = " ".join(found[:5])
    raise Ambiguous(
        f"{card_id!r} fits more than one card",
        why=candidates + (" …" if len(found) > 5 else ""),
        details={"candidates": candidates},
    )


async def held_card(connection: Connection, *, tenant_id: UUID, actor: Actor) -> str:
    """Return the one card that the actor's run holds, or held when its lease ran out. Raises NotHolder or Ambiguous."""
    held = await lease_table.held_by_run(connection, tenant_id=tenant_id, run_id=actor.run_id)
    living = [card for card in held if card.status == "claimed"] or held
    if not living:
        raise NotHolder(
            "you hold no card", why="no card is named, and none is claimed", next_step="mosaic backlog claim"
        )
    if len(living) > 1:
        candidates = " ".join(card.card_id for card in living)
        raise Ambiguous(
            "you hold more than one card", why=f"name one of: {candidates}", details={"candidates": candidates}
        )
    return living[0].card_id


async def named_or_held(connection: Connection, *, tenant_id: UUID, card_id: str, actor: Actor) -> str:
    """Return the card that is named, or else the one that the actor holds. Of others' cards a peer learns nothing."""
    if card_id and actor.kind == "peer":
        found = await peer_claim.known(connection, tenant_id=tenant_id, peer_id=actor.id, prefix=card_id)
        if card_id in found or len(found) == 1:
            return card_id if card_id in found else found[0]
        if found:
            raise Ambiguous(f"{card_id[:64]!r} fits more than one card", why=" ".join(found[:5]))
        raise CardNotFound(f"your cluster has claimed no card {card_id[:64]!r}")
    if card_id:
        return await resolve(connection, tenant_id=tenant_id, card_id=card_id)
    return await held_card(connection, tenant_id=tenant_id, actor=actor)
