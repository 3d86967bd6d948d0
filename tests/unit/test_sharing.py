"""What a peer is shown: exactly the fields that its grants name, of exactly the rows that they choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from mosaic_controlplane.federation.arrivals import Unreadable, kept
from mosaic_controlplane.federation.sharing import AGENT_FIELDS, HOST_FIELDS, Sharing
from mosaic_controlplane.federation.shown import Shown
from mosaic_framework import selector
from mosaic_proto.v1 import federation_pb2, fleet_pb2

FIELDS = fleet_pb2.Agent.DESCRIPTOR.fields
NOT_SHARED = {
    "tenant", "generation", "observed_generation", "driven_since", "cluster",
}  # fmt: skip
"""What no grant shows: a field that is added to an agent has to be put into a group, or here."""


@dataclass(frozen=True)
class Grant:
    selector: str = "*"
    fields: Sequence[str] = ()
    kind: str = "see"


def full(descriptor: Sequence[FieldDescriptor], message: fleet_pb2.Agent | fleet_pb2.Host) -> None:
    """Set every field to something that can be told from nothing."""
    for one in descriptor:
        if one.name == "removed":
            continue
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            getattr(message, one.name)["team"] = "red"
        elif one.is_repeated:
            getattr(message, one.name).add()
        elif one.message_type is not None:
            getattr(message, one.name).seconds = 7
        elif one.type == one.TYPE_STRING:
            setattr(message, one.name, f"a {one.name}")
        elif one.type == one.TYPE_BOOL:
            setattr(message, one.name, True)
        else:
            setattr(message, one.name, 3)


def agent() -> fleet_pb2.Agent:
    made = fleet_pb2.Agent()
    full(FIELDS, made)
    return made


def said(message: fleet_pb2.Agent | fleet_pb2.Host) -> set[str]:
    return {descriptor.name for descriptor, _ in message.ListFields()}


GROUPS = st.sets(st.sampled_from(["detail", "work", "process"])).map(tuple)
SELECTORS = st.sampled_from(["*", "class=a*", "host=nowhere", "label.team=red", "label.team=blue", "agent=a name"])


@given(st.lists(st.builds(Grant, SELECTORS, GROUPS), max_size=4))
def test_field_by_field_exactly_what_the_matching_grants_name_is_shown(grants: list[Grant]) -> None:
    matching = [one for one in grants if one.selector not in ("host=nowhere", "label.team=blue")]
    expected = {name for one in matching for group in ("basic", *one.fields) for name in AGENT_FIELDS[group]}
    shared = Sharing.of(grants).agent(agent())
    assert (said(shared) if shared is not None else set()) == expected - {"removed"}


def test_every_field_of_an_agent_is_in_one_group_or_never_shown() -> None:
    groups = [set(group) for group in AGENT_FIELDS.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)), "a field is in two groups"
    assert set().union(*groups) | NOT_SHARED == {one.name for one in FIELDS}
    assert not set().union(*groups) & NOT_SHARED


@pytest.mark.parametrize("kind", ["send", "watch", "claim"])
def test_a_grant_of_another_kind_shows_nothing(kind: str) -> None:
    assert Sharing.of([Grant(kind=kind)]).agent(agent()) is None


def test_a_host_is_shown_with_its_agents_or_by_a_selector_of_hosts_alone() -> None:
    def host() -> fleet_pb2.Host:
        made = fleet_pb2.Host()
        full(fleet_pb2.Host.DESCRIPTOR.fields, made)
        made.name = "web-1"
        return made

    by_class = Sharing.of([Grant("class=builder")])
    assert by_class.host(host(), with_agents=False) is None
    shown = by_class.host(host(), with_agents=True)
    assert shown is not None
    assert said(shown) == HOST_FIELDS - {"removed"}
    assert Sharing.of([Grant("host=web-*")]).host(host(), with_agents=False) is not None
    assert Sharing.of([Grant("host=db-*")]).host(host(), with_agents=False) is None


def test_what_is_shared_has_another_digest_when_it_is_something_else() -> None:
    digests = {
        Sharing.of(grants).digest
        for grants in ([], [Grant()], [Grant("class=a")], [Grant(fields=("work",))], [Grant(), Grant("class=a")])
    }
    assert len(digests) == 5
    assert Sharing.of([Grant("class=a"), Grant()]).digest == Sharing.of([Grant(), Grant("class=a")]).digest


@dataclass
class Told:
    """A peer that believes what it is told, and is told nothing twice, or gone, that it does not have."""

    rows: dict[tuple[str, bytes], bytes] = field(default_factory=dict)

    def take(self, row: federation_pb2.PeerRow | None) -> None:
        if row is None:
            return
        key = (row.kind, row.id)
        if row.gone:
            assert key in self.rows, "a row is named that was never shown"
            del self.rows[key]
        else:
            assert self.rows.get(key) != row.content, "told again though nothing changed"
            self.rows[key] = row.content


AGENT_IDS = st.integers(1, 4)
STEPS = st.lists(
    st.tuples(AGENT_IDS, st.integers(1, 3), st.one_of(st.none(), st.binary(min_size=1, max_size=1))), max_size=30
)


@given(STEPS)
def test_a_peer_has_what_is_shared_now_and_the_hosts_of_it_alone(steps: list[tuple[int, int, bytes | None]]) -> None:
    shown, told = Shown(), Told()
    truth: dict[int, tuple[int, bytes]] = {}
    for number, host, content in steps:
        told.take(shown.agent(UUID(int=number), UUID(int=100 + host), content))
        if content is None:
            truth.pop(number, None)
        else:
            truth[number] = (host, content)
        for unsettled in list(shown.unsettled):
            told.take(shown.host(unsettled, b"h" if shown.is_occupied(unsettled) else None))
        agents = {("agent", UUID(int=one).bytes): content for one, (_, content) in truth.items()}
        hosts = {("host", UUID(int=100 + host).bytes): b"h" for host, _ in truth.values()}
        assert told.rows == agents | hosts


@given(st.binary(max_size=80))
def test_any_bytes_of_a_peer_are_kept_as_an_agent_of_that_id_or_refused(content: bytes) -> None:
    row_id = UUID(int=5)
    try:
        stored = fleet_pb2.Agent.FromString(kept(federation_pb2.PeerRow(kind="agent", content=content), row_id))
    except Unreadable:
        return
    assert stored.id == str(row_id)
    assert not stored.cluster
    assert not stored.tenant


def test_a_state_of_a_newer_release_is_unknown_and_what_it_adds_is_left_out() -> None:
    newer = agent()
    newer.host, newer.name, newer.state = "web", "ada", 77
    content = newer.SerializeToString() + b"\xf2\x3f\x03new"  # field 1022, of which nobody here knows
    stored = fleet_pb2.Agent.FromString(kept(federation_pb2.PeerRow(kind="agent", content=content), UUID(int=5)))
    assert stored.state == fleet_pb2.AGENT_STATE_UNKNOWN
    assert b"new" not in stored.SerializeToString()


def test_the_selectors_of_sharing_ask_for_what_an_agent_is() -> None:
    assert selector.parse("class=a class,host=a host,agent=a name,runtime=a runtime,label.team=red")
    sharing = Sharing.of([Grant("class=a class,host=a host,agent=a name,runtime=a runtime,label.team=red")])
    assert sharing.agent(agent()) is not None
