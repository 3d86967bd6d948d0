"""One thing at a time at a tmux server: a control client attaches, or anything else that its clients are told of.

A server of tmux before 3.7 crashes, and every agent in it dies, when it has a word for its control clients (a session
began or ended, a client left, a buffer changed) while one of them has said that it is one and not yet all the rest
(https://github.com/tmux/tmux/pull/4980). A client says it in several writes, so that moment is as long as the machine
is busy.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mosaic_hostagent.terminal import turn
from mosaic_hostagent.terminal.problems import TerminalLost


class Attaching:
    """Who does what at one server. Both are had in the order in which they were asked for.

    `turn_path` names the file by which the processes of seats' units wait for us, and we for them.
    """

    def __init__(self, turn_path: Callable[[], str]) -> None:
        self._turn_path = turn_path
        self._turn = asyncio.Lock()
        self._others = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """For as long as a control client attaches: nothing else is done at the server. Raises TerminalLost."""
        async with self._turn:
            await self._quiet.wait()
            async with self._turn_among_processes():
                yield

    @asynccontextmanager
    async def others(self) -> AsyncIterator[None]:
        """While the server may have a word for its control clients: none attaches, many of these go on at once."""
        async with self._turn:
            self._others += 1
            self._quiet.clear()
        try:
            yield
        finally:
            self._others -= 1
            if not self._others:
                self._quiet.set()

    @asynccontextmanager
    async def _turn_among_processes(self) -> AsyncIterator[None]:
        path, loop = self._turn_path(), asyncio.get_running_loop()
        deadline = loop.time() + turn.SECONDS
        handles = []
        try:
            for lock in (turn.wanted(path), path):
                # Looked at again and again: who waits in flock itself is woken, but cannot give up in time.
                while (handle := _take(lock)) < 0 and loop.time() < deadline:  # noqa: ASYNC110
                    await asyncio.sleep(turn.PAUSE)
                handles.append(handle)
            yield
        finally:
            for handle in handles:
                if handle >= 0:
                    os.close(handle)


def _take(lock: str) -> int:
    try:
        return turn.take(lock)
    except OSError as error:
        raise TerminalLost("nobody can say whose turn at the tmux server it is", why=str(error)) from error
