"""What a tmux server remembers of the messages typed into its seats, whatever the journal says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mosaic_framework.manifest import Manifest
from mosaic_hostagent.seats import Session
from mosaic_hostagent.terminal import memory
from mosaic_hostagent.terminal.deliver import NotNow, Order, Pane, deliver
from mosaic_hostagent.terminal.gate import obstacle
from mosaic_hostagent.terminal.memory import remembering, typed_before
from mosaic_hostagent.terminal.screen import look, read_text
from mosaic_hostagent.terminal.server import Launch, TmuxServer
from mosaic_hostagent.terminal.text import compose


@dataclass
class Ledger:
    """Remembers what it is told; `at_typing` runs between that word and the paste."""

    said: list[str] = field(default_factory=list)
    at_typing: Callable[[], Awaitable[None]] | None = None

    async def typing(self) -> None:
        self.said.append("typing")
        if self.at_typing is not None:
            await self.at_typing()

    async def untyped(self) -> None:
        self.said.append("untyped")

    async def typed(self, detail: str) -> None:
        self.said.append("typed")

    async def typed_and_entering(self, detail: str) -> None:
        self.said.append("entering")

    async def submitted(self, detail: str) -> None:
        self.said.append("submitted")

    async def accepted(self) -> None:
        self.said.append("accepted")

    def stalled(self, reason: str) -> None:
        self.said.append(f"stalled: {reason}")

    async def unknown(self, reason: str) -> None:
        self.said.append(f"unknown: {reason}")


class Shell:
    """A seat with a shell in it."""

    def __init__(self, server: TmuxServer, manifest: Manifest, folder: Path) -> None:
        self.server, self.manifest, self.folder = server, manifest, folder
        self.session: Session | None = None

    async def start(self) -> None:
        argv = ("bash", "--norc", "--noprofile")
        launch = Launch("a1", "x", f"r{id(object())}", 1, 0, "d", argv, {"PS1": "$ "}, self.folder)
        self.session = await self.server.start(launch)

    async def _at_its_prompt(self) -> None:
        while obstacle(await look(self.server, self.pane.pane_id), self.manifest):
            await asyncio.sleep(0.01)

    @property
    def pane(self) -> Pane:
        assert self.session is not None
        return Pane(self.server, self.session.pane_id, "a1", self.session.pid)

    async def type(self, message_id: str, body: str, ledger: Ledger | None = None) -> list[str]:
        ledger = ledger or Ledger()
        await self._at_its_prompt()  # a mailroom waits for it, too
        text = compose(body, self.manifest, sender="anna", recipient="x", message_id=message_id, sender_is_person=True)
        order = Order(message_id, text, [], asyncio.get_running_loop().time() + 5)
        await deliver(self.pane, self.manifest, order, ledger)
        return ledger.said


@pytest.fixture
async def shell(server: TmuxServer, manifest: Callable[[str], Manifest], tmp_path: Path) -> Shell:
    made = Shell(server, manifest("shell"), tmp_path)
    await made.start()
    return made


async def test_an_id_that_was_typed_is_never_typed_again_and_is_unknown(shell: Shell, tmp_path: Path) -> None:
    assert (await shell.type("m1", "echo x >> out"))[-1] == "submitted"
    again = await shell.type("m1", "echo x >> out")
    assert again[0] == "typing"  # a step of its own in the journal: nothing that may be typed is unsure
    assert again[1].startswith("unknown: its terminal remembers")
    assert (await shell.type("m2", "echo y >> out"))[-1] == "submitted"
    while (tmp_path / "out").read_text() != "x\ny\n":
        await asyncio.sleep(0.01)
    assert (await read_text(shell.server, shell.pane.pane_id, scrollback=50)).count("echo x") == 1


async def test_it_is_remembered_past_the_end_of_the_seats_session(shell: Shell) -> None:
    assert (await shell.type("m1", "true"))[-1] == "submitted"
    assert shell.session is not None
    await shell.server.kill(shell.session)
    await shell.start()
    assert (await shell.type("m1", "true"))[1].startswith("unknown")


async def test_each_seat_has_a_memory_of_its_own(shell: Shell) -> None:
    await shell.type("m1", "true")
    assert list(await typed_before(shell.server, "a1")) == ["m1"]
    assert list(await typed_before(shell.server, "a2")) == []


async def test_a_message_whose_paste_was_refused_may_be_typed_later(shell: Shell) -> None:
    await shell.type("m1", "true")

    async def pane_goes() -> None:
        assert shell.session is not None
        await shell.server.kill(shell.session)

    ledger = Ledger(at_typing=pane_goes)
    with pytest.raises(NotNow):
        await shell.type("m2", "true", ledger)
    assert ledger.said == ["typing", "untyped"]
    assert list(await typed_before(shell.server, "a1")) == ["m1"]
    await shell.start()
    assert (await shell.type("m2", "true"))[-1] == "submitted"


async def test_a_message_whose_text_is_taken_from_tmux_before_it_is_pasted_may_be_typed_later(shell: Shell) -> None:
    await shell.type("m1", "true")
    await shell.server.run(["set-hook", "-g", "after-set-buffer", "delete-buffer -b mosaic-m2-0"])
    with pytest.raises(NotNow, match="no buffer"):
        await shell.type("m2", "true")
    assert list(await typed_before(shell.server, "a1")) == ["m1"]
    await shell.server.run(["set-hook", "-gu", "after-set-buffer"])
    assert (await shell.type("m2", "true"))[-1] == "submitted"


async def test_the_memory_is_bounded_and_loses_the_oldest(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT", 3)
    for number in range(20):
        known = await typed_before(shell.server, "a1")
        assert number < 3 or len(known) >= 3
        assert len(known) <= 6
        await shell.server.run(remembering(shell.server, "a1", known, f"m{number}"))
    known = await typed_before(shell.server, "a1")
    assert known == [f"m{number}" for number in range(20 - len(known), 20)]
