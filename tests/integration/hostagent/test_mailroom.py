"""Messages into real seats: in order, once, never later than their deadline, and honest about the rest."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from mosaic_framework import steps
from mosaic_hostagent.journal_facts import Evidence
from mosaic_hostagent.ladder import Step
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.hostagent import World, eventually

SUBMITTED = ["dispatched", "typed", "submitted"]


def written(world: World, name: str = "out") -> list[str]:
    path = world.private.folder / "home" / name
    return path.read_text().splitlines() if path.exists() else []


async def test_a_message_climbs_the_ladder(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    assert await world.ended(await world.send(seat, "echo x >> out")) == SUBMITTED
    await eventually(lambda: written(world) == ["x"], "it ran")


async def test_messages_are_typed_in_the_order_of_their_seat_seq(world: World) -> None:
    seat = world.seat("a")
    world.want(world.seat("a", running=False), generation=1)
    world.start()
    ids = [await world.send(seat, f"echo {seq} >> out", seq=seq) for seq in (3, 1, 2)]
    world.want(world.seat("a", generation=2), generation=2)
    for message_id in ids:
        assert await world.ended(message_id) == SUBMITTED
    await eventually(lambda: written(world) == ["1", "2", "3"], "all ran in order")


async def test_many_messages_at_once_all_arrive_once(world: World) -> None:
    seats = [world.seat(name) for name in "abc"]
    world.want(*seats, generation=1)
    world.start()
    sent = [
        (seat, await world.send(seat, f"echo {seat.spec.name}{n} >> out", seq=n)) for n in range(8) for seat in seats
    ]
    for _, message_id in sent:
        assert await world.ended(message_id) == SUBMITTED
    await eventually(lambda: len(written(world)) == 24, "all ran")
    assert sorted(written(world)) == sorted(f"{name}{n}" for n in range(8) for name in "abc")


async def test_a_message_waits_for_a_busy_seat(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    first = await world.send(seat, "sleep 0.5; echo first >> out", seq=1)
    second = await world.send(seat, "echo second >> out", seq=2)
    assert await world.ended(first) == SUBMITTED
    assert await world.steps(second) == ["dispatched"]
    assert await world.ended(second) == SUBMITTED
    await eventually(lambda: written(world) == ["first", "second"], "both ran")


async def test_a_message_to_a_seat_that_does_not_run_expires_and_says_why(world: World) -> None:
    seat = world.seat("a", running=False)
    world.want(seat, generation=1)
    world.start()
    message_id = await world.send(seat, "echo x >> out", remaining_ms=300)
    assert await world.ended(message_id) == ["dispatched", "expired"]
    reasons = [event.step.reason for event in await world.events() if event.step.message_id == message_id]
    assert "does not run" in reasons[-1]
    world.want(world.seat("a", generation=2), generation=2)
    await world.available("a")
    assert written(world) == []


async def test_a_message_behind_one_that_cannot_be_typed_expires_at_its_own_deadline(world: World) -> None:
    seat = world.seat("a", running=False)
    world.want(seat, generation=1)
    world.start()
    first = await world.send(seat, "echo first >> out", seq=1)
    later = await world.send(seat, "echo later >> out", seq=2)
    short = await world.send(seat, "echo short >> out", seq=3, remaining_ms=300)
    assert await world.ended(short) == ["dispatched", "expired"]
    reasons = [event.step.reason for event in await world.events() if event.step.message_id == short]
    assert "behind earlier messages" in reasons[-1]
    world.want(world.seat("a", generation=2), generation=2)
    assert await world.ended(first) == await world.ended(later) == SUBMITTED
    await eventually(lambda: written(world) == ["first", "later"], "those in time ran, in order")


async def test_a_message_behind_one_whose_typing_is_held_up_expires_at_its_own_deadline(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    running = await world.send(seat, "sleep 1.5; echo ran >> out", seq=1)
    assert await world.ended(running) == SUBMITTED
    waits = await world.send(seat, "echo waits >> out", seq=2)
    short = await world.send(seat, "echo short >> out", seq=3, remaining_ms=200)
    assert await world.ended(short) == ["dispatched", "expired"]
    assert await world.steps(waits) == ["dispatched"]
    assert await world.ended(waits) == SUBMITTED
    await eventually(lambda: written(world) == ["ran", "waits"], "the expired one was never typed")


async def test_a_message_past_its_deadline_on_arrival_is_not_typed(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    await world.available("a")
    assert await world.ended(await world.send(seat, "echo x >> out", remaining_ms=0)) == ["dispatched", "expired"]


async def test_a_message_to_a_removed_seat_fails(world: World) -> None:
    seat = world.seat("a", running=False)
    world.want(seat, generation=1)
    world.start()
    message_id = await world.send(seat, "echo x >> out")
    world.want(generation=2)
    await world.mailroom.seats_changed()
    assert await world.ended(message_id) == ["dispatched", "failed"]


async def test_a_message_that_comes_before_its_seat_is_kept_for_it(world: World) -> None:
    world.want(generation=1)
    world.start()
    seat = world.seat("a")
    message_id = await world.send(seat, "echo x >> out")
    world.want(seat, generation=2)
    await world.mailroom.seats_changed()
    assert await world.ended(message_id) == SUBMITTED


async def test_the_same_message_again_tells_its_steps_again_and_types_nothing(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    message_id = await world.send(seat, "echo x >> out")
    await world.ended(message_id)
    await world.journal.acknowledge(10_000)
    assert await world.steps(message_id) == []
    await world.mailroom.take(
        pb.Dispatch(message_id=message_id, agent_id=seat.agent_id, seat_seq=1, body="echo x >> out", payload_digest="d")
    )
    assert await world.steps(message_id) == SUBMITTED
    await asyncio.sleep(0.3)
    assert written(world) == ["x"]


async def test_nothing_of_a_message_that_is_only_control_characters_is_typed(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    assert await world.ended(await world.send(seat, "\x1b\x03\x04")) == ["dispatched", "failed"]


async def test_an_escape_sequence_cannot_end_the_paste(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    body = "echo 'a\x1b[201~\x03\x04b' >> out"
    assert await world.ended(await world.send(seat, body)) == SUBMITTED
    await eventually(lambda: written(world) == ["a[201~b"], "it ran as one line")


async def test_messages_wait_for_the_next_run_of_a_seat_that_died(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    resident = await world.available("a")
    os.kill(resident.session.pid, signal.SIGKILL)  # type: ignore[union-attr]
    await eventually(lambda: not resident.alive, "its death is seen")
    assert await world.ended(await world.send(seat, "echo x >> out")) == SUBMITTED
    await eventually(lambda: written(world) == ["x"], "it ran in the next run")


async def test_what_waited_when_a_host_agent_ended_is_typed_by_the_next(world: World) -> None:
    seat = world.seat("a")
    world.want(world.seat("a", running=False), generation=1)
    world.start()
    message_id = await world.send(seat, "echo x >> out")
    await world.restart()
    await world.mailroom.resume()
    world.want(seat, generation=2)
    world.start()
    assert await world.ended(message_id) == SUBMITTED
    await eventually(lambda: written(world) == ["x"], "it ran once")


@pytest.mark.parametrize("place", ["before-typing", "pasted", "typed-recorded"])
async def test_text_left_by_a_delivery_that_broke_off_is_not_sent_with_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    await world.available("a")

    def break_off(name: str) -> None:
        if name == f"hostagent.{place}":
            raise asyncio.CancelledError

    monkeypatch.setattr(steps, "_observer", break_off)
    broken = await world.send(seat, "echo broken >> out", seq=1)
    await eventually(lambda: world.mailroom._boxes[seat.agent_id].worker is None, "the delivery broke off")
    monkeypatch.setattr(steps, "_observer", None)
    assert await world.journal.record(broken, Step.UNKNOWN, Evidence("journal", ""), reason="broke off")
    world.mailroom._boxes.clear()
    assert await world.ended(await world.send(seat, "echo next >> out", seq=2)) == SUBMITTED
    await eventually(lambda: written(world) == ["next"], "only the next one ran")


async def test_a_message_in_the_middle_of_typing_when_its_seat_is_restarted_is_not_lost_silently(
    world: World, tmp_path: Path
) -> None:
    seat = world.seat("a")
    world.want(seat, generation=1)
    world.start()
    await world.available("a")
    ids = [await world.send(seat, f"echo {seq} >> out", seq=seq) for seq in range(1, 6)]
    world.want(world.seat("a", generation=2, restart=1), generation=2)
    ends = [(await world.ended(message_id))[-1] for message_id in ids]
    assert set(ends) <= {"submitted", "unknown"}
    await asyncio.sleep(0.2)
    assert len(written(world)) == len(set(written(world)))
