"""Promises of `mosaic agent show --contract` and `mosaic fleet comms-block`, over the real wire."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2, seeding_pb2

from tests.fakes.control_plane import FakeControlPlane
from tests.support.cli import Mosaic

TEXT = "# Code\n\n  Do it — «well» \\ $(id).\n"
SEED = seeding_pb2.GetSeedReply(
    host="build1",
    name="coder0",
    parts=[seeding_pb2.SeedPart(name="role", text=TEXT, digest="d")],
    text=TEXT,
    digest="d",
    delivery="argument",
    comms_block="# Your place\n",
)


@pytest.fixture
def seeded(plane: FakeControlPlane) -> FakeControlPlane:
    plane.seeds = {"coder0": SEED, "build1/coder0": SEED}
    return plane


def test_the_contract_is_printed_byte_for_byte_and_nothing_else(seeded: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("agent", "show", "coder0", "--contract")
    assert (done.code, done.out) == (0, TEXT)


def test_the_contract_as_a_document_names_its_parts_with_digests(seeded: FakeControlPlane, mosaic: Mosaic) -> None:
    found = mosaic("agent", "show", "coder0", "--contract", "-o", "json").json
    assert (found["kind"], found["text"], found["digest"], found["delivery"]) == (
        "AgentContract",
        TEXT,
        "d",
        "argument",
    )
    assert found["parts"] == [{"name": "role", "digest": "d", "text": TEXT}]


def test_a_seat_that_is_given_nothing_says_so_on_stderr(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.seeds = {"sh": seeding_pb2.GetSeedReply(host="build1", name="sh", delivery="none")}
    done = mosaic("agent", "show", "sh", "--contract")
    assert (done.code, done.out) == (0, "")
    assert "build1/sh is given nothing at its start" in done.err


def test_the_comms_block_is_found_by_name_or_by_host_and_name(seeded: FakeControlPlane, mosaic: Mosaic) -> None:
    assert mosaic("fleet", "comms-block", "coder0").out == "# Your place\n"
    assert mosaic("fleet", "comms-block", "coder0", "--host", "build1").out == "# Your place\n"
    assert mosaic("fleet", "comms-block", "coder0", "-o", "name").out == "build1/coder0\n"


def test_an_unknown_name_is_exit_3_with_the_nearest(seeded: FakeControlPlane, mosaic: Mosaic) -> None:
    for arguments in (("fleet", "comms-block", "codr0"), ("agent", "show", "codr0", "--contract")):
        done = mosaic(*arguments)
        assert (done.code, done.out) == (3, "")
        assert "the nearest names are coder0" in done.err


def test_texts_for_all_agents_go_along_with_an_apply_and_the_change_is_told(
    plane: FakeControlPlane, home: Home, mosaic: Mosaic
) -> None:
    plane.add_host("build1")
    plane.after_apply = lambda: plane.add_agent("coder0") and None
    roster(home)
    (home.fleet / "USER.md").write_text("Anna.\n")
    assert mosaic("fleet", "apply").code == 0
    assert [one.name for one in plane.applied[0].briefing.texts] == ["contract", "user"]
    plane.briefing_changes = ["user"]
    assert "told anew of USER.md" in mosaic("fleet", "apply").err
    done = mosaic("fleet", "diff", "-o", "json")
    assert done.code == 1
    assert done.json["items"] == [{"host": "", "name": "", "change": "changed", "fields": ["USER.md"]}]


def roster(home: Home) -> Path:
    path = home.fleet / "roster.yaml"
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text(
        "version: 1\ntransport: tmux\nagents:\n  - {name: coder0, runtime: shell, working_directory: /tmp}\n"
    )
    return path


def test_a_text_that_no_agent_can_be_given_is_refused_before_anything_is_sent(
    plane: FakeControlPlane, home: Home, mosaic: Mosaic
) -> None:
    roster(home)
    (home.fleet / "SOUL.md").write_bytes(b"\x1b[2J")
    done = mosaic("fleet", "apply")
    assert done.code != 0
    assert "SOUL.md:1" in done.err
    assert plane.applied == list[fleet_pb2.ApplyRosterRequest]()
