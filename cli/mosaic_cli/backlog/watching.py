"""`backlog ls -w`: one page of cards, looked at again and again, and what of it has changed.

Cards are not in the change stream, which would cost every claim a row more. So there is nothing to resume: what was
shown is compared with what is there, also after a lost connection. No state is told twice, and the newest never missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli import output
from mosaic_cli.backlog.documents import card_document
from mosaic_cli.backlog.view import NOTHING_HERE, card_listing
from mosaic_cli.client import connect
from mosaic_cli.looking import looks
from mosaic_cli.output import Format


@dataclass(slots=True)
class Page:
    """The page as it was shown last, by id, in its order."""

    cards: dict[str, pb.Card] = field(default_factory=dict)

    def changes(self, cards: Sequence[pb.Card]) -> list[tuple[pb.Card, bool]]:
        """Take the page as it is now; returns each card that differs from what was shown, and whether it left."""
        now = {card.id: card for card in cards}
        changed = [(card, False) for card in cards if _state(card) != _state(self.cards.get(card.id))]
        left = [(card, True) for card in self.cards.values() if card.id not in now]
        self.cards = now
        return changed + left


def _state(card: pb.Card | None) -> tuple[Any, ...]:
    """What of a card is a change when it differs; a lease that only runs down or is renewed is none."""
    if card is None:
        return ()
    return card.status, card.fence, card.unmet, card.claimable, card.changed_at.seconds, card.changed_at.nanos


def watch_cards(request: pb.ListCardsRequest, *, form: Format, context: str, tenant: str) -> None:
    """Show a page of cards until interrupted: JSON as one object a card that changes, else the page anew."""
    page, first = Page(), True
    with connect(context, tenant=tenant) as connection:
        request.tenant = connection.tenant
        request.bodies = request.dependencies = form is Format.JSON
        for reply in looks(connection, lambda: connection.call(connection.backlog.List, request)):
            changes = page.changes(reply.cards)
            if form is Format.JSON:
                for card, left in changes:
                    output.show_line("Card", card_document(card) | {"left": left})
            elif changes or first:
                output.show_anew(card_listing(reply.cards, reply.at, empty=NOTHING_HERE), form)
            first = False
