"""Writes that answer with the card as it then is."""

from __future__ import annotations

from typing import Any

from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli import output
from mosaic_cli.backlog import calls
from mosaic_cli.backlog.card_files import spend
from mosaic_cli.backlog.view import card_thing
from mosaic_cli.client import connect
from mosaic_cli.output import Format


def change(method: str, request: Any, *, request_id: str, form: Format, context: str, tenant: str) -> None:
    """Make one write of the backlog's service, surely once, and show the card. Raises FleetError."""
    with connect(context, tenant=tenant) as connection:
        request.tenant = connection.tenant
        reply: pb.CardReply = calls.write(
            connection, lambda stub: getattr(stub, method), request, request_id=request_id
        )
    output.show(card_thing(reply.card), form)


def spent(cost: float, tokens: int, seconds: float) -> pb.Spend | None:
    """Return what the command line says was spent; None for nothing."""
    return spend(cost=cost, tokens=tokens, seconds=seconds) if cost or tokens or seconds else None
