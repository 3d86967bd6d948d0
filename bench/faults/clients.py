"""A client that does as the product tells its own to: it repeats what it got no answer to, under the same request id,
and moves to the next replica.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio
from mosaic_framework import wire
from mosaic_framework.errors import Internal
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id

from bench.faults.history import FAIL, OK, Run, Write

CALL_SECONDS = 2.5
REPEATED = 0.2
"""How often a client asks again though it had an answer: it must get the same one."""
_DIALS_AGAIN_MS = 300
_CONNECT_MS = 2_000
"""How long gRPC lets one try to connect take, whatever its option is called."""
# Nobody can say whether it was carried out, or it was not but may be later.
_UNSURE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

Reply = TypeVar("Reply")


def open_channel(identity: StoredIdentity, address: str) -> grpc.aio.Channel:
    """Open a channel that dials anew soon after it was cut off, and shares no connection with another."""
    options = [
        *wire.client_options(),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", _DIALS_AGAIN_MS),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", 2 * _DIALS_AGAIN_MS),
    ]
    credentials = grpc.ssl_channel_credentials(identity.bundle_pem, identity.key_pem, identity.certificate_pem)
    return grpc.aio.secure_channel(address, credentials, options=options)


class Client:
    """One client. What it asks and hears goes into `run`. It gives up when `over` is set."""

    def __init__(
        self, name: str, identity: StoredIdentity, addresses: list[str], run: Run, chance: random.Random
    ) -> None:
        self.name, self.chance, self.run = name, chance, run
        self.over = asyncio.Event()
        self._identity = identity
        self._addresses = chance.sample(addresses, len(addresses))
        self._channel: grpc.aio.Channel | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        """The one to the replica that it uses now."""
        if self._channel is None:
            self._channel = open_channel(self._identity, self._addresses[0])
        return self._channel

    async def move(self) -> None:
        """Use the next replica from now on."""
        await self.close()
        self._addresses.append(self._addresses.pop(0))

    async def close(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    def begin(self, kind: str, subject: str) -> Write:
        """Note a write that is asked for now, under a request id of its own."""
        write = Write(str(new_id()), kind, subject, self.name, time.monotonic())
        self.run.writes.append(write)
        return write

    async def write(
        self, write: Write, ask: Callable[[grpc.aio.Channel], Awaitable[Reply]], told: Callable[[Reply], str]
    ) -> tuple[Reply, float] | None:
        """Ask until there is an answer, and return it with the time at which it was asked for; None: refused, or
        given up.

        `told`: what of an answer must be the same each time.
        """
        while True:
            asked = time.monotonic()
            write.attempts += 1
            try:
                reply = await asyncio.wait_for(ask(self.channel), CALL_SECONDS)
            except (grpc.aio.AioRpcError, asyncio.CancelledError, TimeoutError) as error:
                if not await self.goes_on(write, error):
                    return None
                continue
            write.ended = time.monotonic()
            write.outcome = OK
            write.answers.append(told(reply))
            if len(write.answers) == 1 and self.chance.random() < REPEATED:
                await self._ask_again(write, ask, told)
            return reply, asked

    async def goes_on(self, write: Write, error: BaseException) -> bool:
        """Note how a try failed; whether to try again."""
        if (
            isinstance(error, asyncio.CancelledError)
            and (task := asyncio.current_task()) is not None
            and task.cancelling()
        ):
            raise error
        write.ended = time.monotonic()
        write.error = str(error.code()) if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
        if isinstance(error, grpc.aio.AioRpcError):
            if (failed := wire.error_from_rpc(error)).code == Internal.code:  # gRPC itself has that status, too
                self.run.internal.append(f"{write.kind} {write.subject}: {failed.what} {failed.why}")
            if error.code() not in _UNSURE:
                write.error += f" {error.details()}"
                if write.attempts == 1:
                    write.outcome = FAIL
                return False
        await self.move()
        if self.over.is_set():
            return False
        await asyncio.sleep(self.chance.uniform(0.05, 0.2))
        return True

    async def _ask_again(
        self, write: Write, ask: Callable[[grpc.aio.Channel], Awaitable[Reply]], told: Callable[[Reply], str]
    ) -> None:
        if self.chance.random() < 0.5:
            await self.move()
        try:
            write.answers.append(told(await asyncio.wait_for(ask(self.channel), CALL_SECONDS)))
        except (grpc.aio.AioRpcError, TimeoutError):
            await self.move()
