"""Clients that send messages: through the API, and by the `mosaic` command, which is killed now and then."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from contextlib import suppress

from mosaic_framework.ids import new_id
from mosaic_proto.v1 import messages_pb2, messages_pb2_grpc

from bench.faults.clients import Client
from bench.faults.history import OK, UNKNOWN, Run, Sent
from bench.faults.site import Site

PAUSE_SECONDS = (0.1, 0.5)
_KILLED_AFTER = (0.1, 0.8)
_COMMAND_SECONDS = 8.0


def _text(site: Site, agent: str, mark: str) -> str:
    return f"echo {mark} >> {site.marks(agent)}"


async def send_messages(site: Site, client: Client) -> None:
    """Send one after another, each to an agent picked at random, until the client's run is over."""
    agents = sorted(site.agents)
    while not client.over.is_set():
        agent, mark = client.chance.choice(agents), new_id().hex
        write = client.begin("send", agent)
        request = messages_pb2.SendRequest(request_id=write.request_id, to=agent, body=_text(site, agent, mark))
        try:
            await client.write(
                write,
                lambda channel, request=request: messages_pb2_grpc.MessageServiceStub(channel).Send(request),
                lambda reply: f"{reply.receipt.message_id} {reply.receipt.seat_seq}",
            )
        finally:
            client.run.sent.append(Sent(write.request_id, agent, mark, write.outcome))
        await asyncio.sleep(client.chance.uniform(*PAUSE_SECONDS))


async def type_commands(site: Site, run: Run, chance: random.Random, over: asyncio.Event) -> None:
    """`mosaic agent send`, killed in the middle half of the time, and then typed again under the same id."""
    agents = sorted(site.agents)
    while not over.is_set():
        agent, mark, message_id = chance.choice(agents), new_id().hex, str(new_id())
        done = None
        try:
            if chance.random() < 0.5:
                done = await _command(site, agent, mark, message_id, killed_after=chance.uniform(*_KILLED_AFTER))
            if done is None:
                done = await _command(site, agent, mark, message_id, killed_after=_COMMAND_SECONDS)
        finally:
            run.sent.append(Sent(message_id, agent, mark, done or UNKNOWN))
        await asyncio.sleep(chance.uniform(0.5, 1.5))


async def _command(site: Site, agent: str, mark: str, message_id: str, *, killed_after: float) -> str | None:
    """Run it; None when it was killed. Its own failures say nothing of whether the message is on its way."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mosaic_cli.main",
        *("agent", "send", agent, "-m", _text(site, agent, mark), "--id", message_id, "--timeout", "5"),
        env={**os.environ, "MOSAIC_HOME": str(site.folder / "cli")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        code = await asyncio.wait_for(process.wait(), killed_after)
    except TimeoutError:
        with suppress(ProcessLookupError):  # it ended in this very moment
            process.kill()
        await process.wait()
        return None
    return OK if code == 0 else UNKNOWN
