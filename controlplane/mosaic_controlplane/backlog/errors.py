"""Why a write to a card is refused, in words; the rule itself is schema.sql, fleet.card_refusal."""

from __future__ import annotations

from mosaic_framework.errors import Conflict, Denied, FleetError, NotFound

from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.request import RequestReused


class CardNotFound(NotFound):
    """There is no such card."""

    code = "card-not-found"
    hint = "mosaic backlog ls"


class FenceSuperseded(Conflict):
    """This claim is over: somebody else has had the card since."""

    code = "fence-superseded"


class LeaseOver(Conflict):
    """The lease of this claim has run out."""

    code = "lease-over"


class NotHolder(Conflict):
    """This card is held by somebody else."""

    code = "card-not-held"


class CardNotClaimed(Conflict):
    """This card is not claimed."""

    code = "card-not-claimed"


class CardEnded(Conflict):
    """This card is done or cancelled already."""

    code = "card-ended"


class CardNotBlocked(Conflict):
    """This card is not blocked."""

    code = "card-not-blocked"


class CardGated(Denied):
    """This card is completed by its gate."""

    code = "card-gated"


class HostDraining(Conflict):
    """The host of this agent is being drained."""

    code = "host-draining"
    hint = "finish what you hold; do not ask for work again until you are told to"


class CardNotReady(Conflict):
    """This card cannot be claimed now."""

    code = "card-not-ready"

    @property
    def for_good(self) -> bool:
        """Whether the card has ended, so that it will never be ready."""
        return self.details.get("status") in ("done", "cancelled")


def holder_of(card: CardRow) -> str:
    """Return who holds a card, or what state it is in, as half a sentence."""
    if card.status == "claimed":
        return (
            f"{card.holder_kind or ''} {card.holder_name or 'somebody'}".strip() + f" holds it under fence {card.fence}"
        )
    if card.status in ("done", "review"):
        state = "completed" if card.status == "done" else "proposed"
        return f"it is {card.status}, {state} under fence {card.fence} by {card.holder_name or 'nobody'}"
    return f"nobody holds it: it is {card.status}, its fence is {card.fence}"


def refused(refusal: str, card: CardRow | None, *, card_id: str, verb: str, fence: int) -> FleetError:
    """Return the error for a refusal of fleet.card_refusal or fleet.complete_cards."""
    if card is None:
        return CardNotFound(f"there is no card {card_id!r}")
    show = f"mosaic backlog show {card.card_id}"
    details = {
        "card": card.card_id,
        "status": card.status,
        "fence": str(card.fence),
        "asked_fence": str(fence),
        "holder": card.holder_name or "" if card.status == "claimed" else "",
    }
    name = f"card {card.card_id}"
    now = holder_of(card)
    match refusal:
        case "superseded":
            return FenceSuperseded(
                f"{name} is not held under fence {fence} any more", why=now, next_step=show, details=details
            )
        case "not-holder":
            return NotHolder(f"you do not hold {name}", why=now, next_step=show, details=details)
        case "lease-over":
            why = "complete and propose are still accepted, as long as nobody else takes it"
            return LeaseOver(f"your lease on {name} has run out", why=why, next_step=show, details=details)
        case "gated":
            why = "it has a gate: merge-gate or an operator completes it"
            step = f"mosaic backlog propose {card.card_id}"
            return CardGated(f"you may not complete {name}", why=why, next_step=step, details=details)
        case "gate":
            why = "it is in review: merge-gate or an operator decides"
            return CardGated(f"you may not {verb} {name} now", why=why, next_step=show, details=details)
        case "not-claimed":
            return CardNotClaimed(f"{name} is not claimed, so you cannot {verb} it", why=now, details=details)
        case "not-blocked":
            return CardNotBlocked(f"{name} is not blocked", why=now, details=details)
        case "request-reused":
            return RequestReused(details=details)
        case _:
            return CardEnded(f"{name} is {card.status} already", why=now, next_step=show, details=details)
