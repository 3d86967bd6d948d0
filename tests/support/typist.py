"""One pane and what types into it: the deliveries of a host-agent, without the rest of it."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from mosaic_framework.manifest import Manifest
from mosaic_hostagent.seats import Session
from mosaic_hostagent.terminal.deliver import Order, deliver
from mosaic_hostagent.terminal.gate import obstacle
from mosaic_hostagent.terminal.pane import Pane
from mosaic_hostagent.terminal.screen import look, read_text
from mosaic_hostagent.terminal.server import TmuxServer
from mosaic_hostagent.terminal.text import compose

from tests.support.standins import read_log


@dataclass
class Ledger:
    """Remembers what it is told."""

    said: list[str] = field(default_factory=list)
    stalls: list[str] = field(default_factory=list)
    on: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)

    async def _say(self, what: str) -> None:
        self.said.append(what)
        if (act := self.on.get(what)) is not None:
            await act()

    async def typing(self) -> None:
        await self._say("typing")

    async def untyped(self) -> None:
        await self._say("untyped")

    async def typed(self, detail: str) -> None:
        await self._say("typed")

    async def typed_and_entering(self, detail: str) -> None:
        await self._say("typed and entering")

    async def submitted(self, detail: str) -> None:
        await self._say("submitted")

    async def accepted(self) -> None:
        await self._say("accepted")

    async def unknown(self, reason: str) -> None:
        await self._say("unknown")

    def stalled(self, reason: str) -> None:
        self.stalls.append(reason)


DONE = ["typing", "typed and entering", "submitted"]


@dataclass
class Typist:
    """One pane and the manifest of what runs in it."""

    server: TmuxServer
    session: Session
    manifest: Manifest
    transcript: Path
    number: int = 0

    @property
    def pane(self) -> Pane:
        return Pane(self.server, self.session.pane_id, "agent-1", self.session.pid)

    async def ready(self) -> None:
        for _ in range(1000):
            if not obstacle(await look(self.server, self.session.pane_id), self.manifest):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(await read_text(self.server, self.session.pane_id, scrollback=10))

    def order(self, body: str, *, leftovers: list[str] | None = None, enter_within: float = 5.0) -> Order:
        self.number += 1
        text = compose(
            body, self.manifest, sender="anna", recipient="x", message_id=f"m{self.number}", sender_is_person=True
        )
        return Order(f"m{self.number}", text, leftovers or [], asyncio.get_running_loop().time() + enter_within)

    async def type(self, body: str, **settings: object) -> list[str]:
        ledger = Ledger()
        await deliver(self.pane, self.manifest, self.order(body, **settings), ledger)  # type: ignore[arg-type]
        return ledger.said

    def entered(self) -> list[str]:
        return [event["text"] for event in read_log(self.transcript) if event["event"] == "took"]

    async def screen(self) -> str:
        return await read_text(self.server, self.session.pane_id, scrollback=200)


Open = Callable[..., Awaitable[Typist]]


async def kill(typist: Typist) -> None:
    """Let its program die; returns when tmux has seen it."""
    os.kill(typist.session.pid, signal.SIGKILL)
    while (await typist.server.observe()).sessions[0].alive:
        await asyncio.sleep(0.005)


async def until_shown(typist: Typist, words: str) -> None:
    async with asyncio.timeout(10):
        while words not in await typist.screen():
            await asyncio.sleep(0.01)


def frame(text: str = "") -> str:
    """Return a program that leaves a box composer with `text` on its screen."""
    rows = ["─" * 60, f"\u276f {text}", "─" * 60, "  ? for shortcuts", ""]
    return f"printf '%s\\n' {' '.join(map(shlex.quote, rows))}"
