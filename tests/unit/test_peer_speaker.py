"""How somebody of another cluster is named here, and how an address of three parts is read."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_controlplane.federation.speaker import speaker
from mosaic_controlplane.identity.caller import Caller
from mosaic_framework.names import split_cluster
from mosaic_proto.v1 import common_pb2, federation_pb2

EAST = Caller("peer", UUID(int=1), "default", UUID(int=2), "east", "operator", 1, "")


def said(name: str, host: str = "") -> bytes:
    principal = common_pb2.Principal(name=name, host=host)
    return federation_pb2.OriginatingIdentity(principal=principal).SerializeToString()


def test_an_agent_is_named_by_an_address_that_can_be_answered_to() -> None:
    assert speaker(EAST, said("planner", "beta")) == "east/beta/planner"
    assert split_cluster("east/beta/planner") == ("east", "beta/planner")
    assert speaker(EAST, said("anna")) == "east/anna"
    assert speaker(EAST, b"") == speaker(EAST, b"\xff\xff") == "east"


@given(st.text(), st.text())
def test_what_another_cluster_says_never_looks_like_a_part_of_ours(name: str, host: str) -> None:
    shown = speaker(EAST, said(name.encode("utf-8", "replace").decode(), host.encode("utf-8", "replace").decode()))
    assert shown.startswith("east")
    assert set(shown) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/")
    assert shown.count("/") <= 2


@pytest.mark.parametrize("address", ["", "worker", "alpha/worker", "a/b/c/d", "/"])
def test_an_address_without_three_parts_is_of_this_cluster(address: str) -> None:
    assert split_cluster(address) == ("", address)
