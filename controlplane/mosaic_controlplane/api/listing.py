"""The fleet as a list: all of it in one reply, or a page at a time."""

from __future__ import annotations

from uuid import UUID

from mosaic_framework.errors import InvalidInput
from mosaic_framework.names import NAME_LIMIT
from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_controlplane.api import clusters, encode
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import addresses
from mosaic_controlplane.mesh.clusters import Choice
from mosaic_controlplane.register import agent as agent_table
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import replica, shared
from mosaic_controlplane.register import roster as roster_table
from mosaic_controlplane.register import tenant as tenant_table
from mosaic_controlplane.register.database import Connection

PAGE_LIMIT = 5_000  # an agent is some 300 bytes; a reply takes 4 MiB


async def list_agents(
    connection: Connection, asked: pb.ListAgentsRequest, caller: Caller, choice: Choice
) -> pb.ListAgentsReply:
    """Return the agents asked for; with the first page, hosts and what is said of the whole; with the last, peers and
    what they show. Raises InvalidInput, NotFound.
    """
    tenant_id = choice.tenant_id
    after = _place(asked.page_token)
    size = min(asked.page_size, PAGE_LIMIT) if asked.page_size > 0 else None
    chosen: UUID | None = None
    if asked.address:
        chosen = (await addresses.one_seat(connection, tenant_id=tenant_id, address=asked.address)).agent_id
    reply = pb.ListAgentsReply(at=encode.timestamp(await replica.database_time(connection)))
    if choice.own:
        if chosen is not None:
            agents = [await shared.agent(connection, tenant_id=tenant_id, agent_id=chosen)]
        else:
            agents = await agent_table.list_agents(connection, tenant_id=tenant_id, after=after, limit=size)
        reply.agents.extend(encode.agent(row) for row in agents)
        if chosen is None and len(agents) == size:
            reply.next_page_token = f"{agents[-1].host}/{agents[-1].name}"
    if not asked.page_token:
        newest = await roster_table.newest(connection, tenant_id=tenant_id)
        of = await tenant_table.find_by_name(connection, caller.tenant)
        reply.paused = of is not None and of.paused
        reply.roster_version = newest.version if newest else 0
        if choice.own:
            reply.hosts.extend(encode.host(row) for row in await host_table.list_hosts(connection, tenant_id=tenant_id))
    if not asked.address and not reply.next_page_token:
        await clusters.add_to(reply, connection, choice)
    return reply


def _place(page_token: str) -> tuple[str, str]:
    """Return the (host, name) after which a page begins. Raises InvalidInput."""
    if not page_token:
        return agent_table.FIRST
    host, _, name = page_token.partition("/")
    if not host or not name or "\0" in page_token or len(page_token) > 2 * NAME_LIMIT + 1:
        raise InvalidInput("this page token is not one of ours", next_step="list again without one")
    return host, name
