"""Promises of `mosaic agent send`."""

from __future__ import annotations

import threading
import time

import grpc
import pytest
from mosaic_framework.errors import NotFound, Unreachable
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home

from tests.fakes.control_plane import STEP, FakeControlPlane
from tests.support.cli import Mosaic, lines

BROKEN = (grpc.StatusCode.UNAVAILABLE, "Socket closed")


def steps_told(text: str) -> list[str]:
    return [line.split()[1] for line in lines(text) if line.strip().split()[0].endswith("s") and "." in line.split()[0]]


def test_a_send_tells_each_step_once_with_its_evidence_and_shows_the_receipt(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    done = mosaic("agent", "send", "coder0", "-m", "hello", "-o", "json")
    assert done.code == 0
    assert steps_told(done.err) == ["queued", "dispatched", "typed", "submitted"]
    assert "0.250s  dispatched    screen: evidence 1" in done.err
    assert [line["kind"] for line in done.json_lines] == [*["ReceiptStep"] * 4, "Receipt"]
    assert done.json_lines[-1]["step"] == "submitted"
    assert [step["step"] for step in done.json_lines[-1]["steps"]] == ["queued", "dispatched", "typed", "submitted"]
    assert plane.sent[0].body == "hello"


def test_a_runtime_that_can_say_accepted_is_waited_for_until_it_does(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.strongest_is_submitted = False
    plane.script.append(STEP.MESSAGE_STEP_ACCEPTED)
    assert mosaic("agent", "send", "coder0", "-m", "x", "-o", "json").json_lines[-1]["step"] == "accepted"


def test_verify_waits_for_the_step_asked_for(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    assert (
        mosaic("agent", "send", "coder0", "-m", "x", "--verify", "dispatched", "-o", "json").json_lines[-1]["step"]
        == "dispatched"
    )


def test_an_unknown_step_is_told_with_the_nearest(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("agent", "send", "coder0", "-m", "x", "--verify", "submited")
    assert done.code == 2
    assert "the nearest is submitted" in done.err
    assert not plane.sent


def test_a_lost_reply_is_asked_for_again_under_the_same_id(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.fail("Send", BROKEN, BROKEN)
    done = mosaic("agent", "send", "coder0", "-m", "once", "-o", "json")
    assert done.code == 0
    assert len(plane.sent) == 3
    assert {request.request_id for request in plane.sent} == {done.json_lines[-1]["id"]}
    assert len(plane.messages) == 1


def test_a_connection_lost_while_following_goes_on_and_tells_no_step_twice(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    plane.follow_breaks_after = [1, 1]
    done = mosaic("agent", "send", "coder0", "-m", "once", "-o", "json")
    assert done.code == 0
    assert steps_told(done.err) == ["queued", "dispatched", "typed", "submitted"]
    assert len(plane.sent) == 1
    assert "the connection is lost" in done.err


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_however_a_stopping_server_ends_the_stream_the_send_goes_on(
    plane: FakeControlPlane, mosaic: Mosaic, status: grpc.StatusCode
) -> None:
    plane.fail("Follow", (status, "going away"))
    done = mosaic("agent", "send", "coder0", "-m", "once", "-o", "json")
    assert done.code == 0, done.err
    assert done.json_lines[-1]["step"] == "submitted"


def test_a_control_plane_restarted_while_following_is_found_again(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    script, plane.script = plane.script, []

    def restart() -> None:
        while "Follow" not in plane.calls:
            time.sleep(0.01)
        plane.stop()
        plane.script = script
        plane.start()

    thread = threading.Thread(target=restart)
    thread.start()
    done = mosaic("agent", "send", "coder0", "-m", "once", "-o", "json")
    thread.join()
    assert done.code == 0
    assert done.json_lines[-1]["step"] == "submitted"
    assert len(plane.sent) == 1


def test_a_send_that_is_not_done_in_time_goes_on_and_ends_with_8(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.script = [STEP.MESSAGE_STEP_DISPATCHED]
    done = mosaic("agent", "send", "coder0", "-m", "x", "--timeout", "500ms")
    assert done.code == 8
    assert "next:  mosaic message show " in done.err
    assert done.out == ""
    assert done.seconds < 2


def test_a_detached_send_returns_with_the_message_queued(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("agent", "send", "coder0", "-m", "x", "--detach", "-o", "name")
    assert done.code == 0
    assert done.out.strip() == plane.sent[0].request_id
    assert "Follow" not in plane.calls


@pytest.mark.parametrize(
    ("end", "code", "error"),
    [
        (STEP.MESSAGE_STEP_UNKNOWN, 1, "delivery-unknown"),
        (STEP.MESSAGE_STEP_FAILED, 1, "not-delivered"),
        (STEP.MESSAGE_STEP_EXPIRED, 1, "not-delivered"),
    ],
)
def test_an_end_that_is_no_delivery_is_an_error_and_still_shows_the_receipt(
    plane: FakeControlPlane, mosaic: Mosaic, end: int, code: int, error: str
) -> None:
    plane.script = [STEP.MESSAGE_STEP_DISPATCHED, end]
    done = mosaic("agent", "send", "coder0", "-m", "x")
    assert done.code == code
    assert f"({error})" in done.err
    assert plane.sent[0].request_id in done.out


def test_the_id_of_an_earlier_send_is_used_again(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    message_id = str(new_id())
    mosaic("agent", "send", "coder0", "-m", "x", "--id", message_id)
    assert mosaic("agent", "send", "coder0", "-m", "x", "--id", message_id).code == 0
    assert len(plane.messages) == 1


def test_text_comes_from_a_file_or_standard_input(plane: FakeControlPlane, mosaic: Mosaic, home: Home) -> None:
    home.root.mkdir(exist_ok=True)
    (home.root / "text").write_text("from a file\n", encoding="utf-8")
    mosaic("agent", "send", "coder0", "-f", str(home.root / "text"), "--detach")
    mosaic("agent", "send", "coder0", "-f", "-", "--detach", stdin="from a pipe")
    mosaic("agent", "send", "coder0", "--detach", stdin="ünïcode ✓")
    assert [request.body for request in plane.sent] == ["from a file\n", "from a pipe", "ünïcode ✓"]


def test_256_kib_pass_and_one_byte_more_is_refused_before_anything_is_sent(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    assert mosaic("agent", "send", "coder0", "--detach", stdin="a" * 262_144).code == 0
    done = mosaic("agent", "send", "coder0", stdin="a" * 262_145)
    assert done.code == 1
    assert "larger than 256 KiB (too-large)" in done.err
    assert len(lines(done.err)) <= 4
    assert len(plane.sent) == 1


@pytest.mark.parametrize(("content", "told"), [(b"\xff\xfe", "is not UTF-8"), (b" \n", "the message is empty")])
def test_rubbish_is_refused_before_anything_is_sent(
    plane: FakeControlPlane, mosaic: Mosaic, content: bytes, told: str
) -> None:
    done = mosaic("agent", "send", "coder0", stdin=content)
    assert done.code == 1
    assert told in done.err
    assert not plane.sent


def test_a_control_plane_that_is_down_is_told_within_five_seconds(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.stop()
    done = mosaic("agent", "send", "coder0", "-m", "x")
    assert done.code == 5
    assert done.seconds < 5
    assert "nothing listens there" in done.err
    assert len(lines(done.err)) <= 4


def test_a_control_plane_that_is_silent_is_told_within_five_seconds_and_how_to_repeat(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    plane.before["Send"] = lambda _context: plane.stopping.wait(20) and None
    done = mosaic("agent", "send", "coder0", "-m", "x")
    assert done.code == 5
    assert done.seconds < 5
    assert f"--id {plane.sent[0].request_id}" in done.err


def test_a_register_that_is_down_is_told_at_once(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    class RegisterDown(Unreachable):
        """The register cannot be reached."""

        code = "register-unreachable"

    plane.fail("Send", RegisterDown(next_step="mosaic status"))
    done = mosaic("agent", "send", "coder0", "-m", "x")
    assert done.code == 5
    assert "(register-unreachable)" in done.err
    assert len(plane.sent) == 1


def test_an_unknown_agent_ends_with_3_and_the_nearest_names(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.fail("Send", NotFound("there is no agent 'codr'", why="the nearest names are coder0, coder1"))
    done = mosaic("agent", "send", "codr", "-m", "x")
    assert done.code == 3
    assert lines(done.err) == [
        "error: there is no agent 'codr' (not-found)",
        "why:   the nearest names are coder0, coder1",
        "request: request-1",
    ]
