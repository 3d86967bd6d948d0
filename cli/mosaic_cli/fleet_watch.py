"""mosaic fleet watch: every change of agents and hosts, a line each, from a cursor on."""

from __future__ import annotations

from datetime import UTC

from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import connect
from mosaic_cli.documents import host_document, word
from mosaic_cli.feed import Fleet, follow
from mosaic_cli.fleet_view import AgentRow, row_document
from mosaic_cli.output import Format
from mosaic_cli.text import local_time, printable


def watch_fleet(*, cursor: str, form: Format, context: str, tenant: str) -> None:
    """Print what there is and then each change, until interrupted; with `cursor` only what changed after it.

    As JSON each line carries the cursor after it, of what there was at first the last line alone. A cursor that is too
    old is told, and all is shown anew.
    """
    with connect(context, tenant=tenant) as connection:
        on_loss = lambda error: output.say(f"the connection is lost ({error.why}); trying again")  # noqa: E731
        on_reset = lambda why: _tell_reset(why, form)  # noqa: E731
        for fleet, event in follow(connection, cursor=cursor, on_loss=on_loss, on_reset=on_reset):
            if event.WhichOneof("event") == "bookmark" and event.bookmark.snapshot_complete:
                items = [*map(_host, fleet.hosts.values()), *map(_agent, fleet.agents.values())]
                for item in items[-1:]:
                    item.cursor = event.cursor  # the last one's: whoever read only some of them has to begin anew
                for item in items:
                    _show(fleet, item, form)
            else:
                _show(fleet, event, form)


def _tell_reset(why: str, form: Format) -> None:
    if form is Format.JSON:
        output.show_line("Reset", {"reason": why})  # what was told before it may be gone without a word
    output.say(f"{why}: all is shown anew")


def _host(host: pb.Host) -> pb.WatchEvent:
    return pb.WatchEvent(host=host)


def _agent(agent: pb.Agent) -> pb.WatchEvent:
    return pb.WatchEvent(agent=agent)


def _show(fleet: Fleet, event: pb.WatchEvent, form: Format) -> None:
    kind = event.WhichOneof("event")
    if kind == "agent":
        agent = event.agent
        hosts = {(host.tenant, host.name): host for host in fleet.hosts.values()}
        row = AgentRow(agent, hosts.get((agent.tenant, agent.host)), fleet.now())
        if form is Format.JSON:
            output.show_line("Agent", row_document(row) | {"removed": agent.removed, "cursor": event.cursor})
            return
        state = "removed" if agent.removed else word(pb.AgentState, agent.state)
        _line(fleet, f"{agent.host}/{agent.name}", state, agent.problem or agent.state_detail)
    elif kind == "host":
        if form is Format.JSON:
            output.show_line("Host", host_document(event.host, fleet.now()) | {"cursor": event.cursor})
            return
        _line(fleet, event.host.name, word(pb.HostState, event.host.state), event.host.machine)


def _line(fleet: Fleet, name: str, state: str, detail: str) -> None:
    at = local_time(fleet.now().ToDatetime(tzinfo=UTC))
    output.write(printable(f"{at}  {name:<32}  {state:<10}  {detail}".rstrip()) + "\n")
