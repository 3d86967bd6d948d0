"""The beginning of a stream between clusters: what the one that asks says first, and goes on saying."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from mosaic_framework import protocol
from mosaic_framework.errors import InvalidInput, Unfinished
from mosaic_proto.v1 import federation_pb2 as pb

GREETING_SECONDS = 30.0
MOST_KNOWN = 2_000_000
"""The most rows that a peer may say it has: more is begun anew."""

IDS_A_FRAME = 50_000
_ID_BYTES = 16
KINDS = ("agent", "host")


@dataclass(slots=True)
class Greeting:
    """What a peer says of itself: whence to go on (`cursor`), the kinds it knows, the rows that it has."""

    cursor: str = ""
    version: str = ""
    kinds: frozenset[str] = frozenset(KINDS)
    known: dict[str, set[UUID]] = field(default_factory=dict)


async def greeted(ups: AsyncIterator[pb.ExchangeUp], *, name: str) -> Greeting:
    """Return what a peer says until it is ready. Raises InvalidInput, ProtocolMismatch, Unfinished."""
    greeting = Greeting()
    try:
        async with asyncio.timeout(GREETING_SECONDS):
            first = await anext(ups, None)
            if first is None or first.WhichOneof("up") != "hello":
                raise InvalidInput("this stream does not begin with a hello")
            hello = first.hello
            protocol.agree(hello.protocol, 0, them=f"cluster {name}", us="this cluster")
            greeting.cursor, greeting.version = hello.cursor, hello.version
            greeting.kinds = frozenset(hello.kinds or KINDS)
            async for up in ups:
                if up.WhichOneof("up") == "known":
                    _note(greeting, up.known)
                if up.WhichOneof("up") == "ready":
                    return greeting
    except TimeoutError:
        raise Unfinished(f"cluster {name} did not say within {GREETING_SECONDS:g} s what it has") from None
    raise InvalidInput("this stream ended before it began")


def _note(greeting: Greeting, known: pb.KnownRows) -> None:
    if len(known.ids) % _ID_BYTES:
        raise InvalidInput("the ids of known rows are cut off", why=f"each has {_ID_BYTES} bytes")
    rows = greeting.known.setdefault(known.kind, set()) if known.kind in KINDS else set()
    rows.update(UUID(bytes=known.ids[at : at + _ID_BYTES]) for at in range(0, len(known.ids), _ID_BYTES))
    if sum(map(len, greeting.known.values())) > MOST_KNOWN:
        raise InvalidInput("more rows are said to be known than can be", why=f"the most is {MOST_KNOWN:,}")


@asynccontextmanager
async def listening(
    ups: AsyncIterator[pb.ExchangeUp], take: Callable[[pb.TrustBundle], Awaitable[object]], failed: asyncio.Event
) -> AsyncIterator[asyncio.Task[None]]:
    """Let `take` have every bundle that is still said; `failed` is set when that ends, as the task says why."""

    async def listen() -> None:
        try:
            async for up in ups:
                if up.WhichOneof("up") == "bundle":
                    await take(up.bundle)
        except Exception:
            failed.set()
            raise

    task = asyncio.create_task(listen())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def any_of(*events: asyncio.Event, seconds: float) -> None:
    """Return when one of `events` is set, or after `seconds`."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
