"""Claiming: a lost call is made again under its request id, and what it had claimed is returned."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_framework.errors import NotFound
from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli import output
from mosaic_cli.backlog import calls
from mosaic_cli.backlog.view import claim_listing, claim_thing
from mosaic_cli.client import connect
from mosaic_cli.output import Format
from mosaic_cli.text import age


class NothingToClaim(NotFound):
    """There is no card to claim."""

    code = "nothing-to-claim"


@dataclass(frozen=True, slots=True)
class Wish:
    """How long to wait for work, and for how long to take it (seconds; 0: the register's own)."""

    wait: float = 0.0
    lease: float = 0.0
    request_id: str = ""


def claim(request: pb.ClaimRequest, wish: Wish, *, form: Format, context: str, tenant: str) -> None:
    """Claim and show. Raises NothingToClaim, and what the call raises."""
    if wish.wait:
        request.wait.CopyFrom(calls.span(wish.wait))
        output.say(f"waiting up to {age(wish.wait)} for work")
    if wish.lease:
        request.lease.CopyFrom(calls.span(wish.lease))
    with connect(context, tenant=tenant) as connection:
        request.tenant = connection.tenant
        reply = calls.write(connection, lambda stub: stub.Claim, request, request_id=wish.request_id, waits=wish.wait)
    if not reply.claims:
        raise _nothing(reply, wish)
    output.show(claim_thing(reply.claims[0]) if request.max <= 1 else claim_listing(reply.claims), form)


def _nothing(reply: pb.ClaimReply, wish: Wish) -> NothingToClaim:
    if reply.paused:
        return NothingToClaim("nothing is claimed: the fleet is paused", next_step="mosaic fleet resume")
    waited = f", and none came within {age(wish.wait)}" if wish.wait else ""
    return NothingToClaim(f"there is no card to claim{waited}", next_step="mosaic backlog ls; or wait: --wait 10m")
