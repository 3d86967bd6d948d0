"""Listing cards, and checking what is kept about the graph."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from mosaic_framework.errors import EXIT_FAILED
from mosaic_framework.names import nearest
from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli import output
from mosaic_cli.backlog.documents import STATUSES
from mosaic_cli.backlog.view import NOTHING_HERE, card_listing, verify_listing
from mosaic_cli.client import connect
from mosaic_cli.failures import UsageError
from mosaic_cli.output import Format

VERIFY_SECONDS = 120.0


def statuses(words: Sequence[str]) -> list[pb.CardStatus.ValueType]:
    """Return statuses by their words. Raises UsageError with the nearest."""
    for word in words:
        if word not in STATUSES:
            close = nearest(word, STATUSES)
            raise UsageError(
                f"there is no status {word!r}",
                why=f"the nearest is {close[0]}" if close else "",
                next_step=f"one of: {' '.join(STATUSES)}",
            )
    return [pb.CardStatus.Value(f"CARD_STATUS_{word.upper()}") for word in words]


def list_cards(request: pb.ListCardsRequest, *, form: Format, context: str, tenant: str) -> None:
    """Show one page of cards."""
    with connect(context, tenant=tenant) as connection:
        request.tenant = connection.tenant
        request.bodies = request.dependencies = form in (Format.JSON, Format.YAML)
        reply = connection.call(connection.backlog.List, request)
    empty = "nothing can be claimed now" if request.ready else NOTHING_HERE
    output.show(card_listing(reply.cards, reply.at, next_cursor=reply.next_cursor, empty=empty), form)
    if reply.next_cursor and form in (Format.TABLE, Format.WIDE):
        output.say(f"there are more: --cursor {reply.next_cursor}")
    if reply.paused:
        output.say("the fleet is paused: nothing is claimed")


def verify(*, form: Format, context: str, tenant: str) -> None:
    """Show what differs; ends with 1 where anything does."""
    with connect(context, tenant=tenant) as connection:
        request = pb.VerifyBacklogRequest(tenant=connection.tenant)
        reply = connection.call(connection.backlog.Verify, request, timeout=VERIFY_SECONDS)
    output.show(verify_listing(reply), form)
    if reply.mismatches:
        output.say(f"{len(reply.mismatches)}{' or more' if reply.cut else ''} differences")
        raise typer.Exit(EXIT_FAILED)
