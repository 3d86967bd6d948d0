"""Agents and hosts as rows for a person: what needs one comes first, what is old is grey and dated (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import peers_pb2

from mosaic_cli.documents import agent_document, host_document, rfc3339, seconds_between, word
from mosaic_cli.drift import differences
from mosaic_cli.output import Column, Listing, Style
from mosaic_cli.peer_view import health_of, health_words
from mosaic_cli.text import age

OLD_HOSTS = (pb.HOST_STATE_STALE, pb.HOST_STATE_LOST, pb.HOST_STATE_LEFT, pb.HOST_STATE_REVOKED)
_OLD_AGENTS = (pb.AGENT_STATE_STALE, pb.AGENT_STATE_LOST)
_WANTS_A_PERSON = {pb.AGENT_STATE_STUCK: 1, pb.AGENT_STATE_WAITING: 2}
_BUSY = (pb.AGENT_STATE_WORKING, pb.AGENT_STATE_STARTING)
_UNMANAGED = 7
_STOPPED = 9


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent as read at `at`, with the state of its host."""

    agent: pb.Agent
    host: pb.Host | None
    at: Any
    managed: bool = True
    """False: a session on the fleet's tmux server that is nobody's seat"""
    cluster: str = ""
    peer: peers_pb2.PeerCluster | None = None
    """the other cluster whose it is"""

    @property
    def address(self) -> str:
        """What other commands take: host/agent, with the cluster before it where that is another one."""
        own = f"{self.agent.host}/{self.agent.name}"
        return f"{self.agent.cluster}/{own}" if self.agent.cluster else own

    @property
    def whose(self) -> str:
        """The cluster that it is of; of one that is not heard of with since when."""
        if self.peer is None or self.peer.health == peers_pb2.PEER_HEALTH_LIVE:
            return self.agent.cluster or self.cluster
        return f"{self.agent.cluster} ({health_words(self.peer, self.at)})"

    @property
    def old(self) -> bool:
        """Whether what is shown may no longer be so: its host, or its cluster, has not been heard of."""
        if self.peer is not None and self.peer.health != peers_pb2.PEER_HEALTH_LIVE:
            return True
        return self.agent.state in _OLD_AGENTS or (self.host is not None and self.host.state in OLD_HOSTS)

    @property
    def drift(self) -> str:
        """What keeps the seat from being what is wanted of it, in a few words; empty when nothing does."""
        return "; ".join(self.differences.values())

    @property
    def differences(self) -> dict[str, str]:
        """What keeps it from being what is wanted, by kind; of another cluster's seat only its owner can say."""
        return differences(self.agent) if self.managed and not self.agent.cluster else {}

    @property
    def idle(self) -> float | None:
        """The seconds since its terminal last changed; None while it works, and when nobody can say."""
        if not self.agent.pid or self.agent.state in _BUSY:
            return None
        return seconds_between(self.at, self.agent.output_at)

    @property
    def boot(self) -> str:
        """Whether the seat comes back when its machine boots: yes or no; empty where its host has not said."""
        if not self.managed or not self.agent.supervision:
            return ""
        return "yes" if self.agent.enabled else "no"

    @property
    def started_by_hand(self) -> bool:
        """Whether it runs now and nothing would start it at boot, though its supervisor could."""
        return bool(self.agent.pid) and self.boot == "no" and self.agent.supervision == "systemd"

    @property
    def rank(self) -> int:
        """The order of rows: the smaller, the sooner a person should look."""
        agent = self.agent
        if not self.managed:
            return 4 if self.old else _UNMANAGED
        if agent.desired_running and agent.state == pb.AGENT_STATE_EXITED:
            return 0
        if agent.state in _WANTS_A_PERSON:
            return _WANTS_A_PERSON[agent.state]
        if agent.problem:
            return 3
        if self.old:
            return 4
        if agent.desired_running and agent.state in (pb.AGENT_STATE_UNKNOWN, pb.AGENT_STATE_UNSPECIFIED):
            return 5
        if self.drift:
            return 6
        if self.started_by_hand:
            return 7
        return 8 if agent.desired_running else _STOPPED

    @property
    def state(self) -> str:
        """The state as shown; one of an old row is dated, one that is meant to be stopped says so."""
        state = word(pb.AgentState, self.agent.state) if self.managed else "unmanaged"
        if self.old and self.host is not None and self.agent.state not in _OLD_AGENTS:
            return f"{state} ({word(pb.HostState, self.host.state)})"
        state = "stopped" if state == "exited" and not self.agent.desired_running else state
        return f"{state} (draining)" if self.draining else state

    @property
    def draining(self) -> bool:
        """Whether it claims nothing new, since its host is being drained."""
        return self.managed and self.host is not None and self.host.draining_since.seconds > 0

    @property
    def style(self) -> Style:
        """Grey when old, yellow when a person is wanted, red when something is wrong."""
        if self.old or self.rank == _STOPPED:
            return Style.GREY
        if self.rank in (1, 2):
            return Style.ATTENTION
        return Style.WRONG if self.rank < 5 else Style.PLAIN


def agent_rows(
    agents: Iterable[pb.Agent],
    hosts: Iterable[pb.Host],
    at: Any,
    *,
    cluster: str = "",
    unmanaged: bool = False,
    peers: Iterable[peers_pb2.PeerCluster] = (),
) -> list[AgentRow]:
    """Return the rows, those that need a person first, then by cluster, tenant, host and name.

    `unmanaged`: also the sessions on the fleet's tmux servers that are nobody's seat.
    """
    by_name = {(host.cluster, host.tenant, host.name): host for host in hosts}
    by_cluster = {peer.name: peer for peer in peers}
    rows = [
        AgentRow(
            agent,
            by_name.get((agent.cluster, agent.tenant, agent.host)),
            at,
            cluster=cluster,
            peer=by_cluster.get(agent.cluster) if agent.cluster else None,
        )
        for agent in agents
        if not agent.removed
    ]
    if unmanaged:
        rows += [row for host in by_name.values() for row in unmanaged_rows(host, at, cluster=cluster)]
    return sorted(rows, key=lambda row: (row.rank, row.agent.cluster, row.agent.tenant, row.agent.host, row.agent.name))


def unmanaged_rows(host: pb.Host, at: Any, *, cluster: str = "") -> list[AgentRow]:
    """Return a row for each session on a host's tmux servers that is nobody's seat."""
    return [
        AgentRow(
            pb.Agent(
                tenant=host.tenant,
                host=host.name,
                name=session.name,
                pid=session.pid,
                command=session.command,
                state_since=session.created_at,
                state_detail=f"on tmux server {session.socket_name or 'default'}",
            ),
            host,
            at,
            managed=False,
            cluster=cluster,
        )
        for session in host.unmanaged
    ]


def pick(
    rows: Sequence[AgentRow],
    *,
    host: str = "",
    class_: str = "",
    runtime: str = "",
    state: str = "",
    labels: Sequence[tuple[str, str | None]] = (),
) -> list[AgentRow]:
    """Return the rows that fit every selector given: names may be patterns such as `web*`.

    A label without a value fits every value of it.
    """
    return [
        row
        for row in rows
        if _fits(host, row.agent.host)
        and _fits(class_, getattr(row.agent, "class"))
        and _fits(runtime, row.agent.runtime)
        and state in ("", row.state, word(pb.AgentState, row.agent.state) if row.managed else "")
        and all(name in row.agent.labels and value in (None, row.agent.labels[name]) for name, value in labels)
    ]


def _fits(pattern: str, name: str) -> bool:
    return not pattern or fnmatchcase(name, pattern)


_STATE: list[Column[AgentRow]] = [
    Column("STATE", lambda row: row.state),
    Column("SOURCE", lambda row: row.agent.state_source),
    Column("FOR", lambda row: age(seconds_between(row.at, row.agent.state_since))),
]
_PLACE: list[Column[AgentRow]] = [
    Column("TENANT", lambda row: row.agent.tenant),
    Column("HOST", lambda row: row.agent.host),
]
_WHAT: list[Column[AgentRow]] = [
    Column("CLASS", lambda row: str(getattr(row.agent, "class"))),
    Column("RUNTIME", lambda row: row.agent.runtime),
]
_AGENT: Column[AgentRow] = Column("AGENT", lambda row: row.agent.name)
_PID: Column[AgentRow] = Column("PID", lambda row: str(row.agent.pid or ""))
_COMMAND: Column[AgentRow] = Column("COMMAND", lambda row: row.agent.command)
_SEEN: Column[AgentRow] = Column("SEEN", lambda row: age(seen(row)))
_IDLE: Column[AgentRow] = Column("IDLE", lambda row: age(row.idle))
_CARD: Column[AgentRow] = Column("CARD", lambda row: row.agent.card)
_BOOT: Column[AgentRow] = Column("BOOT", lambda row: row.boot)
CLUSTER: Column[AgentRow] = Column("CLUSTER", lambda row: row.whose, wide=True)
_MANAGED: Column[AgentRow] = Column("MANAGED", lambda row: "yes" if row.managed else "no", wide=True)
_MODEL: Column[AgentRow] = Column("MODEL", lambda row: row.agent.running_model or row.agent.model, wide=True)
_DRIFT: Column[AgentRow] = Column("DRIFT", lambda row: row.drift)
_EVIDENCE: Column[AgentRow] = Column("EVIDENCE", lambda row: row.agent.state_detail, wide=True)

_DRIVER: Column[AgentRow] = Column("DRIVER", lambda row: row.agent.driver, wide=True)

PS_COLUMNS = [
    CLUSTER,
    *_PLACE,
    _AGENT,
    *_WHAT,
    _MODEL,
    *_STATE,
    _IDLE,
    _CARD,
    _MANAGED,
    _PID,
    _SEEN,
    _DRIFT,
    _BOOT,
    _COMMAND,
    _DRIVER,
    _EVIDENCE,
]
LS_COLUMNS = [_AGENT, _PLACE[1], *_WHAT, *_STATE, _SEEN, _DRIFT, _DRIVER, _EVIDENCE]


def seen(row: AgentRow) -> float | None:
    """Return the seconds since this row was true: the younger of the agent's own report and its host's beat.

    Of another cluster, whose clock may be another one, no younger than what was last heard of it.
    """
    own = seconds_between(row.at, row.agent.reported_at)
    beat = seconds_between(row.at, row.host.last_beat_at) if row.host is not None else None
    known = min((value for value in (own, beat) if value is not None), default=None)
    heard = seconds_between(row.at, row.peer.heard_at) if row.peer is not None else None
    return max((value for value in (known, heard) if value is not None), default=None)


def agent_listing(rows: Sequence[AgentRow], at: Any, *, columns: Sequence[Column[AgentRow]]) -> Listing[AgentRow]:
    """Return agents ready to be shown."""
    return Listing(
        "AgentList",
        rows,
        columns,
        name=lambda row: row.address,
        document=row_document,
        style=lambda row: row.style,
        extra={"at": rfc3339(at), "stale": any(row.old for row in rows)},
        empty="no agent; make some with: mosaic fleet apply",
    )


def peer_of(row: AgentRow) -> dict[str, Any] | None:
    """Return what a row's document says of the cluster that it is of; None of our own."""
    if row.peer is None:
        return None
    return {
        "id": row.peer.id,
        "name": row.peer.name,
        "health": health_of(row.peer),
        "heardAt": rfc3339(row.peer.heard_at),
        "heardAgoSeconds": seconds_between(row.at, row.peer.heard_at),
    }


def row_document(row: AgentRow) -> dict[str, Any]:
    """Return the JSON form of a row: the agent, its host's state, and what we conclude."""
    return agent_document(row.agent, row.at) | {
        "state": row.state if not row.managed else word(pb.AgentState, row.agent.state),
        "ageSeconds": seen(row),
        "hostState": word(pb.HostState, row.host.state) if row.host is not None else "unknown",
        "stale": row.old,
        "draining": row.draining,
        "drift": row.drift,
        "differences": row.differences,
        "cluster": row.agent.cluster or row.cluster,
        "peer": peer_of(row),
        "managed": row.managed,
        "idleSeconds": row.idle,
        "outputAt": rfc3339(row.agent.output_at),
        "card": row.agent.card or None,
        "supervision": row.agent.supervision,
        "unit": row.agent.unit,
        "enabled": row.agent.enabled,
        "startedByHand": row.started_by_hand,
        "labels": dict(row.agent.labels),
        "runningRuntime": row.agent.running_runtime,
        "runningModel": row.agent.running_model,
    }


def host_listing(hosts: Sequence[pb.Host], at: Any) -> Listing[pb.Host]:
    """Return hosts ready to be shown, those that were not heard of first."""
    columns: list[Column[pb.Host]] = [
        Column("TENANT", lambda host: host.tenant),
        Column("NAME", lambda host: host.name),
        Column("STATE", host_state),
        Column("BEAT", lambda host: age(seconds_between(at, host.last_beat_at))),
        Column("SEATS", lambda host: str(host.seats)),
        Column("GENERATION", lambda host: _generation(host)),
        Column("VERSION", lambda host: host.version),
        Column("MACHINE", lambda host: host.machine),
        Column("PROBLEM", lambda host: host.link_problem),
        Column("ID", lambda host: host.id, wide=True),
        Column("JOINED", lambda host: age(seconds_between(at, host.joined_at)), wide=True),
    ]
    return Listing(
        "HostList",
        sorted(hosts, key=lambda host: (host.state not in OLD_HOSTS, host.tenant, host.name)),
        columns,
        name=lambda host: host.name,
        document=lambda host: host_document(host, at),
        style=lambda host: Style.GREY if host.state in OLD_HOSTS else Style.PLAIN,
        extra={"at": rfc3339(at), "stale": any(host.state in OLD_HOSTS for host in hosts)},
        empty="no host; let one join with: mosaic host token NAME",
    )


def host_state(host: pb.Host) -> str:
    """Return a host's state as shown: with what is about to make it another one."""
    state = word(pb.HostState, host.state)
    if host.draining_since.seconds:
        state += " (draining)"
    # What an older control plane says has no word on links; its interval is 0.
    return f"{state} (no link)" if state == "live" and not host.linked and host.beat_interval_ms else state


def _generation(host: pb.Host) -> str:
    behind = host.observed_generation < host.generation
    return f"{host.observed_generation} of {host.generation}" if behind else str(host.generation)
