"""The host's end of its link, over real mTLS, against a control plane that can be rude."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable

import pytest
from mosaic_framework import protocol
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_hostagent import beats
from mosaic_hostagent import link as link_module
from mosaic_hostagent.link import HostReplaced
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.fakes.host_link import FakeHostLinks
from tests.support.hostagent import Step, eventually
from tests.support.linked import Running, dispatch, steps, submitted, want
from tests.support.tmux import PrivateTmux


async def test_the_whole_way_of_a_message(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    await host.start()
    link = await plane.link()
    assert (link.hello.host_id, link.hello.journal_epoch) == (plane.host_id, 0)
    assert (link.hello.protocol_version, link.hello.oldest_protocol) == (protocol.VERSION, protocol.OLDEST)
    (ready,) = await link.has("ready")
    assert ready.ready.link_epoch == 1
    assert json.loads((host.home.run / "hostagent.json").read_bytes()) == {"pid": os.getpid()}
    want(link, seat("a"), generation=4)
    (applied,) = await link.has("applied")
    assert applied.applied.generation == 4
    message_id = dispatch(link, "a", "echo x > out")
    await submitted(link, message_id)
    assert steps(link, message_id) == [
        Step.MESSAGE_STEP_DISPATCHED,
        Step.MESSAGE_STEP_TYPED,
        Step.MESSAGE_STEP_SUBMITTED,
    ]
    link.send(capture=pb.CaptureTerminal(call_id="c1", agent_id="agent-a", lines=10))
    (answer,) = await link.has("terminal")
    assert (answer.terminal.call_id, answer.terminal.problem) == ("c1", "")
    assert "echo x > out" in answer.terminal.text
    link.send(capture=pb.CaptureTerminal(call_id="c2", agent_id="agent-nobody"))
    assert (await link.has("terminal", 2))[1].terminal.problem


async def test_seats_are_told_before_the_generation_that_they_make(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"), seat("b", running=False), generation=2)
    await link.has("applied")
    kinds = [frame.WhichOneof("frame") for frame in link.frames]
    told = {frame.seat.name for frame in link.frames[: kinds.index("applied")] if frame.WhichOneof("frame") == "seat"}
    assert told == {"a", "b"}


async def test_beats_come_at_the_interval_that_was_set(host: Running, plane: FakeHostLinks) -> None:
    plane.beat_ms = 100
    await host.start()
    link = await plane.link()
    began = time.monotonic()
    beats = await link.has("beat", 6)
    assert 0.3 < time.monotonic() - began < 3
    assert [beat.beat.sequence for beat in beats[:6]] == [1, 2, 3, 4, 5, 6]


async def test_a_silent_link_is_given_up_and_dialled_anew(
    host: Running, plane: FakeHostLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beats, "SHORTEST_ANSWER", 0.5)
    plane.deaf = True
    await host.start()
    await plane.link()
    plane.deaf = False
    second = await plane.link(count=2)
    await eventually(lambda: plane.links[0].ended, "the half-open stream is closed")
    await second.has("beat", 8)
    assert len(plane.links) == 2


async def test_the_pace_changes_while_the_link_is_up(host: Running, plane: FakeHostLinks) -> None:
    plane.beat_ms = 60_000
    await host.start()
    link = await plane.link()
    await link.has("beat", 1)
    link.send(pace=pb.Pace(beat_interval_ms=100, answer_within_ms=4000))
    await link.has("beat", 5)
    assert len(plane.links) == 1


async def test_a_control_plane_of_the_release_before_is_worked_with(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    plane.welcome = pb.Welcome(protocol_version=protocol.VERSION - 1)
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    await link.has("applied")
    await submitted(link, dispatch(link, "a", "true"))
    await link.has("beat", 3)


async def test_a_control_plane_that_speaks_no_protocol_of_ours_is_left_and_asked_again(
    host: Running, plane: FakeHostLinks
) -> None:
    plane.welcome = pb.Welcome(protocol_version=protocol.VERSION + 2, oldest_protocol=protocol.VERSION + 1)
    await host.start()
    refused = await plane.link()
    await eventually(lambda: refused.ended, "the link is ended")
    assert not refused.of("ready"), "nothing is done for it"
    plane.welcome = pb.Welcome(protocol_version=protocol.VERSION)
    await (await plane.link(count=len(plane.links) + 1)).has("ready")


async def test_facts_go_again_in_order_from_the_oldest_that_was_not_acknowledged(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    plane.acknowledges = False
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    message_id = dispatch(link, "a", "true")
    await submitted(link, message_id)
    link.send(acknowledged=pb.EventsAcknowledged(sequence=2))
    await asyncio.sleep(0.1)
    link.drop()
    second = await plane.link(count=2)
    assert second.hello.journal_epoch == 1
    await submitted(second, message_id)
    sequences = [frame.event.sequence for frame in second.of("event")]
    assert sequences == list(range(3, 3 + len(sequences)))
    await second.has("ready")
    assert [seat.name for seat in second.hello.seats] == ["a"]


async def test_nothing_is_sent_twice_on_one_link(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    for seq in range(5):
        await submitted(link, dispatch(link, "a", "true", seq=seq))
    sequences = [frame.event.sequence for frame in link.of("event")]
    assert sequences == sorted(set(sequences))


async def test_a_message_that_is_pushed_on_two_links_is_typed_once(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], private: PrivateTmux
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    message_id = dispatch(link, "a", "echo x >> out")
    await submitted(link, message_id)
    link.drop()
    second = await plane.link(count=2)
    dispatch(second, "a", "echo x >> out", message_id=message_id)
    await submitted(second, message_id)
    await asyncio.sleep(0.3)
    assert (private.folder / "home" / "out").read_text() == "x\n"


async def test_an_older_desired_state_is_ignored(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"), generation=5)
    await link.has("applied")
    want(link, generation=4)
    link.send(capture=pb.CaptureTerminal(call_id="c", agent_id="agent-a"))
    (answer,) = await link.has("terminal")
    assert answer.terminal.problem == "", "the seat is still held"
    want(link, seat("a"), seat("b"), generation=6)
    await link.has("applied", 2)
    assert [frame.applied.generation for frame in link.of("applied")] == [5, 6]
    assert [told.reason for frame in link.of("event") if (told := frame.event.run_ended).run_id] == []


async def test_the_next_address_is_tried_when_one_does_not_answer(host: Running, plane: FakeHostLinks) -> None:
    await host.start(addresses=["127.0.0.1:1", "127.0.0.1:2", plane.address])
    await plane.link()


async def test_a_refused_link_is_tried_again_and_seats_are_left_alone(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], private: PrivateTmux
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    await link.has("applied")
    plane.refuse = RuntimeError("revoked")
    link.drop()
    await asyncio.sleep(0.6)
    assert "a" in private.tmux("list-sessions", "-F", "#{session_name}").split()
    plane.refuse = None
    await plane.link(count=2)


async def test_dials_that_fail_are_spread_wider_each_time_and_after_a_link_that_held_begin_anew(
    host: Running, plane: FakeHostLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def spread(attempt: int, _failure: FleetError | None) -> float:
        attempts.append(attempt)
        return 0.01

    monkeypatch.setattr(link_module, "before_next_dial", spread)
    monkeypatch.setattr(link_module, "STABLE_SECONDS", 0.3)
    plane.refuse = RuntimeError("away")
    await host.start()
    await eventually(lambda: len(attempts) >= 4, "it dials again and again")
    assert attempts[:4] == [1, 2, 3, 4]
    plane.refuse = None
    link = await plane.link()
    await asyncio.sleep(0.4)
    attempts.clear()
    link.drop()
    await plane.link(count=2)
    assert attempts == [0]


async def test_a_home_that_was_given_to_another_host_ends_the_process(host: Running, plane: FakeHostLinks) -> None:
    await host.start()
    link = await plane.link()
    plane.host_id = str(new_id())
    plane.write_identity(host.home.pki / "host")
    link.drop()
    assert host.task is not None
    with pytest.raises(ExceptionGroup) as ended:
        await asyncio.wait_for(host.task, 10)
    assert ended.group_contains(HostReplaced)


async def test_a_host_moves_to_a_replica_that_it_heard_of_by_its_link_alone_and_remembers_it(
    host: Running, plane: FakeHostLinks
) -> None:
    other = plane.twin()
    await other.start()
    try:
        plane.fleet_addresses = [plane.address, other.address]
        await host.start()
        await (await plane.link()).has("ready")
        await plane.stop()
        await other.link()
        await host.stop()
        await host.start()  # with an identity that knows only the first, which is gone
        await other.link(count=2)
    finally:
        await other.stop()


async def test_a_replica_that_comes_while_the_link_holds_is_known_at_once(host: Running, plane: FakeHostLinks) -> None:
    other = plane.twin()
    await other.start()
    try:
        plane.fleet_addresses = [plane.address]
        await host.start()
        link = await plane.link()
        await link.has("ready")
        link.send(replicas=pb.Replicas(fleet_addresses=[plane.address, other.address, "no address"]))
        await eventually((host.home.state / "addresses.json").exists, "it is on disk")
        await eventually(lambda: other.address in (host.home.state / "addresses.json").read_text(), "it is kept")
        await plane.stop()
        await other.link()
    finally:
        await other.stop()


async def test_addresses_that_make_no_sense_are_not_taken(host: Running, plane: FakeHostLinks) -> None:
    plane.fleet_addresses = ["", "no port", "a:b", "x:99999", "$(reboot):1"]
    await host.start()
    await (await plane.link()).has("beat")
    assert not (host.home.state / "addresses.json").exists()
