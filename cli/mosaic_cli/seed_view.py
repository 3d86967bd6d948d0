"""What an agent boots with, for a person and for the agent itself: the whole seed, or its comms block."""

from __future__ import annotations

from mosaic_framework.names import check_name
from mosaic_proto.v1 import seeding_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import connect
from mosaic_cli.output import Format, Thing

_NOTHING = "is given nothing at its start: its program takes no contract"


def show_contract(address: str, *, form: Format, context: str, tenant: str) -> None:
    """Write to stdout what the seat boots with when it is launched now, byte for byte; or that as a document.

    Raises NotFound with the nearest names, or Ambiguous.
    """
    seed = _seed(address, context=context, tenant=tenant)
    place = f"{seed.host}/{seed.name}"
    if form in (Format.TABLE, Format.WIDE):
        output.write(seed.text)
        if not seed.text:
            output.say(f"{place} {_NOTHING}")
        return
    body = {
        "host": seed.host,
        "name": seed.name,
        "digest": seed.digest,
        "delivery": seed.delivery,
        "text": seed.text,
        "parts": [{"name": part.name, "digest": part.digest, "text": part.text} for part in seed.parts],
    }
    output.show(Thing("AgentContract", place, body, []), form)


def show_comms_block(name: str, *, host: str, form: Format, context: str, tenant: str) -> None:
    """Write an agent's comms block to stdout, with every peer. Raises NotFound with the nearest names, or Ambiguous."""
    if host:
        check_name(host, what="host")
    seed = _seed(f"{host}/{name}" if host else name, context=context, tenant=tenant)
    if form in (Format.TABLE, Format.WIDE):
        output.write(seed.comms_block)
        return
    place = f"{seed.host}/{seed.name}"
    output.show(Thing("CommsBlock", place, {"host": seed.host, "name": seed.name, "text": seed.comms_block}, []), form)


def _seed(address: str, *, context: str, tenant: str) -> pb.GetSeedReply:
    with connect(context, tenant=tenant) as connection:
        request = pb.GetSeedRequest(tenant=connection.tenant, address=address)
        reply: pb.GetSeedReply = connection.call(connection.seeding.GetSeed, request)
    return reply
