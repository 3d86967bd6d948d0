"""What cancelling or reclaiming would change, read and not done (--dry-run)."""

from __future__ import annotations

from collections.abc import Sequence

from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli import output
from mosaic_cli.backlog.view import card_listing
from mosaic_cli.client import Connection, connect
from mosaic_cli.documents import now
from mosaic_cli.output import Format

_PAGE = 1_000


def cancelled(card: str, *, form: Format, context: str, tenant: str) -> None:
    """Show the card that would be cancelled, and say what waits for it. Raises CardNotFound."""
    with connect(context, tenant=tenant) as connection:
        reply = connection.call(connection.backlog.Show, pb.ShowCardRequest(tenant=connection.tenant, card_id=card))
    found = reply.card
    over = found.status in (pb.CARD_STATUS_DONE, pb.CARD_STATUS_CANCELLED)
    output.show(card_listing([] if over else [found], reply.at, empty=f"nothing: {found.id} has ended already"), form)
    waiting = [node.id for node in reply.dependants if node.parent == found.id]
    if waiting and not over:
        more = f" and {len(waiting) - 10} more" if len(waiting) > 10 else ""
        output.say(f"until it is unlinked, {', '.join(waiting[:10])}{more} would wait for ever")


def reclaimed(cards: Sequence[str], *, agent: str, expired: bool, form: Format, context: str, tenant: str) -> None:
    """Show the cards that would be taken from their holders. Raises CardNotFound."""
    with connect(context, tenant=tenant) as connection:
        found = _named(connection, cards) if cards else _claimed(connection, agent)
    if expired:
        found = [card for card in found if card.holder.lease_left_ms <= 0]
    output.show(card_listing(found, now(), empty="nothing is held"), form)


def _named(connection: Connection, cards: Sequence[str]) -> list[pb.Card]:
    found: dict[str, pb.Card] = {}
    for one in cards:
        request = pb.ShowCardRequest(tenant=connection.tenant, card_id=one, history_limit=1, tree_depth=-1)
        card = connection.call(connection.backlog.Show, request).card
        if card.status == pb.CARD_STATUS_CLAIMED:
            found[card.id] = card
    return list(found.values())


def _claimed(connection: Connection, holder: str) -> list[pb.Card]:
    request = pb.ListCardsRequest(
        tenant=connection.tenant, statuses=[pb.CARD_STATUS_CLAIMED], holder=holder, limit=_PAGE
    )
    found: list[pb.Card] = []
    while True:
        reply = connection.call(connection.backlog.List, request)
        found += reply.cards
        if not reply.next_cursor:
            return found
        request.cursor = reply.next_cursor
