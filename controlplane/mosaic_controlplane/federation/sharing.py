"""What a peer is shown of a row: the fields that its grants name, and no others (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from google.protobuf.message import Message
from mosaic_framework import selector as selectors
from mosaic_framework.selector import Facts, Selector
from mosaic_proto.v1 import fleet_pb2

BASIC = "basic"
AGENT_FIELDS = {
    BASIC: frozenset(
        {
            "id",
            "host",
            "name",
            "class",
            "runtime",
            "alias",
            "state",
            "state_since",
            "reported_at",
            "desired_running",
            "labels",
            "removed",
        }
    ),
    "detail": frozenset({"state_source", "state_detail", "problem", "exit_status", "driver"}),
    "work": frozenset({"card", "run_id", "output_at", "model", "reported_model", "running_runtime", "running_model"}),
    "process": frozenset(
        {
            "pid",
            "command",
            "working_directory",
            "supervision",
            "unit",
            "enabled",
            "runtime_version",
            "runtime_session",
        }
    ),
}
"""Groups of an agent's fields. `basic` is of every `see` grant, the others are named in it."""

HOST_FIELDS = frozenset({"id", "name", "state", "last_beat_at", "linked", "removed"})

EVERY_AGENT_FIELD = frozenset().union(*AGENT_FIELDS.values())

Shared = TypeVar("Shared", bound=Message)


class Grant(Protocol):
    """What a grant to see says, as register/peer_grant.py has it."""

    @property
    def kind(self) -> str: ...
    @property
    def selector(self) -> str: ...
    @property
    def fields(self) -> Iterable[str]: ...


@dataclass(frozen=True, slots=True)
class See:
    """One grant to see, read."""

    selector: Selector
    fields: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sharing:
    """All that one peer may see at a time. Without grants: nothing."""

    sees: tuple[See, ...] = ()

    @classmethod
    def of(cls, grants: Iterable[Grant]) -> Sharing:
        """Return what grants that count now allow together. Raises SelectorError for one that cannot be read."""
        return cls(
            tuple(
                See(
                    selectors.parse(grant.selector),
                    AGENT_FIELDS[BASIC].union(*(AGENT_FIELDS.get(group, frozenset()) for group in grant.fields)),
                )
                for grant in grants
                if grant.kind == "see"
            )
        )

    @property
    def digest(self) -> str:
        """Sixteen characters that are others when something else is shared."""
        said = sorted(f"{see.selector} {' '.join(sorted(see.fields))}" for see in self.sees)
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]

    def agent(self, agent: fleet_pb2.Agent) -> fleet_pb2.Agent | None:
        """Return `agent` with what is shared of it alone (in place), or None: it is not shared, or gone."""
        if agent.removed:
            return None
        facts = facts_of(agent) if any(see.selector.chosen for see in self.sees) else {}
        fields: frozenset[str] = frozenset()
        for see in self.sees:
            if see.selector.matches(facts):
                fields |= see.fields
        return only(agent, fields) if fields else None

    def host(self, host: fleet_pb2.Host, *, with_agents: bool) -> fleet_pb2.Host | None:
        """Return `host` with what is shared of it alone (in place), or None.

        A host is shared with the agents on it that are (`with_agents`), and by a selector that asks for hosts alone.
        """
        named = any(see.selector.keys <= {"host"} and see.selector.matches({"host": (host.name,)}) for see in self.sees)
        return only(host, HOST_FIELDS) if with_agents or named else None


def facts_of(agent: fleet_pb2.Agent) -> Facts:
    """Return what a selector can ask about an agent."""
    return selectors.agent_facts(
        host=agent.host,
        agent=agent.name,
        agent_class=getattr(agent, "class"),
        runtime=agent.runtime,
        labels=agent.labels,
    )


def only(message: Shared, fields: frozenset[str]) -> Shared:
    """Clear all of `message` but `fields`, and return it. What a newer release adds is cleared until it is named."""
    for field, _ in message.ListFields():
        if field.name not in fields:
            message.ClearField(field.name)
    message.DiscardUnknownFields()
    return message
