"""Gathering: what is asked while one call is under way goes into the next one, all together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

MOST_AT_ONCE = 256


class Gatherer(Generic[Asked, Answer]):
    """One call at a time of `carry_out`, which answers all that it is given, in order.

    `apart`: what must not be in one call twice; the second one waits for the next call. What fails, fails for all.
    """

    def __init__(
        self,
        carry_out: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]],
        *,
        apart: Callable[[Asked], Hashable],
        weight: Callable[[Asked], int] = lambda _asked: 1,
        most: int = MOST_AT_ONCE,
    ) -> None:
        self._carry_out = carry_out
        self._apart = apart
        self._weight = weight
        self._most = most
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._runner: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._runner is None

    async def ask(self, asked: Asked) -> Answer:
        """Return the answer. A caller that is cancelled before its call begins asks nothing."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._next()
                if not batch:
                    continue
                call = asyncio.create_task(self._whole(batch))
                try:
                    await asyncio.wait([call])
                except asyncio.CancelledError:  # the loop ends: nobody will answer these
                    call.cancel()
                    for _, future in batch:
                        future.cancel()
                    raise
                _answer(batch, call)
                # Who is answered now asks again at once: give them the time to, so that they are gathered too.
                await asyncio.sleep(0)
        finally:
            self._runner = None
            for _, future in self._waiting:  # only when this task is cancelled
                future.cancel()
            self._waiting.clear()

    async def _whole(self, batch: Sequence[tuple[Asked, asyncio.Future[Answer]]]) -> Sequence[Answer]:
        return await self._carry_out([asked for asked, _ in batch])

    def _next(self) -> list[tuple[Asked, asyncio.Future[Answer]]]:
        batch: list[tuple[Asked, asyncio.Future[Answer]]] = []
        later: list[tuple[Asked, asyncio.Future[Answer]]] = []
        taken: set[Hashable] = set()
        room = self._most
        for asked, future in self._waiting:
            if future.done():
                continue
            key = self._apart(asked)
            if key in taken or room <= 0:
                later.append((asked, future))
                continue
            taken.add(key)
            room -= self._weight(asked)
            batch.append((asked, future))
        self._waiting = later
        return batch


def _answer(batch: Sequence[tuple[Asked, asyncio.Future[Answer]]], call: asyncio.Future[Sequence[Answer]]) -> None:
    error = call.exception()
    answers = [] if error is not None else call.result()
    for index, (_, future) in enumerate(batch):
        if future.done():  # its caller has gone
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answers[index])
