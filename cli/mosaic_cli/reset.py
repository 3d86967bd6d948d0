"""`mosaic agent reset`: ask for an empty context, wait until a new run has begun, and show it."""

from __future__ import annotations

from typing import Any

from mosaic_framework.errors import Unfinished
from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import connect
from mosaic_cli.fleet_view import LS_COLUMNS, agent_listing, agent_rows
from mosaic_cli.output import Listing
from mosaic_cli.waiting import wait_for_seats


def reset_agents(
    addresses: list[str], *, way: str, timeout: float, detach: bool, context: str, tenant: str
) -> Listing[Any]:
    """Reset the agents named, wait unless detached, and return them as they then are.

    Raises Unfinished after `timeout` seconds: the reset goes on when its agent is available. Raises SeatsHaveProblems
    when its effect was not seen.
    """
    with connect(context, tenant=tenant) as connection:
        request = pb.ChangeSeatsRequest(
            tenant=connection.tenant, action=pb.SEAT_ACTION_RESET, agents=addresses, reset_way=way
        )
        reply = connection.call(connection.fleet.ChangeSeats, request)
        before = {agent.id: agent.run_id for agent in reply.agents}
        if not detach:
            busy = [agent.name for agent in reply.agents if agent.state != pb.AGENT_STATE_AVAILABLE]
            if busy and way != "restart":
                output.say(f"waiting until {', '.join(busy)} is available; messages wait meanwhile")
            generations = {item.host: item.generation for item in reply.generations}
            try:
                wait_for_seats(connection, lambda agent: agent.id in before, generations, timeout=timeout)
            except Unfinished as late:
                late.next_step = f"mosaic agent reset {addresses[0]} --force (restarts it), or wait: mosaic fleet ps"
                raise
        found = connection.list_agents()
        rows = [row for row in agent_rows(found.agents, found.hosts, found.at) if row.agent.id in before]
        for row in rows:
            if row.agent.run_id != before[row.agent.id]:
                output.say(f"{row.agent.host}/{row.agent.name}: run {row.agent.run_id} began")
        return agent_listing(rows, found.at, columns=LS_COLUMNS)
