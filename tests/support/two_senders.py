"""Two agents on two hosts write to one pane, each from its own pane: in its order, whole, and nothing between.

Each has a connection of its own, to the socket of its own host's host-agent, with the token of its own session.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import grpc
from mosaic_framework import pane
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.wire import error_from_rpc
from mosaic_proto.v1 import common_pb2, messages_pb2, messages_pb2_grpc

from tests.support.mesh import Mesh
from tests.support.pane import inside
from tests.support.standins import command_of, read_log

TARGET = "target"
SENDERS = {"one": "alpha", "two": "beta"}
_OPEN_AT_ONCE = 200


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


async def send_all(mesh: Mesh, each: int) -> dict[str, list[str]]:
    """Let both send `each` messages at once; return the ids of each sender, by address, in the order of sending."""
    sent = await asyncio.gather(*(_send(mesh, agent, each) for agent in SENDERS))
    return {f"{host}/{agent}": ids for (agent, host), ids in zip(SENDERS.items(), sent, strict=True)}


async def _send(mesh: Mesh, agent: str, each: int) -> list[str]:
    environment = await inside(mesh, agent)
    token = ((pane.TOKEN_KEY, environment[pane.TOKEN]),)
    async with grpc.aio.insecure_channel(f"unix:{environment[pane.SOCKET]}") as channel:
        return await _send_from(messages_pb2_grpc.MessageServiceStub(channel), token, agent, each)


async def _send_from(
    messages: messages_pb2_grpc.MessageServiceAsyncStub, token: tuple[tuple[str, str]], agent: str, each: int
) -> list[str]:
    name = f"{SENDERS[agent]}/{agent}"
    sent: list[str] = []
    async with asyncio.TaskGroup() as group:
        room = asyncio.Semaphore(_OPEN_AT_ONCE)

        async def follow(message_id: str) -> None:
            request = messages_pb2.FollowRequest(message_id=message_id, until=messages_pb2.MESSAGE_STEP_SUBMITTED)
            try:
                async for receipt in messages.Follow(request, metadata=token):
                    step = receipt.step
            finally:
                room.release()
            assert step == messages_pb2.MESSAGE_STEP_SUBMITTED, receipt

        for number in range(each):
            await room.acquire()
            message_id = str(new_id())
            request = messages_pb2.SendRequest(request_id=message_id, to=TARGET, body=f"{name} {number}\nand more")
            try:
                reply = await messages.Send(request, metadata=token)
            except grpc.RpcError as error:
                raise _told(error) from error
            sender = reply.receipt.sender
            assert sender.kind == common_pb2.PRINCIPAL_KIND_AGENT, sender
            assert f"{sender.host}/{sender.name}" == name, sender
            sent.append(message_id)
            group.create_task(follow(message_id))
    return sent


def _told(error: grpc.RpcError) -> FleetError:
    return error_from_rpc(error)


def faults(log: Path, sent: dict[str, list[str]]) -> list[str]:
    """Return what is wrong with what the pane got: an order that was not kept, a loss, a double, a mixture."""
    found: list[str] = []
    took = [event["text"] for event in read_log(log) if event["event"] == "took"]
    for name, ids in sent.items():
        head = re.compile(rf"\[{re.escape(name)} → {TARGET} #(\S+)\] {re.escape(name)} (\d+)\nand more")
        mine = [match for text in took if (match := head.fullmatch(text)) is not None]
        if [match[1] for match in mine] != ids:
            found.append(f"{name}: {len(mine)} of {len(ids)} came whole, and not in the order in which they were sent")
    if len(took) != sum(map(len, sent.values())):
        found.append(f"{len(took)} prompts for {sum(map(len, sent.values()))} messages")
    return found
