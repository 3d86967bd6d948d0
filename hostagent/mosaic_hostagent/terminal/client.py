"""A tmux control client as a process of ours, spoken to by pipes, that can always be ended."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence

DETACH_SECONDS = 2.0
ATTACH_SECONDS = 10.0
_BUFFER = 64 * 1024


class ControlClient:
    """One such process. What it writes is read by its owner, until the end of `stdout`."""

    def __init__(self, process: Process, transport: asyncio.SubprocessTransport) -> None:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the client was started without pipes")
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.pid = process.pid
        self._process = process
        self._transport = transport
        self._first = b""
        self.ended = asyncio.Event()

    @classmethod
    async def start(cls, tmux: Sequence[str], target: str, flags: str, *, env: Mapping[str, str]) -> ControlClient:
        """Attach to a session of the server that the argument vector `tmux` names; return when the server has answered.

        The caller sees to it that the server has no other work (attaching.py). A client that is given up is let go,
        not killed at once: one that dies before it has told the server all about itself takes a server of tmux before
        3.7 with it (https://github.com/tmux/tmux/pull/5004). Raises OSError.
        """
        starting = asyncio.create_task(cls._spawn(tmux, target, flags, env))
        try:
            client = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await (await starting)._give_up()
            raise
        try:
            async with asyncio.timeout(ATTACH_SECONDS):
                client._first = await client.stdout.read(_BUFFER)
        except TimeoutError:
            await client._give_up()
        except asyncio.CancelledError:
            await client._give_up()
            raise
        return client

    @classmethod
    async def _spawn(cls, tmux: Sequence[str], target: str, flags: str, env: Mapping[str, str]) -> ControlClient:
        loop = asyncio.get_running_loop()
        # As asyncio.create_subprocess_exec does it, which keeps the transport to itself.
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(limit=_BUFFER, loop=loop),
            *(*tmux, "-u", "-C", "attach-session", "-t", target, "-f", flags),
            stdin=PIPE,
            stdout=PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(env),
            start_new_session=True,  # a Ctrl-C in a terminal of ours is not for this client
        )
        return cls(Process(transport, protocol, loop), transport)

    async def read(self, size: int) -> bytes:
        """Return what it wrote, about `size` bytes at most; nothing at its end. Raises OSError."""
        first, self._first = self._first, b""
        if not (data := first or await self.stdout.read(size)):
            self.ended.set()
        return data

    async def _give_up(self) -> None:
        await self.end(asyncio.create_task(self._drain(), name="tmux-given-up-reader"))

    async def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while await self.stdout.read(_BUFFER):
                pass

    async def end(self, reader: asyncio.Task[None]) -> None:
        """Detach, and wait for the task that reads; kill a client whose server does not let it go."""
        self.stdin.close()  # a control client without input ends
        try:
            async with asyncio.timeout(DETACH_SECONDS):
                await asyncio.shield(reader)
        except TimeoutError:
            if self._process.returncode is None:
                self._process.kill()
            # The server was given the same pipes: one that hangs holds them open when the client is dead.
            if self.stdin.transport.get_write_buffer_size():
                self.stdin.transport.abort()
            if (pipe := self._transport.get_pipe_transport(1)) is not None:
                pipe.close()
            await reader
        await self._process.wait()
        with contextlib.suppress(OSError):
            await self.stdin.wait_closed()


async def answer_of(command: Sequence[str], *, env: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """Run a tmux command of its own; return its exit status and all that it printed. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(limit=_BUFFER, loop=loop),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(env),
        cwd="/",
        start_new_session=True,
    )
    process = Process(transport, protocol, loop)
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
            return await process.wait(), output.decode(errors="replace")
    finally:
        # Kills it, and closes our end: a server that hangs was given the other end, and holds it open.
        transport.close()
        await process.wait()
