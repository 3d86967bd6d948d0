"""A text arrives as it was sent, byte for byte, after the stated normalisation, between preamble and trailer."""

from __future__ import annotations

import random

import pytest
from mosaic_framework.typed_text import left_out, normalise

from tests.integration.hostagent.test_when_it_is_typed import Seat
from tests.support.hostagent import World
from tests.support.standins import read_log

SHAPES = {
    "one byte": "x",
    "quotes": '"double" \'single\' `back` \\"both\\"',
    "substitutions": "$(id) ${HOME} $HOME #{pid} #(id) %1 !! ~ {a,b} [a-z]*",
    "semicolon": "echo a; echo b ;",
    "tmux words": "a ; kill-server \\; }\n{\n#[fg=red]",
    "tabs": "\ta\tb\t\tc\t.",
    "lines": "one\n\n\ntwo\n  three\n\tfour",
    "emoji": "👍🏽 👨‍👩‍👧‍👦 🇩🇪 ✈️ e\u0301 \U0001f9ca",
    "right to left": "שלום עולם مرحبا بالعالم a \u202ertl\u202c b",
    "wide": "你好世界" * 40,
    "spaces": "  two  spaces   three  ",
    "escapes as text": "\\x1b[201~ \\n \\e ^[ ^C",
    "no-break and zero width": "a\u00a0b\u200bc\ufeffd",
}


async def test_every_shape_arrives_as_it_was_sent(world: World) -> None:
    seat = await Seat.of(world)
    for body in SHAPES.values():
        await world.ended(await seat.send(body))
    assert seat.took() == list(SHAPES.values())


@pytest.mark.parametrize("collapse", [False, True])
async def test_every_size_up_to_256_kib_arrives_as_it_was_sent(world: World, collapse: bool) -> None:
    standin = "collapses-long-pastes" if collapse else "echoes-at-once"
    seat = await Seat.of(world, standin)
    chance = random.Random(1)
    bodies = [
        "".join(chance.choices("abcdefghij ;$'\"\\\t\nä你🦊", k=size))[:size].strip() + "."
        for size in (2, 200, 1023, 4095, 4096, 5000, 65_536)
    ]
    bodies.append("0123456789abcde\n" * (256 * 1024 // 16 - 1) + "0123456789abcdef")
    assert len(bodies[-1].encode()) == 256 * 1024
    for body in bodies:
        await world.ended(await seat.send(body, seconds=60), seconds=60)
    assert [len(text) for text in seat.took()] == list(map(len, bodies))
    assert seat.took() == bodies


async def test_what_no_terminal_can_take_is_left_out_and_said(world: World) -> None:
    seat = await Seat.of(world)
    body = "a\x00b\x1b[201~\x03c\x7f\x9b31m\r\nd\re\u2028f\n\n"
    await world.ended(await seat.send(body))
    assert seat.took() == [normalise(body)] == ["ab[201~c31m\nd\ne\nf"]
    assert left_out(body) == (
        "1 times U+0000, 1 times U+001B (escape), 1 times U+0003 (Ctrl-C), 1 times U+007F (delete), 1 times U+009B"
    )
    assert left_out("plain\ttext\r\n") == ""


async def test_no_shape_presses_a_key_runs_or_ends_anything(world: World) -> None:
    seat = await Seat.of(world, "opens-a-picker", bang=True, slash=True, leaves=True)
    for body in ("!id", "/help", "exit", "quit", "mail @you", "\x03\x03", "\x04"):
        await world.ended(await seat.send(body))
    assert {event["event"] for event in read_log(seat.log)} <= {"took", "started", "ended"}
