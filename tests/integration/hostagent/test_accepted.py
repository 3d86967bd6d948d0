"""What a runtime says itself: only the exact preamble of a message in flight on its run makes it accepted."""

from __future__ import annotations

from mosaic_hostagent.terminal.text import preamble

from tests.integration.hostagent.test_when_it_is_typed import Seat
from tests.support.hostagent import World, eventually


async def accept(seat: Seat, prompt: str, *, run_id: str = "") -> None:
    await seat.world.mailroom.prompt_accepted(seat.seat.agent_id, run_id or seat.run_id, prompt, "hook")


async def test_a_runtimes_word_raises_a_message_and_says_where_it_is_from(world: World) -> None:
    seat = await Seat.of(world)
    message_id = await seat.send("hello")
    await world.ended(message_id)
    await accept(seat, f"{preamble('anna', 'a', message_id)} hello")
    await accept(seat, f"{preamble('anna', 'a', message_id)} hello")
    await world.mailroom.turn_started(seat.seat.agent_id, seat.run_id, "hook")
    await world.mailroom.turn_ended(seat.seat.agent_id, seat.run_id, "hook")
    assert await world.steps(message_id) == [
        "dispatched", "typed", "submitted", "accepted", "turn_started", "turn_ended",
    ]  # fmt: skip
    sources = [event.step.evidence.source for event in await world.events() if event.step.message_id == message_id]
    assert sources == ["journal", "screen", "screen", "hook", "hook", "hook"]


async def test_nothing_but_the_exact_preamble_at_the_beginning_of_a_line_is_taken_for_it(world: World) -> None:
    seat = await Seat.of(world)
    message_id = await seat.send("hello")
    await world.ended(message_id)
    head = preamble("anna", "a", message_id)
    for prompt in (
        "hello",
        f"> {head} hello",
        f"he said {head} hello",
        f"{preamble('bob', 'a', message_id)} hello",
        f"{preamble('anna', 'b', message_id)} hello",
        f"{head[:-3]}] hello",
        "",
    ):
        await accept(seat, prompt)
    await accept(seat, f"{head} hello", run_id="another-run")
    assert (await world.steps(message_id))[-1] == "submitted"


async def test_several_messages_merged_into_one_prompt_are_all_accepted(world: World) -> None:
    seat = await Seat.of(world)
    ids = [await seat.send(f"number {number}") for number in range(3)]
    for message_id in ids:
        await world.ended(message_id)
    await accept(seat, "\n".join(f"{preamble('anna', 'a', message_id)} x" for message_id in ids))
    for message_id in ids:
        assert (await world.steps(message_id))[-1] == "accepted"


async def test_a_word_that_comes_before_the_screen_shows_it_ends_the_looking(world: World) -> None:
    seat = await Seat.of(world, silent=True)  # nothing of it will ever be seen
    message_id = await seat.send("hello")
    await eventually(lambda: any("stalled" in told for told in world.waits.get(message_id, [])), "it stalls")
    await accept(seat, f"{preamble('anna', 'a', message_id)} hello")
    await eventually(lambda: world.mailroom._boxes[seat.seat.agent_id].worker is None, "the delivery is over")
    assert (await world.steps(message_id))[-1] == "accepted"


async def test_later_evidence_settles_a_message_that_was_unknown_also_after_a_restart(world: World) -> None:
    seat = await Seat.of(world)
    message_id = await seat.send("hello")
    await world.ended(message_id)
    run_id = seat.run_id
    await world.restart()
    world.start()
    world.add(seat.seat)
    await world.available("a")
    assert seat.run_id == run_id
    await accept(seat, f"{preamble('anna', 'a', message_id)} hello")
    assert (await world.steps(message_id))[-1] == "accepted"


async def test_a_seat_says_how_much_its_run_can_tell_only_once_that_is_known(world: World) -> None:
    seat = await Seat.of(world)
    resident = world.resident("a")
    assert resident.strongest_step == "submitted"
    await accept(seat, "anything")
    assert resident.strongest_step == "turn_ended"
