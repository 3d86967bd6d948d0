"""A tmux client that runs one command line and ends; given up when the server does not answer it."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence

_BUFFER = 64 * 1024


async def run_client(argv: Sequence[str], *, env: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """Return its exit status and what it wrote. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    # As asyncio.create_subprocess_exec does it, which keeps the transport to itself.
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(limit=_BUFFER, loop=loop),
        *argv,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
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
        # It kills what has not ended. Its pipes are not waited for: a server that hangs was given them, too.
        transport.close()
        await process.wait()
