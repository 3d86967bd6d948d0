"""Start, stop and restart: raise the seats' generation, then wait until their hosts have caught up."""

from __future__ import annotations

from typing import Any

from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import Connection, connect
from mosaic_cli.fleet_view import LS_COLUMNS, agent_listing, agent_rows
from mosaic_cli.output import Listing
from mosaic_cli.waiting import wait_for_seats

ACTIONS = {
    "start": pb.SEAT_ACTION_START,
    "stop": pb.SEAT_ACTION_STOP,
    "restart": pb.SEAT_ACTION_RESTART,
}


def change_seats(
    action: str, addresses: list[str], *, timeout: float, detach: bool, context: str, tenant: str
) -> Listing[Any]:
    """Ask for `action` on the seats named (none: on all), wait unless detached, and return them as they then are."""
    with connect(context, tenant=tenant) as connection:
        reply = ask(connection, action, addresses)
        ids = {agent.id for agent in reply.agents}
        if not detach and ids:
            output.say(f"waiting for {len(ids)} seat{'s' if len(ids) != 1 else ''} to {action}")
            generations = {item.host: item.generation for item in reply.generations}
            wait_for_seats(connection, lambda agent: agent.id in ids, generations, timeout=timeout)
        found = connection.list_agents()
        rows = [row for row in agent_rows(found.agents, found.hosts, found.at) if row.agent.id in ids]
        return agent_listing(rows, found.at, columns=LS_COLUMNS)


def ask(connection: Connection, action: str, addresses: list[str]) -> pb.ChangeSeatsReply:
    """Make the call alone."""
    request = pb.ChangeSeatsRequest(tenant=connection.tenant, action=ACTIONS[action], agents=addresses)
    reply: pb.ChangeSeatsReply = connection.call(connection.fleet.ChangeSeats, request)
    return reply
