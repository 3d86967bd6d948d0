"""The fleet on one screen: a row for each host, its agents by state, what needs a person or has drifted (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli.documents import rfc3339, seconds_between, word
from mosaic_cli.fleet_view import OLD_HOSTS, AgentRow
from mosaic_cli.output import Column, Listing, Style
from mosaic_cli.text import age

_NEEDS_A_PERSON = 5
"""Rows of `fleet ps` below this rank: ended, stuck or waiting, with a problem, or not heard of."""


@dataclass(frozen=True, slots=True)
class HostSummary:
    """One host as read at `at`, and the rows of its seats."""

    host: pb.Host
    rows: Sequence[AgentRow]
    at: Any

    @property
    def states(self) -> dict[str, int]:
        """How many seats are in which state, the most frequent first."""
        return dict(Counter(row.state for row in self.rows).most_common())

    @property
    def needy(self) -> int:
        """How many seats need a person."""
        return sum(row.rank < _NEEDS_A_PERSON for row in self.rows)

    @property
    def drifted(self) -> int:
        """How many seats are not what the roster says."""
        return sum(bool(row.drift) for row in self.rows)

    @property
    def old(self) -> bool:
        """Whether the host has not been heard of."""
        return self.host.state in OLD_HOSTS


def summaries(hosts: Iterable[pb.Host], rows: Sequence[AgentRow], at: Any) -> list[HostSummary]:
    """Return a summary for each host: silent ones first, then those with seats that need a person, then by name."""
    found = [
        HostSummary(host, [row for row in rows if (row.agent.tenant, row.agent.host) == (host.tenant, host.name)], at)
        for host in hosts
        if host.state not in (pb.HOST_STATE_LEFT, pb.HOST_STATE_REVOKED)
    ]
    return sorted(found, key=lambda one: (not one.old, -one.needy, -one.drifted, one.host.tenant, one.host.name))


def summary_listing(found: Sequence[HostSummary], at: Any) -> Listing[HostSummary]:
    """Return summaries ready to be shown."""
    columns: list[Column[HostSummary]] = [
        Column("TENANT", lambda one: one.host.tenant),
        Column("HOST", lambda one: one.host.name),
        Column("STATE", lambda one: word(pb.HostState, one.host.state)),
        Column("SEEN", lambda one: age(seconds_between(one.at, one.host.last_beat_at))),
        Column("SEATS", lambda one: str(len(one.rows))),
        Column("AGENTS", lambda one: ", ".join(f"{count} {state}" for state, count in one.states.items())),
        Column("NEED YOU", lambda one: str(one.needy or "")),
        Column("DRIFT", lambda one: str(one.drifted or "")),
    ]
    return Listing(
        "FleetStatus",
        found,
        columns,
        name=lambda one: one.host.name,
        document=_document,
        style=lambda one: Style.GREY if one.old else Style.ATTENTION if one.needy else Style.PLAIN,
        extra={"at": rfc3339(at), "seats": sum(len(one.rows) for one in found)},
        empty="no host yet; next: mosaic host token NAME",
    )


def _document(one: HostSummary) -> dict[str, Any]:
    return {
        "tenant": one.host.tenant,
        "name": one.host.name,
        "state": word(pb.HostState, one.host.state),
        "lastBeatAt": rfc3339(one.host.last_beat_at) or None,
        "seats": len(one.rows),
        "byState": one.states,
        "needAPerson": one.needy,
        "drifted": one.drifted,
    }
