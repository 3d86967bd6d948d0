"""Listings of agents and hosts: once, or kept up to date with `--watch`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import typer
from mosaic_framework.errors import EXIT_UNREACHABLE
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import peers_pb2

from mosaic_cli import completion, output
from mosaic_cli.client import Connection, connect
from mosaic_cli.cluster_view import clusters_told, columns_for
from mosaic_cli.documents import host_document
from mosaic_cli.feed import Fleet, follow
from mosaic_cli.fleet_view import AgentRow, agent_listing, agent_rows, host_listing, pick, row_document, unmanaged_rows
from mosaic_cli.output import Column, Format, Listing
from mosaic_cli.peer_view import peer_document

EVERY = "*"
_REDRAW = 1.0
"""At most one redraw a second: a fleet that changes fast must not flicker."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which agents to show; an empty field picks all."""

    host: str = ""
    class_: str = ""
    runtime: str = ""
    state: str = ""
    labels: tuple[tuple[str, str | None], ...] = ()

    def of(self, rows: Sequence[AgentRow]) -> list[AgentRow]:
        """Return the rows picked."""
        return pick(rows, **asdict(self))


def show_agents(
    selection: Selection,
    *,
    columns: Sequence[Column[AgentRow]],
    form: Format,
    watch: bool,
    context: str,
    tenant: str,
    whole: bool = False,
    clusters: str = "",
) -> None:
    """Show agents. `whole`: with every session that is nobody's seat; rows that may be old make the exit code 5.

    `clusters`: whose. Empty: this cluster's; `*`: with all that others show; else those of the one named, which makes
    the exit code 5 when that one is not heard of.
    """
    with connect(context, tenant=tenant) as connection:
        cluster = connection.cluster
        if watch:
            view = View(selection, columns, cluster, whole=whole)
            _watch(connection, form, view.listing, view.event, clusters)
            return
        reply = connection.list_agents(clusters)
        completion.remember(
            Home.from_environment(),
            context,
            tenant,
            [(agent.host, agent.name) for agent in reply.agents if not agent.cluster],
            [host.name for host in reply.hosts if not host.cluster],
        )
    # A name is an address that other commands take: sessions of nobody's have none.
    unmanaged = whole and form is not Format.NAME
    rows = selection.of(
        agent_rows(reply.agents, reply.hosts, reply.at, cluster=cluster, unmanaged=unmanaged, peers=reply.peers)
    )
    output.show(_listing(rows, reply.at, columns, reply.peers), form)
    if reply.paused:
        output.say("the fleet is paused")
    chosen = clusters not in ("", EVERY, cluster)
    said, old = clusters_told(reply.peers, reply.at, chosen=chosen)
    for line in said:
        output.say(line)
    silent = sorted({row.agent.host for row in rows if row.old and not row.agent.cluster})
    theirs = sorted({f"{row.agent.cluster}/{row.agent.host}" for row in rows if row.old and row.agent.cluster})
    if whole and (silent or theirs) and not old:
        output.say(f"stale: {', '.join([*silent, *theirs])} not heard of")
    elif whole and silent:
        output.say(f"stale: {', '.join(silent)} not heard of")
    if (whole and (silent or theirs)) or ((whole or chosen) and old):
        raise typer.Exit(EXIT_UNREACHABLE)


def _listing(
    rows: Sequence[AgentRow], at: Any, columns: Sequence[Column[AgentRow]], peers: Iterable[peers_pb2.PeerCluster]
) -> Listing[AgentRow]:
    listing = agent_listing(rows, at, columns=columns_for(columns, rows))
    listing.extra["peers"] = [peer_document(peer, at) for peer in sorted(peers, key=lambda peer: peer.name)]
    return listing


def show_hosts(*, form: Format, watch: bool, every: bool, context: str, tenant: str) -> None:
    """Show hosts. `every`: also those that have left."""

    def wanted(hosts: Iterable[pb.Host]) -> list[pb.Host]:
        return [host for host in hosts if every or host.state != pb.HOST_STATE_LEFT]

    with connect(context, tenant=tenant) as connection:
        if watch:
            _watch(connection, form, lambda fleet: host_listing(wanted(fleet.hosts.values()), fleet.now()), _host_event)
            return
        reply = connection.call(connection.hosts.List, pb.ListHostsRequest(tenant=connection.tenant))
    output.show(host_listing(wanted(reply.hosts), reply.at), form)


Event = Callable[[Fleet, pb.WatchEvent], tuple[str, dict[str, Any]] | None]


def _watch(
    connection: Connection,
    form: Format,
    listing: Callable[[Fleet], Listing[Any]],
    event_of: Event,
    clusters: str = "",
) -> None:
    """Show every change until interrupted: JSON as one object a line, else the whole listing anew."""
    on_loss = lambda error: output.say(f"the connection is lost ({error.why}); trying again")  # noqa: E731
    first, drawn = True, 0.0
    for fleet, event in follow(connection, cluster=clusters, on_loss=on_loss):
        kind = event.WhichOneof("event")
        whole = kind == "bookmark" and event.bookmark.snapshot_complete
        if form is Format.JSON:
            if whole and not first:
                output.show_line("Reset", {"reason": "the changes since then cannot be told: here is all anew"})
            for item in _snapshot_events(fleet) if whole else [event]:
                _line(event_of(fleet, item))
        elif whole or kind != "bookmark":
            # Pause before the redraw, so that the newest state is what stays on the screen.
            if not first:
                time.sleep(max(0.0, drawn + _REDRAW - time.monotonic()) if sys.stdout.isatty() else 0.0)
            output.show_anew(listing(fleet), form)
            drawn = time.monotonic()
        first = False


def _snapshot_events(fleet: Fleet) -> list[pb.WatchEvent]:
    hosts = [pb.WatchEvent(peer=peer) for peer in fleet.peers.values()]
    hosts += [pb.WatchEvent(host=host) for host in fleet.hosts.values()]
    return hosts + [pb.WatchEvent(agent=agent) for agent in fleet.agents.values()]


def _line(found: tuple[str, dict[str, Any]] | None) -> None:
    if found is not None:
        output.show_line(*found)


class View:
    """What `--watch` shows of a fleet: agents, and with `whole` the sessions that are nobody's seat."""

    def __init__(self, selection: Selection, columns: Sequence[Column[AgentRow]], cluster: str, *, whole: bool) -> None:
        self._selection = selection
        self._columns = columns
        self._cluster = cluster
        self._whole = whole
        self._unmanaged: dict[str, list[pb.UnmanagedSession]] = {}

    def listing(self, fleet: Fleet) -> Listing[AgentRow]:
        """Return the fleet as it is now."""
        at = fleet.now()
        peers = list(fleet.peers.values())
        rows = agent_rows(
            fleet.agents.values(),
            fleet.hosts.values(),
            at,
            cluster=self._cluster,
            unmanaged=self._whole,
            peers=peers,
        )
        return _listing(self._selection.of(rows), at, self._columns, peers)

    def event(self, fleet: Fleet, event: pb.WatchEvent) -> tuple[str, dict[str, Any]] | None:
        """Return an event's line: an agent, or all the unmanaged sessions of a host whose list is another one now."""
        if event.WhichOneof("event") == "host" and self._whole:
            return self._unmanaged_of(event.host, fleet.now(), event.cursor)
        if event.WhichOneof("event") == "peer":
            return "PeerCluster", peer_document(event.peer, fleet.now()) | {"cursor": event.cursor or None}
        if event.WhichOneof("event") != "agent":
            return None
        agent = event.agent
        host = next((one for one in fleet.hosts.values() if _sits_on(agent, one)), None)
        peer = next((one for one in fleet.peers.values() if agent.cluster and one.name == agent.cluster), None)
        row = AgentRow(agent, host, fleet.now(), cluster=self._cluster, peer=peer)
        if not self._selection.of([row]):
            return None
        return "Agent", row_document(row) | {"removed": event.agent.removed, "cursor": event.cursor or None}

    def _unmanaged_of(self, host: pb.Host, at: Any, cursor: str) -> tuple[str, dict[str, Any]] | None:
        sessions = list(host.unmanaged)
        if self._unmanaged.get(host.id, []) == sessions:
            return None
        self._unmanaged[host.id] = sessions
        rows = self._selection.of(unmanaged_rows(host, at, cluster=self._cluster))
        items = [row_document(row) for row in rows]
        return "UnmanagedSessions", {"host": host.name, "items": items, "cursor": cursor or None}


def _sits_on(agent: pb.Agent, host: pb.Host) -> bool:
    return (agent.cluster, agent.tenant, agent.host) == (host.cluster, host.tenant, host.name)


def _host_event(fleet: Fleet, event: pb.WatchEvent) -> tuple[str, dict[str, Any]] | None:
    if event.WhichOneof("event") != "host":
        return None
    return "Host", host_document(event.host, fleet.now()) | {"cursor": event.cursor or None}
