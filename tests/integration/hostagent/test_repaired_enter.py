"""An Enter that was swallowed is pressed again: once, and only where nothing else can be meant by it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.manifest import Sign
from mosaic_hostagent.terminal import deliver as delivery
from mosaic_hostagent.terminal import keys
from mosaic_hostagent.terminal.server import TmuxServer

from tests.support.hostagent import eventually
from tests.support.standins import read_log
from tests.support.typist import Open, Typist, frame, until_shown

NEVER = 1e6
"""a program that is deaf for so many seconds takes no Enter of ours in a test"""
UNSENT = ["typing", "typed and entering", "unknown"]


@pytest.fixture(autouse=True)
def soon_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 0.3)


async def nothing() -> None:
    """Nothing happens."""


def once_read(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[], object], then: Callable[[], Awaitable[None]] = nothing
) -> None:
    """Do `then` when the program has read our first Enter, before anybody looks what became of it."""
    press = keys.press
    pressed: list[bool] = []

    async def press_and_wait(*given: Any, **named: Any) -> bool:
        done = await press(*given, **named)
        if done and not pressed:
            pressed.append(True)
            await eventually(read, "it has read our Enter")
            await then()
        return done

    monkeypatch.setattr(keys, "press", press_and_wait)


def once_swallowed(
    monkeypatch: pytest.MonkeyPatch, typist: Typist, then: Callable[[], Awaitable[None]] = nothing
) -> None:
    """The same of a stand-in that takes no Enter."""
    once_read(monkeypatch, lambda: events(typist, "ignored"), then)


def events(typist: Typist, name: str) -> list[dict[str, Any]]:
    return [event for event in read_log(typist.transcript) if event["event"] == name]


async def enters_of_ours(typist: Typist) -> int:
    """Return how many the program has read: a person's own Enter is behind all of them."""
    await typist.server.run(["send-keys", "-t", typist.session.pane_id, "C-j"])
    await eventually(lambda: [event for event in events(typist, "took") if event["by"] == "person"][-1:], "it is sent")
    return len(events(typist, "ignored"))


async def test_a_swallowed_enter_is_pressed_again_and_only_once(agent: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    typist = await agent(deaf_seconds=NEVER)
    once_swallowed(monkeypatch, typist)
    assert await typist.type("hello") == UNSENT
    assert await enters_of_ours(typist) == 2


async def test_it_is_not_while_the_program_works_because_what_it_asks_next_would_be_approved(
    agent: Open, server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist = await agent(deaf_seconds=NEVER, turn_ms=60_000)
    await server.run(["send-keys", "-t", typist.session.pane_id, "-l", "work"])
    await server.run(["send-keys", "-t", typist.session.pane_id, "C-j"])
    await until_shown(typist, "esc to interrupt")
    once_swallowed(monkeypatch, typist)
    assert await typist.type("hello") == UNSENT
    await server.run(["send-keys", "-t", typist.session.pane_id, "C-j"])
    await eventually(lambda: len(events(typist, "took")) == 2, "a person sends it, after all Enters of ours")
    assert len(events(typist, "ignored")) == 1


async def test_it_is_not_when_nobody_can_say_whether_the_first_one_was_read(
    agent: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist = await agent(deaf_seconds=NEVER)
    once_swallowed(monkeypatch, typist)
    monkeypatch.setattr(keys, "unread", lambda _tty: None)
    assert await typist.type("hello") == UNSENT
    assert await enters_of_ours(typist) == 1


async def test_it_is_not_where_a_persons_key_may_stand_unseen_beside_what_was_typed(
    agent: Open, server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist = await agent(deaf_seconds=NEVER)
    no_end = typist.manifest.composer.model_copy(update={"end": None})
    typist.manifest = typist.manifest.model_copy(update={"composer": no_end})

    async def type_on() -> None:
        await server.run(["send-keys", "-t", typist.session.pane_id, "-l", " not me"])
        await until_shown(typist, "hello not me")

    once_swallowed(monkeypatch, typist, type_on)
    assert await typist.type("hello") == UNSENT
    assert await enters_of_ours(typist) == 1


TAKES_ENTER_UNSEEN = """\
import os, tty
tty.setraw(0)
os.write(1, b"$ ")
while read := os.read(0, 1024):
    with open("keys", "ab") as file:
        file.write(read)
    os.write(1, read.replace(b"\\r", b""))
"""


async def test_it_is_not_at_a_prompt_where_it_may_answer_what_the_command_asks(
    typist: Open, server: TmuxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = await typist(sys.executable, "-c", TAKES_ENTER_UNSEEN)
    read = tmp_path / "keys"
    once_read(monkeypatch, lambda: read.read_bytes().endswith(b"\r"))
    assert await prompt.type("deploy") == UNSENT
    await server.run(["send-keys", "-t", prompt.session.pane_id, "-l", "no"])
    await eventually(lambda: read.read_bytes().endswith(b"no"), "a person answers, behind our Enter")
    assert read.read_bytes() == b"deploy\rno"


async def test_it_is_not_when_a_question_is_up(
    agent: Open, server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist = await agent(deaf_seconds=NEVER)
    asks = Sign(pattern="^may I\\?$", where="title")
    signs = typist.manifest.signs.model_copy(update={"waiting": [*typist.manifest.signs.waiting, asks]})
    typist.manifest = typist.manifest.model_copy(update={"signs": signs})

    async def ask() -> None:
        await server.run(["select-pane", "-t", typist.session.pane_id, "-T", "may I?"])

    once_swallowed(monkeypatch, typist, ask)
    assert await typist.type("hello") == UNSENT
    assert await enters_of_ours(typist) == 1


async def test_it_is_not_into_what_has_taken_the_place_of_the_program(
    agent: Open, server: TmuxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist = await agent(deaf_seconds=NEVER)
    order = typist.order("hello")

    async def replace() -> None:
        another = f"stty -echo; {frame(order.typing.whole)}; exec head -n 1 > first"
        await server.run(["respawn-pane", "-k", "-t", typist.session.pane_id, another])
        await until_shown(typist, "shortcuts")

    once_swallowed(monkeypatch, typist, replace)
    typist.number -= 1  # the same one again
    assert await typist.type("hello") == UNSENT
    await server.run(["send-keys", "-t", typist.session.pane_id, "-l", "typed by hand"])
    await server.run(["send-keys", "-t", typist.session.pane_id, "Enter"])
    first = tmp_path / "first"
    await eventually(lambda: first.exists() and first.read_text(), "it has read a line")
    assert first.read_text() == "typed by hand\n"
