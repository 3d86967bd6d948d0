"""Messages to a program that takes them without keystrokes: exactly, once, past a draft, never amid its question."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mosaic_framework import steps
from mosaic_framework.ids import new_id
from mosaic_hostagent.terminal.memory import remembering
from mosaic_hostagent.terminal.pane import Pane
from mosaic_hostagent.terminal.text import preamble
from mosaic_proto.v1 import messages_pb2 as messages

from tests.integration.hostagent.test_when_it_is_typed import LONG_TURN, Seat
from tests.support.conformance import quick_people
from tests.support.hostagent import World, eventually
from tests.support.standins import command_of, manifest_of, read_log


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_people(monkeypatch.setattr)


async def a_seat(world: World, letterbox: str = "takes", **does: Any) -> Seat:
    """A stand-in whose manifest says that it has a letterbox; `letterbox`: "" when nobody is there after all."""
    known = manifest_of("echoes-at-once")
    manifest = known.model_copy(update={"signals": known.signals.model_copy(update={"letterbox": True})})
    log = world.private.folder / "log"
    command = command_of("echoes-at-once", log, letterbox=letterbox, **does)
    seat = world.seat("a", manifest=manifest, command=command)
    world.start()
    world.add(seat)
    await world.available("a")
    return Seat(world, log, seat)


def took(seat: Seat) -> list[tuple[str, str]]:
    return [(one["by"], one["text"].partition("] ")[2]) for one in read_log(seat.log) if one["event"] == "took"]


async def sources(world: World, message_id: str) -> list[tuple[str, str]]:
    steps_of = [event.step for event in await world.events() if event.step.message_id == message_id]
    return [(messages.MessageStep.Name(one.step)[13:].lower(), one.evidence.source) for one in steps_of]


@pytest.mark.parametrize(
    "body",
    ["two\n\n  lines", "\"q\" 'q' `q` $(q);", "/x", "!x", "@x", "exit", "a\\", "\ttab  ", "é 😀 שלום", "x" * 20_000],
)
async def test_a_text_arrives_exactly_and_is_submitted_by_the_programs_own_word(world: World, body: str) -> None:
    seat = await a_seat(world)
    message_id = await seat.send(body)
    assert await world.ended(message_id) == ["dispatched", "submitted"]
    assert took(seat) == [("letterbox", body)]
    assert await sources(world, message_id) == [("dispatched", "journal"), ("submitted", "api")]


async def test_its_own_signal_makes_it_accepted_as_a_typed_one(world: World) -> None:
    seat = await a_seat(world)
    message_id = await seat.send("hello")
    await world.ended(message_id)
    prompt = f"{preamble('anna', 'a', message_id)} hello"
    await world.mailroom.prompt_accepted(seat.seat.agent_id, seat.run_id, prompt, "hook")
    assert await world.steps(message_id) == ["dispatched", "submitted", "accepted"]


async def test_a_persons_draft_is_no_obstacle_and_stays(world: World) -> None:
    seat = await a_seat(world)
    world.private.tmux("send-keys", "-t", "=a:", "-l", "my draft")
    await eventually(lambda: "my draft" in world.private.tmux("capture-pane", "-p", "-t", "=a:"), "the draft is drawn")
    await world.ended(await seat.send("past it"))
    assert took(seat) == [("letterbox", "past it")]
    assert "my draft" in world.private.tmux("capture-pane", "-p", "-t", "=a:")


async def test_nothing_is_given_while_a_question_of_the_program_is_open(world: World) -> None:
    seat = await a_seat(world, turn_ms=50, asks=1.0)
    world.private.tmux("send-keys", "-t", "=a:", "-l", "go")
    world.private.tmux("send-keys", "-t", "=a:", "C-j")
    await eventually(lambda: world.resident("a").state.state == "waiting", "its question is seen")
    message_id = await seat.send("later")
    await seat.waits_for(message_id, "it asks Do you want to proceed?")
    assert [text for by, text in took(seat) if by == "letterbox"] == []


async def test_it_is_given_while_the_program_works_unless_the_sender_waits_for_it(world: World) -> None:
    seat = await a_seat(world, turn_ms=LONG_TURN)
    world.private.tmux("send-keys", "-t", "=a:", "-l", "go")
    world.private.tmux("send-keys", "-t", "=a:", "C-j")
    await eventually(lambda: world.resident("a").state.state == "working", "it works")
    later = await seat.send("when idle", messages.DELIVERY_MODE_WHEN_IDLE)
    await seat.waits_for(later, "it works")
    await seat.world.mailroom.cancel(later)
    await world.ended(await seat.send("at once"))
    assert [one for one in took(seat) if one[0] == "letterbox"] == [("letterbox", "at once")]


@pytest.mark.parametrize("letterbox", ["", "never-greets"])
async def test_where_nobody_answers_it_is_typed(world: World, letterbox: str) -> None:
    seat = await a_seat(world, letterbox)
    message_id = await seat.send("hello")
    assert await world.ended(message_id) == ["dispatched", "typed", "submitted"]
    assert took(seat) == [("enter", "hello")]


async def test_one_that_the_program_did_not_take_waits_and_is_given_once(world: World) -> None:
    seat = await a_seat(world, "refuses")
    message_id = await seat.send("hello")
    await seat.waits_for(message_id, "just begun to work")
    assert await world.ended(message_id) == ["dispatched", "submitted"]
    assert took(seat) == [("letterbox", "hello")]


async def test_a_program_that_takes_none_says_why_and_nothing_is_journalled(world: World) -> None:
    seat = await a_seat(world, "unable")
    message_id = await seat.send("hello")
    await seat.waits_for(message_id, "it has no model")
    assert await world.steps(message_id) == ["dispatched"]
    assert took(seat) == []


async def test_without_an_answer_it_is_unknown_and_given_no_more_until_its_signal_settles_it(world: World) -> None:
    seat = await a_seat(world, "hangs-up")
    message_id = await seat.send("hello")
    assert await world.ended(message_id) == ["dispatched", "unknown"]
    assert took(seat) == [("letterbox", "hello")]
    prompt = f"{preamble('anna', 'a', message_id)} hello"
    await world.mailroom.prompt_accepted(seat.seat.agent_id, seat.run_id, prompt, "hook")
    assert (await world.steps(message_id))[-1] == "accepted"


async def test_nothing_is_given_while_another_program_stands_where_ours_should(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = await a_seat(world)
    reason = "another program has taken its place in the terminal"

    async def usurper(*_arguments: object) -> str:
        return reason

    with monkeypatch.context() as there:
        there.setattr(Pane, "usurper", usurper)
        message_id = await seat.send("hello")
        await seat.waits_for(message_id, reason)
        assert took(seat) == []
    assert await world.ended(message_id) == ["dispatched", "submitted"]


async def test_one_that_tmux_remembers_and_the_journal_does_not_is_never_given(world: World) -> None:
    seat = await a_seat(world)
    pane, message_id = world.resident("a").pane, str(new_id())
    assert pane is not None
    await pane.server.run(remembering(pane.server, pane.seat, [], message_id))
    await seat.send("given before", message_id=message_id)
    assert await world.ended(message_id) == ["dispatched", "unknown"]
    await world.ended(await seat.send("next"))
    assert took(seat) == [("letterbox", "next")]


async def test_one_whose_giving_broke_off_behind_the_journal_is_never_given_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = await a_seat(world)

    def break_off(name: str) -> None:
        if name == "hostagent.before-typing":
            raise asyncio.CancelledError

    monkeypatch.setattr(steps, "_observer", break_off)
    broken = await seat.send("broken")
    await eventually(lambda: world.mailroom._boxes[seat.seat.agent_id].worker is None, "the giving broke off")
    monkeypatch.setattr(steps, "_observer", None)
    await world.restart()
    await world.mailroom.resume()
    world.start()
    world.add(seat.seat)
    await world.available("a")
    await world.ended(await seat.send("next"))
    assert took(seat) == [("letterbox", "next")]
    assert await world.steps(broken) == ["dispatched"]
    assert [stored.message.message_id for stored in await world.journal.open_messages()] == []
