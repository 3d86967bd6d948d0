"""Promises of `mosaic agent send` with selectors."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_cli.send_many import letter_id, worst

from tests.fakes.control_plane import STEP, FakeControlPlane
from tests.support.cli import Mosaic, lines

DONE = [STEP.MESSAGE_STEP_DISPATCHED, STEP.MESSAGE_STEP_TYPED, STEP.MESSAGE_STEP_SUBMITTED]


def seats(plane: FakeControlPlane, count: int, *, host: str = "web1", done: bool = True) -> list[str]:
    """Add agents a0, a1, … whose messages are submitted while they are sent; returns their addresses."""
    for number in range(count):
        plane.add_agent(f"a{number}", host=host)
    addresses = [f"{host}/a{number}" for number in range(count)]
    if done:
        plane.at_once = dict.fromkeys(addresses, DONE)
    return addresses


def test_patterns_and_selectors_pick_who_is_written_to(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    seats(plane, 2)
    plane.add_agent("b0", host="web2", **{"class": "review"})
    plane.add_agent("c0", host="db1", labels={"team": "core"})

    def to(*selectors: str) -> list[str]:
        return lines(mosaic("agent", "send", *selectors, "-m", "x", "--dry-run").out)  # type: ignore[return-value]

    assert to("--host", "web*") == ["web1/a0", "web1/a1", "web2/b0"]
    assert to("--host", "web*", "--class", "code") == ["web1/a0", "web1/a1"]
    assert to("--label", "team=core") == ["db1/c0"]
    assert to("--all") == ["db1/c0", "web1/a0", "web1/a1", "web2/b0"]
    assert not plane.sent


def test_each_gets_a_message_with_an_id_of_its_own_and_the_same_again_sends_nothing_new(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    addresses = seats(plane, 3)
    batch = "01900000-0000-7000-8000-000000000abc"
    first = mosaic("agent", "send", "--all", "-m", "x", "--id", batch, "-o", "json")
    assert first.code == 0
    assert sorted(request.to for request in plane.sent) == addresses
    assert len(plane.messages) == 3
    mosaic("agent", "send", "--all", "-m", "x", "--id", batch)
    assert len(plane.messages) == 3
    assert batch in first.err


def test_one_that_failed_makes_the_exit_code_and_stands_first_in_the_table(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    seats(plane, 3)
    plane.at_once["web1/a2"] = [STEP.MESSAGE_STEP_EXPIRED]
    done = mosaic("agent", "send", "--all", "-m", "x")
    assert done.code == 1
    assert lines(done.out)[1].split()[:2] == ["web1/a2", "expired"]
    assert "3 agents: 2 submitted, 1 expired" in done.err


def test_what_is_not_finished_in_time_goes_on_and_ends_with_8(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    seats(plane, 2)
    plane.at_once["web1/a1"] = [STEP.MESSAGE_STEP_DISPATCHED]
    plane.script = []
    done = mosaic("agent", "send", "--all", "-m", "x", "--timeout", "1")
    assert done.code == 8
    assert "1 dispatched" in done.err


def test_detached_nothing_is_waited_for(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    seats(plane, 2, done=False)
    done = mosaic("agent", "send", "--all", "-m", "x", "--detach")
    assert (done.code, "Follow" in plane.calls) == (0, False)


def test_many_are_asked_for_in_one_call_and_not_followed_each(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    seats(plane, 30, done=False)
    plane.rises_when_listed = True
    done = mosaic("agent", "send", "--all", "-m", "x", "--yes", "-o", "name")
    assert done.code == 0
    assert len(set(lines(done.out))) == 30
    assert "30 agents: 30 submitted" in done.err
    assert "Follow" not in plane.calls


def test_more_than_ten_are_not_written_to_without_a_yes(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    seats(plane, 11)
    refused = mosaic("agent", "send", "--all", "-m", "x")
    assert refused.code == 2
    assert "send this to 11 agents" in refused.err
    assert not plane.sent
    assert mosaic("agent", "send", "--all", "-m", "x", "--yes").code == 0


def test_nobody_that_fits_is_an_error_and_so_are_an_address_and_selectors_together(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    seats(plane, 1)
    assert mosaic("agent", "send", "--class", "nobody", "-m", "x").code == 3
    assert mosaic("agent", "send", "a0", "--all", "-m", "x").code == 2
    assert mosaic("agent", "send", "-m", "x").code == 2


def test_a_secret_does_not_leave_this_machine(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    seats(plane, 1)
    token = "glpat-" + "x9Kd83LqPz72XvBn5TrY"
    refused = mosaic("agent", "send", "a0", "-m", f"use {token}")
    assert refused.code == 1
    assert "GitLab token (line 1)" in refused.err
    assert token[-6:] not in refused.err
    assert not plane.sent
    plane.at_once["a0"] = DONE
    assert mosaic("agent", "send", "a0", "-m", f"use {token}", "--allow-secrets").code == 0
    assert plane.sent[0].allow_secrets


@pytest.mark.parametrize(
    ("codes", "whole"), [([], 0), ([0, 0], 0), ([0, 8], 8), ([8, 5], 5), ([8, 1, 5], 1), ([4, 8], 4), ([6, 4], 6)]
)
def test_the_worst_exit_code_is_the_whole_s(codes: list[int], whole: int) -> None:
    assert worst(codes) == whole


@given(st.uuids(), st.uuids(), st.uuids())
def test_ids_of_a_batch_are_stable_distinct_and_of_version_7(
    batch: uuid.UUID, one: uuid.UUID, other: uuid.UUID
) -> None:
    made = uuid.UUID(letter_id(str(batch), str(one)))
    assert made == uuid.UUID(letter_id(str(batch), str(one)))
    assert (made == uuid.UUID(letter_id(str(batch), str(other)))) == (one == other)
    assert (made.version, made.variant, made.int >> 80) == (7, uuid.RFC_4122, batch.int >> 80)
