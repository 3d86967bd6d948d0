"""policy.yaml: every RPC has a row, every row means something, and nothing else is allowed."""

from __future__ import annotations

from uuid import uuid4

import pytest
from mosaic_controlplane.api.policy import Policy, PolicyError, all_methods, load_policy, parse_policy
from mosaic_controlplane.identity.caller import Caller, calling, current_caller
from mosaic_framework.errors import NotAuthenticated
from mosaic_proto.v1 import backlog_pb2, enrolment_pb2, fleet_pb2, host_link_pb2, messages_pb2

SEND = "mosaic.v1.MessageService/Send"


def caller(kind: str, role: str = "") -> Caller:
    return Caller(kind, uuid4(), "default", uuid4(), "someone", role, 1, "127.0.0.1:1")


def test_every_rpc_has_a_row() -> None:
    assert all_methods() - set(load_policy().rules) == set()


def test_the_methods_are_those_of_the_contract() -> None:
    services = [
        service
        for module in (backlog_pb2, enrolment_pb2, fleet_pb2, host_link_pb2, messages_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    expected = {f"{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert expected <= all_methods()
    assert len(expected) >= 15


def test_a_method_without_a_row_answers_nobody() -> None:
    policy = Policy({})
    assert not policy.allows(SEND, caller("operator", "admin"))
    assert not policy.allows_anonymous(SEND)


@pytest.mark.parametrize(
    ("words", "who", "allowed"),
    [
        ("[host]", ("host", ""), True),
        ("[host]", ("agent", "engineer"), False),
        ("[agent]", ("host", ""), False),
        ("[agent]", ("agent", "engineer"), True),
        ("['agent:engineer']", ("agent", "engineer"), True),
        ("['agent:orchestrator']", ("agent", "engineer"), False),
        ("['operator:admin']", ("operator", "admin"), True),
        ("['operator:admin']", ("operator", "viewer"), False),
        ("['operator:admin']", ("agent", "admin"), False),
        ("['operator:admin']", ("operator", ""), False),
        ("[replica]", ("replica", ""), True),
        ("[peer]", ("replica", ""), False),
        ("[any]", ("peer", ""), True),
        ("[anonymous]", ("operator", "admin"), False),
    ],
)
def test_a_word_means_what_it_says(words: str, who: tuple[str, str], allowed: bool) -> None:
    assert parse_policy(f"{SEND}: {words}").allows(SEND, caller(*who)) is allowed


def test_an_agent_cannot_take_a_word_of_another_kind_by_its_class() -> None:
    policy = parse_policy(f"{SEND}: ['operator:admin', host]")
    for agent_class in ("operator:admin", "host", "any", "anonymous"):
        assert not policy.allows(SEND, caller("agent", agent_class))


@pytest.mark.parametrize(
    "text",
    [
        "mosaic.v1.MessageService/Sent: [host]",
        "MessageService/Send: [host]",
        f"{SEND}: []",
        f"{SEND}: host",
        f"{SEND}:",
        f"{SEND}: [everyone]",
        f"{SEND}: ['operator:root']",
        f"{SEND}: [operator]",
        f"{SEND}: ['agent:']",
        f"{SEND}: [anonymous, host]",
        f"{SEND}: [host]\n{SEND}: [any]",
        "- a",
        "",
        "{",
    ],
)
def test_a_mistake_in_the_policy_is_found_when_it_is_read(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)


def test_only_enrolment_and_pairing_are_for_strangers() -> None:
    policy = load_policy()
    assert [method for method in policy.rules if policy.allows_anonymous(method)] == [
        "mosaic.v1.EnrolmentService/Enrol",
        "mosaic.v1.PairingService/Pair",
        "mosaic.v1.PairingService/Standing",
    ]


def test_outside_of_a_call_there_is_no_caller() -> None:
    with pytest.raises(NotAuthenticated):
        current_caller()
    someone = caller("host")
    with calling(someone):
        assert current_caller() is someone
    with pytest.raises(NotAuthenticated):
        current_caller()


def test_who_may_only_look_watches_terminals_and_drives_none() -> None:
    policy = load_policy()
    watching, driving = "mosaic.v1.TerminalService/Watch", "mosaic.v1.TerminalService/Attach"
    assert "operator:viewer" in policy.who(watching)
    assert policy.who(driving) == ["operator:admin", "operator:operator"]
    assert policy.who("mosaic.v1.HostTerminalService/Serve") == ["host"]
