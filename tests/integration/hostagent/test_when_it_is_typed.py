"""When a message is typed: in order, when idle, after an interrupt, handed over, taken back; and why it waits."""

from __future__ import annotations

import asyncio
import os
import pty
import time
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.ids import new_id
from mosaic_framework.manifest import Composer
from mosaic_hostagent import handover
from mosaic_hostagent.terminal import drafts, keys
from mosaic_hostagent.terminal.composer import Standing, standing
from mosaic_hostagent.terminal.evidence import Snapshot
from mosaic_hostagent.terminal.pane import NotNow
from mosaic_proto.v1 import host_link_pb2 as pb
from mosaic_proto.v1 import messages_pb2 as messages

from tests.support.conformance import quick_people
from tests.support.hostagent import World, eventually
from tests.support.standins import command_of, manifest_of, person, read_log

LONG_TURN = 30_000


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_people(monkeypatch.setattr)


class Seat:
    """A stand-in's seat in a world, and what one says to it."""

    def __init__(self, world: World, log: Path, seat: pb.DesiredSeat) -> None:
        self.world, self.log, self.seat, self.seq = world, log, seat, 0

    @classmethod
    async def of(cls, world: World, standin: str = "echoes-at-once", *, unattended: bool = False, **does: Any) -> Seat:
        log = world.private.folder / "log"
        command = command_of(standin, log, **does)
        seat = world.seat("a", manifest=manifest_of(standin), command=command, unattended=unattended)
        world.start()
        world.add(seat)
        await world.available("a")
        return cls(world, log, seat)

    @property
    def run_id(self) -> str:
        return self.world.resident("a").run_id

    async def send(
        self,
        body: str,
        mode: messages.DeliveryMode.ValueType = 0,  # type: ignore[assignment]
        *,
        seconds: float = 30.0,
        message_id: str = "",
    ) -> str:
        self.seq += 1
        message_id = message_id or str(new_id())
        await self.world.mailroom.take(
            pb.Dispatch(
                message_id=message_id,
                agent_id=self.seat.agent_id,
                seat_seq=self.seq,
                body=body,
                payload_digest="d",
                remaining_ms=int(seconds * 1000),
                sender="anna",
                mode=mode,
            )
        )
        return message_id

    def took(self) -> list[str]:
        return [event["text"].partition("] ")[2] for event in read_log(self.log) if event["event"] == "took"]

    async def waits_for(self, message_id: str, words: str) -> None:
        await eventually(
            lambda: any(words in told for told in self.world.waits.get(message_id, [])),
            f"{words!r} among {self.world.waits.get(message_id)}",
        )


async def test_a_program_that_may_ask_for_a_permission_is_not_typed_into_while_it_works(world: World) -> None:
    seat = await Seat.of(world, turn_ms=600)
    await world.ended(await seat.send("first"))
    second = await seat.send("second")
    await seat.waits_for(second, "it works")
    assert seat.took() == ["first"]
    await world.ended(second)
    assert [event["working"] for event in read_log(seat.log) if event["event"] == "took"] == [False, False]


async def test_an_unattended_one_is_typed_into_while_it_works_unless_the_sender_waits_for_it(world: World) -> None:
    seat = await Seat.of(world, turn_ms=700, unattended=True)
    await world.ended(await seat.send("first"))
    await world.ended(await seat.send("at once"))
    last = await seat.send("when idle", messages.DELIVERY_MODE_WHEN_IDLE)
    await world.ended(last)
    assert seat.took() == ["first", "at once", "when idle"]
    assert [event["working"] for event in read_log(seat.log) if event["event"] == "took"] == [False, True, False]


async def test_an_interrupting_message_goes_before_what_waits_and_interrupts(world: World) -> None:
    seat = await Seat.of(world, turn_ms=LONG_TURN)
    await world.ended(await seat.send("long"))
    waiting = await seat.send("waits")
    await seat.waits_for(waiting, "it works")
    urgent = await seat.send("stop that", messages.DELIVERY_MODE_INTERRUPT)
    await world.ended(urgent)
    assert seat.took() == ["long", "stop that"]


async def test_an_interrupt_alone_stops_the_work_and_says_when_there_was_none(world: World) -> None:
    seat = await Seat.of(world, turn_ms=LONG_TURN)
    nothing = await seat.send("", messages.DELIVERY_MODE_INTERRUPT_ONLY)
    assert await world.ended(nothing) == ["dispatched", "submitted"]
    await world.ended(await seat.send("long"))
    stop = await seat.send("", messages.DELIVERY_MODE_INTERRUPT_ONLY)
    assert await world.ended(stop) == ["dispatched", "submitted"]
    await world.ended(await seat.send("after"))
    assert seat.took() == ["long", "after"]
    told = [e.step.evidence.detail for e in await world.events() if e.step.message_id in (nothing, stop)]
    assert told[1::2] == [
        "nothing ran that could be interrupted",
        "its interrupt key was pressed, and it works no longer",
    ]


@pytest.mark.parametrize("mode", [messages.DELIVERY_MODE_INTERRUPT, messages.DELIVERY_MODE_INTERRUPT_ONLY])
async def test_a_terminal_that_goes_amid_an_interrupt_holds_up_nothing(
    world: World, mode: messages.DeliveryMode.ValueType
) -> None:
    seat = await Seat.of(world, turn_ms=LONG_TURN, wedge_after=1)
    await world.ended(await seat.send("long"))
    pane = world.resident("a").pane
    assert pane is not None
    tty = (await pane.look()).tty
    waiting = await seat.send("waits")
    await seat.waits_for(waiting, "it works")
    alone = mode == messages.DELIVERY_MODE_INTERRUPT_ONLY
    stop = await seat.send("" if alone else "stop that", mode)
    await eventually(lambda: bool(keys.unread(tty)), "the key is pressed, and not read")
    world.private.tmux("kill-session", "-t", "=a")
    assert (await world.ended(stop))[-1] == ("unknown" if alone else "submitted")
    if alone:
        await world.ended(waiting)
    assert seat.took() == ["long", "waits" if alone else "stop that"]


async def test_a_question_is_never_answered_by_an_interrupt(world: World) -> None:
    seat = await Seat.of(world, turn_ms=200, asks=1.0)
    await world.ended(await seat.send("go"))
    pane = world.resident("a").pane
    assert pane is not None
    while "proceed?" not in (await pane.look()).screen:
        await asyncio.sleep(0.01)
    stop = await seat.send("", messages.DELIVERY_MODE_INTERRUPT_ONLY, seconds=0.5)
    assert await world.ended(stop) == ["dispatched", "expired"]
    assert [event["event"] for event in read_log(seat.log) if event["event"] in ("approved", "denied")] == []


async def test_a_message_taken_back_before_its_typing_is_not_typed_and_one_after_is(world: World) -> None:
    seat = await Seat.of(world, turn_ms=500)
    first = await seat.send("first")
    await world.ended(first)
    second, third = await seat.send("second"), await seat.send("third")
    await seat.waits_for(second, "it works")
    await world.mailroom.cancel(second)
    await world.mailroom.cancel(first)
    assert await world.steps(second) == ["dispatched", "cancelled"]
    await world.ended(third)
    assert seat.took() == ["first", "third"]
    assert "cancelled" not in await world.steps(first)


async def test_why_a_message_waits_is_told_and_is_over_when_it_is_typed(world: World) -> None:
    seat = await Seat.of(world, turn_ms=300)
    await world.ended(await seat.send("first"))
    second, third = await seat.send("second"), await seat.send("third")
    await seat.waits_for(second, "it works")
    await seat.waits_for(third, "behind earlier messages")
    await world.ended(third)
    await eventually(lambda: world.waits[second][-1] == world.waits[third][-1] == "", "it waits for nothing")


async def test_a_persons_draft_holds_a_message_until_it_is_gone(world: World) -> None:
    seat = await Seat.of(world)
    pane = world.resident("a").pane
    assert pane is not None
    await person(pane, "half a tho")
    message_id = await seat.send("now")
    await seat.waits_for(message_id, "draft")
    assert seat.took() == []
    await person(pane, *["BSpace"] * 10)
    await world.ended(message_id)
    assert seat.took() == ["now"]


async def test_a_draft_is_set_aside_and_comes_back_where_the_program_can_do_that(world: World) -> None:
    seat = await Seat.of(world, "keeps-drafts")
    pane = world.resident("a").pane
    assert pane is not None
    await person(pane, "half a tho")
    await world.ended(await seat.send("now"))
    assert seat.took() == ["now"]
    await person(pane, "ught")
    await person(pane, "C-j")
    sent = lambda: [event["text"] for event in read_log(seat.log) if event["event"] == "took"]  # noqa: E731
    await eventually(lambda: len(sent()) == 2, "the draft was sent by its owner")
    assert sent()[-1] == "half a thought"


async def test_a_draft_is_not_set_aside_while_it_is_being_typed(world: World) -> None:
    await Seat.of(world, "keeps-drafts")
    resident = world.resident("a")
    pane, manifest = resident.pane, resident.manifest
    assert pane is not None
    assert manifest is not None
    for part in ("half", " a tho"):
        await person(pane, part)
        while part not in (seen := await pane.look()).screen:
            await asyncio.sleep(0.01)
        with pytest.raises(NotNow, match="being typed"):
            await drafts.set_aside(pane, manifest, seen)
    assert "half a tho" in (await pane.look()).screen


async def test_a_terminal_that_goes_as_a_draft_is_set_aside_holds_up_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = await Seat.of(world, "keeps-drafts")
    pane = world.resident("a").pane
    assert pane is not None
    await person(pane, "half a tho")
    while "half a tho" not in (await pane.look()).screen:
        await asyncio.sleep(0.01)
    ended = list[str]()

    def standing_before_it_goes(now: Snapshot, composer: Composer, text: str) -> Standing:
        if not ended:
            ended.append(world.private.tmux("kill-session", "-t", "=a"))
        return standing(now, composer, text)

    monkeypatch.setattr(drafts, "standing", standing_before_it_goes)
    monkeypatch.setattr(drafts, "RESTS_SECONDS", 0.0)
    await world.ended(await seat.send("now"))
    assert seat.took() == ["now"]
    assert ended


async def test_a_draft_that_is_to_come_back_and_whose_terminal_is_gone_is_told_as_not_seen(world: World) -> None:
    await Seat.of(world, "keeps-drafts")
    resident = world.resident("a")
    pane, manifest = resident.pane, resident.manifest
    assert pane is not None
    assert manifest is not None
    world.private.tmux("kill-session", "-t", "=a")
    assert not await drafts.bring_back(pane, manifest, "half a thought")


async def test_a_stall_is_told_while_it_lasts_and_the_message_arrives_after(world: World) -> None:
    seat = await Seat.of(world, wedge_after=1, wedge_seconds=4.0)
    await world.ended(await seat.send("first"))
    second = await seat.send("second")
    await seat.waits_for(second, "stalled")
    await world.ended(second)
    assert seat.took() == ["first", "second"]


async def test_a_runtime_that_asks_at_the_end_of_its_turn_is_handed_the_next_message_once(world: World) -> None:
    seat = await Seat.of(world, turn_ms=LONG_TURN)
    mailroom = world.mailroom
    await world.ended(await seat.send("first"))
    second = await seat.send("second")
    await seat.waits_for(second, "it works")
    text = await mailroom.handover(seat.seat.agent_id, seat.run_id)
    assert text is not None
    assert text.endswith(f"#{second}] second")
    assert await mailroom.handover(seat.seat.agent_id, seat.run_id) is None
    await mailroom.handover_taken(seat.seat.agent_id, seat.run_id)
    assert await world.steps(second) == ["dispatched", "accepted", "turn_started"]
    await mailroom.turn_ended(seat.seat.agent_id, seat.run_id, "hook")
    assert (await world.steps(second))[-1] == "turn_ended"
    assert seat.took() == ["first"], "it was not typed as well"


async def test_a_message_that_is_handed_over_amid_a_try_at_typing_it_is_followed_to_the_end_of_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = await Seat.of(world, turn_ms=LONG_TURN)
    mailroom, leftovers = world.mailroom, world.journal.leftovers
    await world.ended(await seat.send("first"))
    tries, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(agent_id: str) -> Any:
        tries.set()
        await goes_on.wait()
        return await leftovers(agent_id)

    monkeypatch.setattr(world.journal, "leftovers", slow)
    second = await seat.send("second")
    await tries.wait()
    assert await mailroom.handover(seat.seat.agent_id, seat.run_id)
    goes_on.set()
    await eventually(lambda: mailroom._boxes[seat.seat.agent_id].worker is None, "the try is over")
    a_moment_ago = int(time.time() * 1000) - 50  # a hook says when it was run, and is heard later
    await mailroom.turn_ended(seat.seat.agent_id, seat.run_id, "hook", at_ms=a_moment_ago)
    assert await world.steps(second) == ["dispatched", "accepted", "turn_started", "turn_ended"]
    assert seat.took() == ["first"], "it was not typed as well"


async def test_a_handed_over_message_that_nobody_says_to_have_read_is_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "READ_SECONDS", 0.2)
    seat = await Seat.of(world, turn_ms=LONG_TURN)
    await world.ended(await seat.send("first"))
    second = await seat.send("second")
    await seat.waits_for(second, "it works")
    assert await world.mailroom.handover(seat.seat.agent_id, "another-run") is None
    assert await world.mailroom.handover(seat.seat.agent_id, seat.run_id)
    assert await world.ended(second) == ["dispatched", "unknown"]


async def test_a_turn_that_ends_without_a_prompt_of_its_own_proves_that_what_was_handed_over_was_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "READ_SECONDS", 0.2)
    seat = await Seat.of(world, turn_ms=LONG_TURN)
    await world.ended(await seat.send("first"))
    second = await seat.send("second")
    await seat.waits_for(second, "it works")
    assert await world.mailroom.handover(seat.seat.agent_id, seat.run_id)
    assert (await world.ended(second))[-1] == "unknown"
    await world.mailroom.turn_ended(seat.seat.agent_id, seat.run_id, "claude Stop")
    assert (await world.steps(second))[-1] == "turn_ended"


async def test_a_key_of_a_person_in_tmux_that_is_not_drawn_yet_is_never_sent_with_a_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = await Seat.of(world, slow_ms=300)
    pane = world.resident("a").pane
    assert pane is not None
    master, slave = pty.openpty()
    client = await asyncio.create_subprocess_exec(
        *("tmux", "-S", str(pane.server.socket_path), "attach-session", "-t", "=a"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    asyncio.get_running_loop().add_reader(master, os.read, master, 65536)
    try:
        await eventually(lambda: bool(seat.world.private.tmux("list-clients", "-t", "=a")), "it is attached")
        first = await seat.send("first")
        assert (await world.outcomes.ended(first, seconds=20))[-1] == "submitted"
        press = pane.server.run
        typed = False

        async def run(*commands: Any) -> Any:
            nonlocal typed
            if not typed and "send-keys" in str(commands) and "Enter" in str(commands):
                typed = True
                os.write(master, b"D")
                await asyncio.sleep(0.1)  # the program has read it, and draws it later
            return await press(*commands)

        monkeypatch.setattr(pane.server, "run", run)
        second = await seat.send("second")
        await eventually(lambda: typed, "a key came in the moment before Enter")
        await asyncio.sleep(0.5)
        os.write(master, b"\x7f")  # they take it back
        assert (await world.outcomes.ended(second, seconds=20))[-1] == "submitted"
    finally:
        asyncio.get_running_loop().remove_reader(master)
        client.terminate()
        await client.wait()
        os.close(master)
    took = [event for event in read_log(seat.log) if event["event"] == "took"]
    assert [event["keyed"] for event in took] == ["", ""]
