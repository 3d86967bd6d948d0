"""One agent for a person: what it is, what it does, what is on its terminal."""

from __future__ import annotations

from typing import Any

from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import answer_within, connect
from mosaic_cli.documents import agent_document, moment, seconds_between
from mosaic_cli.fleet_view import agent_rows, row_document, seen
from mosaic_cli.output import Format, Thing
from mosaic_cli.text import age, local_time, safe_lines


def show_agent(address: str, *, context: str, tenant: str) -> Thing:
    """Return one agent. The control plane finds it by address: NotFound with the nearest names, or Ambiguous."""
    with connect(context, tenant=tenant) as connection:
        request = pb.ListAgentsRequest(tenant=connection.tenant, address=address)
        reply = connection.call(connection.fleet.ListAgents, request)
    row = agent_rows(reply.agents, reply.hosts, reply.at)[0]
    agent = row.agent
    since = age(seconds_between(reply.at, agent.state_since))
    lines = [
        ("agent", f"{agent.host}/{agent.name}" + (f" ({agent.alias})" if agent.alias else "")),
        ("tenant", agent.tenant),
        ("class", getattr(agent, "class")),
        ("runtime", f"{agent.runtime} {agent.model}".strip()),
        ("state", row.state + (f" for {since}" if since else "")),
        ("evidence", ": ".join(part for part in (agent.state_source, agent.state_detail) if part)),
        ("seen", f"{age(seen(row))} ago" if seen(row) is not None else "never"),
        ("drift", row.drift),
        ("wanted", f"{'running' if agent.desired_running else 'stopped'}, generation {agent.generation}"),
        ("reached", f"generation {agent.observed_generation}"),
        ("process", f"{agent.pid} {agent.command}" if agent.pid else ""),
        ("driven", _driven(agent, reply.at)),
        ("folder", agent.working_directory),
        ("says", " ".join(part for part in (agent.reported_model, agent.runtime_version) if part)),
        ("session", agent.runtime_session),
        ("run", agent.run_id),
        ("since", local_time(moment(agent.state_since))),
        ("id", agent.id),
    ]
    return Thing("Agent", f"{agent.host}/{agent.name}", row_document(row), lines)


def _driven(agent: pb.Agent, at: Any) -> str:
    """Return who has taken over its terminal by hand, and for how long."""
    if not agent.driver:
        return ""
    return f"by {agent.driver}, for {age(seconds_between(at, agent.driven_since)) or '?'} (mosaic agent attach)"


def tail_agent(address: str, *, lines: int, form: Format, context: str, tenant: str) -> None:
    """Write an agent's terminal to stdout: its text alone, unless a document is asked for."""
    with connect(context, tenant=tenant) as connection:
        request = pb.TailRequest(tenant=connection.tenant, address=address, lines=lines)
        reply = connection.call(connection.fleet.Tail, request, timeout=answer_within(address))
    if form in (Format.TABLE, Format.WIDE):
        text = safe_lines(reply.text).rstrip()
        if text:
            output.write(text + "\n")
        return
    owner = f"{reply.agent.cluster}/" if reply.agent.cluster else ""
    address = f"{owner}{reply.agent.host}/{reply.agent.name}"
    body = {"text": reply.text, "agent": agent_document(reply.agent, reply.agent.reported_at)}
    output.show(Thing("Terminal", address, body, []), form)
