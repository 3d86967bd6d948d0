"""One thing at a time at a tmux server: a control client attaches, or anything else that its clients are told of.

A server of tmux before 3.7 crashes, and every agent in it dies, when it has a word for its control clients (a session
began or ended, a client left, a buffer changed) while one of them has said that it is one and not yet all the rest
(https://github.com/tmux/tmux/pull/4980). A client says it in several writes, so that moment is as long as the machine
is busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Attaching:
    """Who does what at one server. Both are had in the order in which they were asked for."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._others = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """For as long as a control client attaches: nothing else is done at the server."""
        async with self._turn:
            await self._quiet.wait()
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
