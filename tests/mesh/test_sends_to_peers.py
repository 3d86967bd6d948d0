"""Messages to agents of a peer, and their terminals: within what it grants, once, and told honestly when it is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from mosaic_controlplane.federation.errors import NotGranted
from mosaic_controlplane.federation.receiving import CancelledBefore
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2, messages_pb2, terminal_pb2
from mosaic_proto.v1.federation_pb2_grpc import FederationServiceStub

from tests.support.checkout import ROOT
from tests.support.pane import Environment, inside, persons
from tests.support.peers import grant, outgoing_of, peer_row, ungrant
from tests.support.postgres import Databases
from tests.support.program import WAIT_SECONDS, eventually
from tests.support.replicas import Replica
from tests.support.two_clusters import Pair, audit, run, two_clusters

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(databases: Databases) -> AsyncIterator[Pair]:
    """West has the seats alpha/worker, of class docs, and alpha/other."""
    async with two_clusters(databases) as both:
        await both.west.join("alpha")
        await both.west.apply({"worker": "alpha", "other": "alpha"}, classes={"worker": "docs"})
        await both.west.until_available("worker", "other")
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def anna(both: Pair, tmp_path: Path) -> Environment:
    """An admin of east."""
    return persons(both.east, tmp_path / "anna")


async def test_a_granted_send_reaches_the_seat_once_and_is_audited_on_both_sides(
    both: Pair, anna: Environment, tmp_path: Path
) -> None:
    await both.grants(send="agent=worker")
    message_id = str(new_id())
    text = f"echo x >> {tmp_path}/ran"
    to = ("agent", "send", "west/alpha/worker", "-m", text, "--id", message_id)
    command = (*to, "--deadline", "2h", "-o", "json")
    sent = await run(anna, *command)
    assert sent.code == 0, sent
    receipt = json.loads(sent.out.splitlines()[-1])
    assert (receipt["cluster"], receipt["recipient"]["name"], receipt["step"]) == ("west", "worker", "submitted")
    assert (await run(anna, *command)).code == 0
    await eventually((tmp_path / "ran").exists, "it ran")
    assert (tmp_path / "ran").read_text() == "x\n"
    (there,) = await audit(both.west, "FederationService/Send")
    assert (there["caller_kind"], there["caller_name"], there["request_id"]) == ("peer", "east", message_id)
    detail = there["detail"]
    assert isinstance(detail, dict)
    assert detail["on_behalf_of"] == "operator anna (admin) of cluster east"
    assert 7_000 < int(detail["deadline_seconds"]) <= 7_200, "what was left of it when it came"
    (here,) = await audit(both.east, "MessageService/Send")
    assert (here["caller_name"], here["target"]) == ("anna", "west/alpha/worker")
    other = await run(anna, "agent", "send", "west/alpha/worker", "-m", "something else", "--id", message_id)
    assert (other.code, other.error_code) == (6, "message-reused"), other


async def test_what_is_not_granted_is_told_as_what_is_not_there(both: Pair, anna: Environment) -> None:
    await both.grants(send="class=docs", watch="class=docs")
    hidden = await run(anna, "agent", "send", "west/alpha/other", "-m", "echo no")
    absent = await run(anna, "agent", "send", "west/alpha/never", "-m", "echo no")
    assert (hidden.code, hidden.error_code) == (3, "not-found"), hidden
    assert hidden.err.replace("other", "never").splitlines()[:2] == absent.err.splitlines()[:2]
    hidden, absent = await asyncio.gather(
        run(anna, "agent", "tail", "west/alpha/other"), run(anna, "agent", "tail", "west/alpha/never")
    )
    assert (hidden.code, hidden.err.replace("other", "never").splitlines()[:2]) == (3, absent.err.splitlines()[:2])
    assert await both.west.register_value("select count(*) from fleet.message where body = 'echo no'") == 0


async def test_a_grant_that_ends_is_refused_with_the_next_call(both: Pair, anna: Environment) -> None:
    await both.grants(send="*")
    assert (await run(anna, "agent", "send", "west/alpha/worker", "-m", "true", "--detach")).code == 0
    await both.grants()
    refused = await run(anna, "agent", "send", "west/alpha/worker", "-m", "echo no", "--detach")
    assert (refused.code, refused.error_code) == (4, "not-granted"), refused
    assert await both.west.register_value("select count(*) from fleet.message where body = 'echo no'") == 0


async def test_a_peer_whose_people_only_look_may_not_send(both: Pair, anna: Environment) -> None:
    await both.grants(send="*", watch="*")
    role = "update fleet.peer set role = $1 where peer_id = $2 returning 1"
    await both.west.register_value(role, "viewer", both.peer_id)
    try:
        refused = await run(anna, "agent", "send", "west/alpha/worker", "-m", "echo no", "--detach")
        assert (refused.code, refused.error_code) == (4, "denied"), refused
        assert (await run(anna, "agent", "tail", "west/alpha/worker")).code == 0
    finally:
        await both.west.register_value(role, "operator", both.peer_id)


async def test_a_terminal_is_tailed_and_a_watch_ends_with_its_grant(both: Pair, anna: Environment) -> None:
    await both.grants(send="*", watch="agent=worker")
    assert (await run(anna, "agent", "send", "west/alpha/worker", "-m", "echo seen-$((40 + 2))")).code == 0
    tailed = await run(anna, "agent", "tail", "west/alpha/worker", "-n", "20")
    assert "seen-42" in tailed.out, tailed
    command = [sys.executable, "-m", "mosaic_cli.main", "agent", "watch", "west/alpha/worker", "-o", "json"]
    watch = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=anna, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert watch.stdout is not None
    first = json.loads(await watch.stdout.readline())
    assert any("seen-42" in row for row in first["rows"])
    await both.grants(send="*")
    _, err = await watch.communicate()
    assert watch.returncode == 4, err
    assert b"not-granted" in err


async def test_an_interrupt_stops_what_a_peers_agent_does(both: Pair, anna: Environment, tmp_path: Path) -> None:
    await both.grants(send="*")
    busy = await run(
        anna, "agent", "send", "west/alpha/other", "-m", f"touch {tmp_path}/on; sleep 600; touch {tmp_path}/off"
    )
    assert busy.code == 0, busy
    await eventually((tmp_path / "on").exists, "it runs")
    stopped = await run(anna, "agent", "interrupt", "west/alpha/other")
    assert stopped.code == 0, stopped
    assert (await run(anna, "agent", "send", "west/alpha/other", "-m", f"touch {tmp_path}/free")).code == 0
    await eventually((tmp_path / "free").exists, "it takes the next one")


async def test_names_of_clusters_are_told_apart(both: Pair, anna: Environment) -> None:
    wrong = await run(anna, "agent", "send", "wset/alpha/worker", "-m", "true")
    assert (wrong.code, wrong.error_code) == (3, "no-such-peer"), wrong
    assert "west" in wrong.err
    own = await run(anna, "agent", "send", "east/alpha/worker", "-m", "true")
    assert (own.code, own.error_code) == (3, "not-found"), own
    there = await run(anna, "agent", "reset", "west/alpha/worker")
    assert there.error_code == "of-another-cluster", there


async def test_messages_to_peers_are_listed_shown_and_taken_back(both: Pair, anna: Environment) -> None:
    await both.grants(send="*")
    sent = await run(anna, "agent", "send", "west/alpha/worker", "-m", "true", "-o", "json")
    message_id = json.loads(sent.out.splitlines()[-1])["id"]
    listed = await run(anna, "message", "ls", "west/alpha/worker", "-o", "json")
    assert listed.json["items"][0]["id"] == message_id
    assert message_id in (await run(anna, "message", "ls", "-o", "name")).out
    shown = await run(anna, "message", "show", message_id, "-o", "json")
    assert (shown.json["body"], shown.json["cluster"], shown.json["sender"]["name"]) == ("true", "west", "anna")
    late = await run(anna, "message", "cancel", message_id)
    assert (late.code, late.error_code) == (6, "too-late"), late
    both.west.hosts["alpha"].program.stop()  # what comes now stays in its queue
    try:
        queued = await run(anna, "agent", "send", "west/alpha/worker", "-m", "true", "--detach", "-o", "json")
        waiting = json.loads(queued.out.splitlines()[-1])["id"]
        back = await run(anna, "message", "cancel", waiting, "-o", "json")
        assert back.json["step"] == "cancelled", back
        (row,) = [one for one in await audit(both.west, "CancelMessage") if one["target"] == waiting]
        assert row["caller_name"] == "east"
    finally:
        both.west.hosts["alpha"].program.start()
        await both.west.until_available("worker", "other")


async def test_an_agent_sends_from_its_pane_and_can_be_answered(both: Pair, tmp_path: Path) -> None:
    await both.grants(send="*")
    await both.east.join("beta")
    await both.east.apply({"planner": "beta"}, classes={"planner": "docs"})
    planner = await inside(both.east, "planner")
    sent = await run(planner, "agent", "send", "west/alpha/worker", "-m", "true", "-o", "json")
    assert sent.code == 0, sent
    message_id = json.loads(sent.out.splitlines()[-1])["id"]
    sender = "select sender_kind || ' ' || sender_name from fleet.message where message_id = $1"
    assert await both.west.register_value(sender, message_id) == "connector east/beta/planner"
    (row, *_) = await audit(both.west, "FederationService/Send")
    assert row["detail"]["on_behalf_of"] == "agent planner (docs) of cluster east"  # type: ignore[index]
    not_its_own = await run(planner, "message", "cancel", await both.east.send("west/alpha/worker", "true"))
    assert (not_its_own.code, not_its_own.error_code) == (4, "denied"), not_its_own


async def test_messages_to_peers_are_in_the_stream_of_messages(both: Pair) -> None:
    await both.grants(send="*")
    request = messages_pb2.WatchMessagesRequest(agent="west/alpha/worker", limit=1)
    async with asyncio.timeout(WAIT_SECONDS):
        stream = both.east.messages.Watch(request)
        async for event in stream:
            if event.complete:
                break
        message_id = await both.east.send("west/alpha/worker", "true")
        async for event in stream:
            if event.receipt.message_id == message_id and not event.receipt.waits_here:
                break
        stream.cancel()


async def test_a_watch_ends_when_its_grant_runs_out_and_goes_through_any_replica(both: Pair, tmp_path: Path) -> None:
    await ungrant(both.west, both.peer_id)
    second = Replica(both.west)
    await second.start()
    try:
        # East asks at the replica that does not hold the link of alpha.
        door = json.loads((Home(second.program.home).run / "controlplane.json").read_text())["peer_address"]
        await grant(both.west, both.peer_id, "watch", lasts="4 seconds")
        async with outgoing_of(both.east) as outgoing:
            there = replace(await peer_row(both.east, "west"), addresses=[door])
            frames: list[terminal_pb2.TerminalFrame] = []

            async def watch() -> None:
                async with outgoing.to(there) as onward:
                    asked = terminal_pb2.WatchTerminalRequest(address="alpha/worker")
                    call = FederationServiceStub(onward.channel).WatchTerminal(asked, metadata=onward.metadata)
                    async for frame in onward.replies(call):
                        frames.append(frame)  # noqa: PERF401  a comprehension would lose them when the stream ends

            with pytest.raises(NotGranted):
                await watch()
            assert frames[0].whole
    finally:
        await second.close()


async def test_a_peer_learns_nothing_of_messages_that_are_not_its_own(both: Pair) -> None:
    foreign = await both.west.send("worker", "true")
    async with outgoing_of(both.east) as outgoing, outgoing.to(await peer_row(both.east, "west")) as onward:
        stub = FederationServiceStub(onward.channel)
        for message_id in (foreign, str(new_id())):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.CancelMessage(
                    messages_pb2.CancelMessageRequest(message_id=message_id), metadata=onward.metadata
                )
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in stub.Follow(messages_pb2.FollowRequest(message_id=message_id), metadata=onward.metadata):
                    pass
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_peer_that_is_away_is_named_with_when_it_was_last_heard_of(both: Pair, anna: Environment) -> None:
    await both.grants(send="*", watch="*")
    both.west.controlplane.stop()
    await both.east.register_value(
        "update fleet.peer_feed set bookmark_at = now() - interval '3 minutes' where peer_id = $1 returning 1",
        both.peer_id,
    )
    try:
        sent = await run(anna, "agent", "send", "west/alpha/worker", "-m", "echo no", "-o", "json")
        watched = await run(anna, "agent", "watch", "west/alpha/worker", "-o", "json")
    finally:
        both.west.controlplane.start()
        await both.west.serving()
    for refused in (sent, watched):
        assert refused.code == 5, refused
        told = json.loads(refused.err.splitlines()[-1])
        assert told["code"] == "peer-unreachable"
        assert "cluster west" in told["what"]
        assert "last heard of 3 m ago" in told["what"]
    await both.west.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
    assert await both.west.register_value("select count(*) from fleet.message where body = 'echo no'") == 0


async def test_what_is_queued_here_waits_for_the_peer_is_taken_back_or_expires(
    both: Pair, anna: Environment, tmp_path: Path
) -> None:
    await both.grants(send="*")
    both.west.controlplane.stop()
    ids = {}
    try:
        for name in ("kept", "taken-back", "late"):
            done = await run(
                anna, "agent", "send", "west/alpha/worker", "-m", f"echo {name} >> {tmp_path}/ran",
                "--queue", "--detach", "-o", "json",
            )  # fmt: skip
            receipt = json.loads(done.out.splitlines()[-1])
            assert (done.code, receipt["waitsHere"]) == (0, True), done
            assert "cluster west cannot be reached" in receipt["waitsFor"]
            ids[name] = receipt["id"]
        back = await run(anna, "message", "cancel", ids["taken-back"], "-o", "json")
        assert back.json["step"] == "cancelled", back
        await both.east.register_value(
            "update fleet.peer_message set deadline_at = now() where message_id = $1 returning 1", ids["late"]
        )
        expired = await both.east.until_step(ids["late"], at_least=messages_pb2.MESSAGE_STEP_UNKNOWN)
        assert expired.step == messages_pb2.MESSAGE_STEP_EXPIRED
        assert (await both.east.receipt(ids["kept"])).step == messages_pb2.MESSAGE_STEP_QUEUED
    finally:
        both.west.controlplane.start()
        await both.west.serving()
    await both.until_handed(ids["kept"])
    await both.west.until_step(ids["kept"])
    step = None
    async with asyncio.timeout(WAIT_SECONDS):
        while step != "submitted":  # as is told here, although nobody follows it
            await asyncio.sleep(0.2)
            listed = (await run(anna, "message", "ls", "west/alpha/worker", "-o", "json")).json["items"]
            (step,) = [one["step"] for one in listed if one["id"] == ids["kept"]]
    await eventually((tmp_path / "ran").exists, "what waited ran")
    assert (tmp_path / "ran").read_text() == "kept\n"


async def test_a_message_taken_back_while_nobody_knows_whether_it_arrived_is_not_taken_when_it_comes_late(
    both: Pair, anna: Environment
) -> None:
    await both.grants(send="*")
    message_id = str(new_id())
    cut = "update fleet.peer_message set state = 'offered', tried_at = now() where message_id = $1 returning 1"
    # A call that was cut before it arrived: to a seat that is not there, so that west has not got it.
    await run(anna, "agent", "send", "west/alpha/never", "-m", "echo no", "--id", message_id)
    await both.east.register_value(cut, message_id)
    back = await run(anna, "message", "cancel", message_id, "-o", "json")
    assert (back.code, back.json["step"]) == (0, "cancelled"), back
    late = messages_pb2.SendRequest(request_id=message_id, to="alpha/worker", body="echo no")
    async with outgoing_of(both.east) as outgoing:
        there = await peer_row(both.east, "west")

        async def arrive() -> None:
            async with outgoing.to(there) as onward:
                await FederationServiceStub(onward.channel).Send(late, metadata=onward.metadata)

        with pytest.raises(CancelledBefore):
            await arrive()


# Asked for again by its sender under the same id, or found by the outbox: each place in one of the two ways.
PLACES = [
    ("east", "controlplane.peer-message-kept", "again"),
    ("east", "controlplane.peer-message-offered", "queued"),
    ("east", "controlplane.peer-message-handed", "queued"),
    ("east", "controlplane.peer-message-recorded", "again"),
    ("west", "controlplane.message-received", "again"),
    ("west", "controlplane.message-queued", "queued"),
]


@pytest.mark.parametrize(("side", "place", "way"), PLACES)
async def test_a_control_plane_killed_at_any_step_of_a_hand_over_loses_and_doubles_nothing(
    both: Pair, tmp_path: Path, side: str, place: str, way: str
) -> None:
    await both.grants(send="*")
    killed = both.east if side == "east" else both.west
    killed.controlplane.stop()
    killed.controlplane.start(killed_at=place)
    await killed.serving()
    message_id = str(new_id())
    request = messages_pb2.SendRequest(
        request_id=message_id, to="west/alpha/worker", body=f"echo x >> {tmp_path}/ran", queue_here=way == "queued"
    )
    with contextlib.suppress(grpc.aio.AioRpcError):
        await both.east.messages.Send(request, wait_for_ready=True, timeout=20)
    await killed.controlplane.killed()
    killed.controlplane.start()
    await killed.serving()
    if way == "queued":
        # Nobody asks again. What was offered by who is gone is offered anew; so that a test need not wait for 30 s:
        await both.east.register_value(
            "update fleet.peer_message set tried_at = tried_at - interval '1 minute' where message_id = $1 returning 1",
            message_id,
        )
    else:
        await both.east.messages.Send(request, wait_for_ready=True, timeout=20)
    await both.until_handed(message_id)
    assert (await both.west.until_step(message_id)).step == messages_pb2.MESSAGE_STEP_SUBMITTED
    await eventually((tmp_path / "ran").exists, "it ran", both.west.controlplane)
    last = str(new_id())
    await both.east.send("west/alpha/worker", f"touch {tmp_path}/done", message_id=last)
    await eventually((tmp_path / "done").exists, "the next one ran", both.west.controlplane)
    assert (tmp_path / "ran").read_text() == "x\n"
    receipt = await both.east.receipt(message_id)
    assert (receipt.cluster, receipt.waits_here) == ("west", False)


async def test_a_receipt_is_as_the_peer_has_it_now_and_unknown_once_the_peer_has_forgotten_it(both: Pair) -> None:
    await both.grants(send="*")
    done, lost = [await both.east.send("west/alpha/worker", "true") for _ in range(2)]
    # Nobody followed either: what east shows, it asks for.
    for one in (done, lost):
        assert (await both.east.until_step(one)).step == messages_pb2.MESSAGE_STEP_SUBMITTED
    # As a register is that was put back to before it.
    forget = "with gone as (delete from fleet.{} where message_id = $1 returning 1) select count(*) from gone"
    for table in ("message_step", "message"):
        await both.west.register_value(forget.format(table), lost)
    receipt = await both.east.receipt(lost)
    assert receipt.step == messages_pb2.MESSAGE_STEP_UNKNOWN
    assert "cluster west does not know it any more" in receipt.reason
    assert (await both.east.receipt(done)).step == messages_pb2.MESSAGE_STEP_SUBMITTED
