"""A pane of ours: where it is, who may type into it now, and whether its program is still the one that we started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mosaic_framework.manifest import Manifest

from mosaic_hostagent.processes import foreground_names, has_terminal
from mosaic_hostagent.terminal import gate, keys
from mosaic_hostagent.terminal.driving import Driving
from mosaic_hostagent.terminal.evidence import Snapshot
from mosaic_hostagent.terminal.problems import TmuxRefused
from mosaic_hostagent.terminal.screen import look
from mosaic_hostagent.terminal.server import TmuxServer
from mosaic_hostagent.waiting import wait_at_most

GONE = "its terminal is gone"
_FIRST_LOOK, _LAST_LOOK = 0.002, 0.05


class NotNow(Exception):
    """The pane may not be typed into at the moment; nothing was typed. The reason is for a person."""


@dataclass(slots=True)
class Pane:
    """A pane of ours, and the lock that one delivery at a time holds on it. `pid`: what we started in it."""

    server: TmuxServer
    pane_id: str
    seat: str
    """the agent's id, under which the server remembers what was typed"""
    pid: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    moment: asyncio.Lock = field(default_factory=asyncio.Lock)
    """held from our last look to our key, and while a person's keys go in"""
    driving: Driving = field(default_factory=Driving)
    """a person's own keys: the seat's, across its runs"""
    draft: tuple[str, float] = ("", 0.0)
    """the draft that was seen last, and since when it has not changed"""

    async def press(self, *pressed: str, seen: Snapshot, at_rest: bool = True, cursor: bool = True) -> bool:
        """Press keys of ours if the pane is still as `seen`; say whether. `cursor`: its cursor has not moved.

        `at_rest`: only if no key of a person, and nothing else, is still on its way to the program.
        """
        async with self.moment:
            if at_rest and (self.person_types or keys.unread(seen.tty)):
                return False
            return await keys.press(self.server, self.pane_id, pressed, seen=seen, cursor=cursor, person=at_rest)

    @property
    def person_types(self) -> bool:
        """Whether a person's keys may not be drawn yet."""
        return self.driving.types(time.monotonic())

    async def look(self) -> Snapshot:
        """Return the pane as it is now. Raises TmuxRefused when it is gone."""
        return await look(self.server, self.pane_id)

    async def look_first(self) -> Snapshot:
        """Return the pane as it is now. Raises NotNow when it is gone."""
        try:
            return await self.look()
        except TmuxRefused as refused:
            raise NotNow(GONE) from refused

    async def until(
        self, proven: Callable[[Snapshot], bool], first: Snapshot, seconds: float, *, wake: asyncio.Event | None = None
    ) -> Snapshot | None:
        """Look until `proven` holds and return that look; None after `seconds`, or when the program has ended.

        tmux tells nobody but a session's own clients of output: looking is the event. `wake` makes it look at once.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        delay, now = _FIRST_LOOK, first
        while not proven(now):
            if now.dead or loop.time() >= deadline:
                return None
            if wake is None or wake.is_set():
                await asyncio.sleep(delay)
            else:
                await wait_at_most(wake, delay)
            delay = min(delay * 2, _LAST_LOOK)
            now = await self.look()
        return now

    async def usurper(self, seen: Snapshot, manifest: Manifest) -> str:
        """Return what stands where our program should, or "" when it is ours that reads what is typed."""
        if seen.pid != self.pid:
            return "another program has taken its place in the terminal"
        if manifest.composer.kind == "line":
            return "" if await has_terminal(self.pid) else f"it runs {seen.command}"
        if gate.is_shell(seen.command) and all(map(gate.is_shell, await foreground_names(self.pid))):
            return f"its program is gone, and a bare shell ({seen.command}) is left in its terminal"
        return ""
