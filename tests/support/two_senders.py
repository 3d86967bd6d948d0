"""Two agents on two hosts write to one pane, each from its own pane: in its order, whole, and nothing between.

Each has a connection of its own, to the socket of its own host's host-agent, with the token of its own session. What a
limit refuses is made again when the refusal says, as `mosaic` does it: it had no effect.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc
from mosaic_framework import pane
from mosaic_framework.errors import LimitReached
from mosaic_framework.ids import new_id
from mosaic_framework.wire import error_from_rpc
from mosaic_proto.v1 import common_pb2, messages_pb2, messages_pb2_grpc

from tests.support.mesh import Mesh
from tests.support.pane import inside
from tests.support.standins import command_of, read_log

TARGET = "target"
SENDERS = {"one": "alpha", "two": "beta"}
_OPEN_AT_ONCE = 200  # more than a host carries of one agent: the limit is met, and waited out
Answer = TypeVar("Answer")


async def two_hosts_and_a_target(mesh: Mesh, log: Path) -> None:
    """Bring up two hosts with an agent each, and the seat that both write to."""
    for host in SENDERS.values():
        await mesh.join(host)
    await mesh.apply(
        {**SENDERS, TARGET: "alpha"},
        classes=dict.fromkeys(SENDERS, "code"),
        command={TARGET: command_of("echoes-at-once", log)},
        runtimes={TARGET: "claude"},
    )
    await mesh.until_available(*SENDERS, TARGET)


@dataclass(frozen=True)
class Sent:
    """What was sent: the ids of each sender, by address, in the order of sending; and what made senders wait."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    waits: Counter[str] = field(default_factory=Counter)
    """code of a limit → how many calls it refused"""


async def send_all(mesh: Mesh, each: int) -> Sent:
    """Let both send `each` messages at once, and follow each until it is submitted."""
    sent = Sent()
    async with asyncio.TaskGroup() as group:
        for agent in SENDERS:
            group.create_task(_send(mesh, agent, each, sent))
    return sent


async def _send(mesh: Mesh, agent: str, each: int, sent: Sent) -> None:
    environment = await inside(mesh, agent)
    token = ((pane.TOKEN_KEY, environment[pane.TOKEN]),)
    async with grpc.aio.insecure_channel(f"unix:{environment[pane.SOCKET]}") as channel:
        await _send_from(messages_pb2_grpc.MessageServiceStub(channel), token, agent, each, sent)


async def _send_from(
    messages: messages_pb2_grpc.MessageServiceAsyncStub,
    token: tuple[tuple[str, str]],
    agent: str,
    each: int,
    sent: Sent,
) -> None:
    name = f"{SENDERS[agent]}/{agent}"
    ids = sent.ids[name] = []
    async with asyncio.TaskGroup() as group:
        room = asyncio.Semaphore(_OPEN_AT_ONCE)

        async def submitted(message_id: str) -> messages_pb2.Receipt:
            request = messages_pb2.FollowRequest(message_id=message_id, until=messages_pb2.MESSAGE_STEP_SUBMITTED)
            receipt = messages_pb2.Receipt()
            async for newer in messages.Follow(request, metadata=token):
                receipt = newer
            return receipt

        async def follow(message_id: str) -> None:
            try:
                receipt = await _patiently(lambda: submitted(message_id), sent.waits)
            finally:
                room.release()
            assert receipt.step == messages_pb2.MESSAGE_STEP_SUBMITTED, receipt

        async def send(body: str) -> messages_pb2.Receipt:
            request = messages_pb2.SendRequest(request_id=str(new_id()), to=TARGET, body=body)

            async def once() -> messages_pb2.SendReply:
                return await messages.Send(request, metadata=token)

            return (await _patiently(once, sent.waits)).receipt

        for number in range(each):
            await room.acquire()
            queued = await send(f"{name} {number}\nand more")
            assert queued.sender.kind == common_pb2.PRINCIPAL_KIND_AGENT, queued
            assert f"{queued.sender.host}/{queued.sender.name}" == name, queued
            ids.append(queued.message_id)
            group.create_task(follow(queued.message_id))


async def _patiently(call: Callable[[], Awaitable[Answer]], waits: Counter[str]) -> Answer:
    """Make a call, and again when a limit says so. Raises what else it fails with."""
    while True:
        try:
            return await call()
        except grpc.RpcError as error:
            told = error_from_rpc(error)
            if not isinstance(told, LimitReached) or told.retry_after is None:
                raise told from error
            waits[told.code] += 1
        await asyncio.sleep(told.retry_after)


def faults(log: Path, sent: Sent) -> list[str]:
    """Return what is wrong with what the pane got: an order that was not kept, a loss, a double, a mixture."""
    found: list[str] = []
    took = [event["text"] for event in read_log(log) if event["event"] == "took"]
    for name, ids in sent.ids.items():
        head = re.compile(rf"\[{re.escape(name)} → {TARGET} #(\S+)\] {re.escape(name)} (\d+)\nand more")
        mine = [match for text in took if (match := head.fullmatch(text)) is not None]
        if [match[1] for match in mine] != ids:
            found.append(f"{name}: {len(mine)} of {len(ids)} came whole, and not in the order in which they were sent")
    messages = sum(map(len, sent.ids.values()))
    if len(took) != messages:
        found.append(f"{len(took)} prompts for {messages} messages")
    return found
