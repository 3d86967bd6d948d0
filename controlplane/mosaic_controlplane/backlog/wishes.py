"""What a request wants to claim, and why it may not have it (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.backlog.errors import CardNotFound, CardNotReady, holder_of
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import Actor

AGENT_LEASE = timedelta(minutes=5)  # its host renews it every 60 s
DEFAULT_LEASE = timedelta(seconds=900)
LONGEST_LEASE = timedelta(hours=24)
LONGEST_WAIT = timedelta(hours=1)
MOST_CARDS = 100


@dataclass(frozen=True, slots=True)
class Filter:
    """Which cards are wanted: of these required classes (None: any), with all of these labels."""

    classes: tuple[str, ...] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What one request wants to claim: up to `most` cards that `which` fits, or the one named."""

    request_id: UUID
    actor: Actor
    which: Filter = Filter()
    card_id: str = ""
    most: int = 1
    lease: timedelta = DEFAULT_LEASE
    wait: timedelta = timedelta(0)


def check(wish: Wish) -> None:
    """Raise InvalidInput when a wish is out of bounds."""
    if not 1 <= wish.most <= MOST_CARDS:
        raise InvalidInput(f"{wish.most} cards cannot be claimed at once", why=f"1 to {MOST_CARDS} can")
    if not timedelta(seconds=1) <= wish.lease <= LONGEST_LEASE:
        raise InvalidInput("the lease is out of range", why="it lies between 1 second and 24 hours")
    if not timedelta(0) <= wish.wait <= LONGEST_WAIT:
        raise InvalidInput("the time to wait is out of range", why="it lies between 0 and 1 hour")


def not_claimable(wish: Wish, card: CardRow | None, *, paused: bool) -> CardNotFound | CardNotReady:
    """Return why the card that a wish names cannot be claimed now."""
    if card is None:
        return CardNotFound(f"there is no card {wish.card_id!r}")
    why, step = holder_of(card), f"mosaic backlog show {card.card_id}"
    if card.claimable and paused:
        why, step = "the tenant is paused", "mosaic fleet resume"
    elif card.claimable:
        why = "it is not for your class, or lacks a label that was asked for"
    elif card.status == "ready":
        why = f"{card.unmet} of the cards that it depends on are not done"
    details = {"card": card.card_id, "status": card.status}
    return CardNotReady(f"card {card.card_id} cannot be claimed now", why=why, next_step=step, details=details)
