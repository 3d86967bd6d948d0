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

    `apart`: what must not be in one call twice; the second one waits for the next call. What fails, fails for all of a call.
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
                try:
                    answers = await self._carry_out([asked for asked, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                except BaseException:  # the loop ends: nobody will answer these
                    for _, future in batch:
                        future.cancel()
                    raise
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
                # Who is answered now asks again at once: give them the time to, so that they are gathered too.
                await asyncio.sleep(0)
        finally:
            self._runner = None
            for _, future in self._waiting:  # only when this task is cancelled
                future.cancel()
            self._waiting.clear()

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
