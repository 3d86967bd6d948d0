"""`backlog ls -w`: one page of cards, looked at again and again, and what of it has changed.

Cards are not in the change stream, which would cost every claim a row more. So there is nothing to resume: what was
shown is compared with what is there, also after a lost connection. No state is told twice, and the newest never missed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mosaic_framework.errors import Unreachable
from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli import output
from mosaic_cli.backlog.documents import card_document
from mosaic_cli.backlog.view import NOTHING_HERE, card_listing
from mosaic_cli.client import connect
from mosaic_cli.output import Format

LOOK_SECONDS = 1.0


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
    page, first, lost = Page(), True, False
    with connect(context, tenant=tenant) as connection:
        request.tenant = connection.tenant
        request.bodies = request.dependencies = form is Format.JSON
        while True:
            try:
                reply = connection.call(connection.backlog.List, request)
            except Unreachable as error:
                if first:
                    raise
                if not lost:
                    output.say(f"the connection is lost ({error.why}); trying again")
                lost = True
                time.sleep(LOOK_SECONDS)
                connection.reconnect()
                continue
            lost = False
            changes = page.changes(reply.cards)
            if form is Format.JSON:
                for card, left in changes:
                    output.show_line("Card", card_document(card) | {"left": left})
            elif changes or first:
                if sys.stdout.isatty():
                    output.write("\x1b[H\x1b[2J")
                output.show(card_listing(reply.cards, reply.at, empty=NOTHING_HERE), form)
            first = False
            time.sleep(LOOK_SECONDS)  # nobody tells of cards
