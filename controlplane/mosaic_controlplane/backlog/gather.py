"""Gathering: what is asked while one call is under way goes into the next one, all together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

MOST_AT_ONCE = 256


class Gatherer(Generic[Asked, Answer]):
    """One call at a time of `carry_out`, which answers all that it is given, in order.

    `apart`: what must not be in one call twice; the second one waits for the next call. What fails, fails for all.
    `untold`: called with an answer whose caller was cancelled while its call was under way.
    """

    def __init__(
        self,
        carry_out: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]],
        *,
        apart: Callable[[Asked], Collection[Hashable]],
        weight: Callable[[Asked], int] = lambda _asked: 1,
        most: int = MOST_AT_ONCE,
        untold: Callable[[Asked, Answer], None] = lambda _asked, _answer: None,
    ) -> None:
        self._carry_out = carry_out
        self._apart = apart
        self._weight = weight
        self._most = most
        self._untold = untold
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
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._untold(asked, answer.result())  # answered, and cancelled before it could go on
            raise

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
                self._answer(batch, call)
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
            keys = self._apart(asked)
            if room <= 0 or not taken.isdisjoint(keys):
                later.append((asked, future))
                continue
            taken.update(keys)
            room -= self._weight(asked)
            batch.append((asked, future))
        self._waiting = later
        return batch

    def _answer(
        self, batch: Sequence[tuple[Asked, asyncio.Future[Answer]]], call: asyncio.Future[Sequence[Answer]]
    ) -> None:
        error = call.exception()
        answers = [] if error is not None else call.result()
        for index, (asked, future) in enumerate(batch):
            if future.done():  # its caller has gone
                if error is None:
                    self._untold(asked, answers[index])
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(answers[index])
