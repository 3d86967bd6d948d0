"""Two senders on two hosts, one pane: what each sent, in its order, whole, and nothing between."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import grpc
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.wire import error_from_rpc
from mosaic_proto.v1 import messages_pb2

from tests.support.mesh import Mesh
from tests.support.standins import command_of, read_log

TARGET = "target"
_OPEN_AT_ONCE = 200


async def two_hosts_and_a_target(mesh: Mesh, log: Path) -> None:
    """Bring up two hosts with an agent each, and the seat that both write to."""
    for host in ("alpha", "beta"):
        await mesh.join(host)
    await mesh.apply(
        {"one": "alpha", "two": "beta", TARGET: "alpha"},
        command={TARGET: command_of("echoes-at-once", log)},
        runtimes={TARGET: "claude"},
    )
    await mesh.until_available(TARGET)


async def send_all(mesh: Mesh, each: int) -> dict[str, list[str]]:
    """Send `each` messages in the name of both, at once; return the ids of each in the order of sending."""
    names = ("alpha/one", "beta/two")
    sent = await asyncio.gather(*(_send(mesh, name, each) for name in names))
    return dict(zip(names, sent, strict=True))


async def _send(mesh: Mesh, name: str, each: int) -> list[str]:
    sent: list[str] = []
    async with asyncio.TaskGroup() as group:
        room = asyncio.Semaphore(_OPEN_AT_ONCE)

        async def follow(message_id: str) -> None:
            request = messages_pb2.FollowRequest(message_id=message_id, until=messages_pb2.MESSAGE_STEP_SUBMITTED)
            try:
                async for receipt in mesh.messages.Follow(request):
                    step = receipt.step
            finally:
                room.release()
            assert step == messages_pb2.MESSAGE_STEP_SUBMITTED, receipt

        for number in range(each):
            await room.acquire()
            message_id = str(new_id())
            request = messages_pb2.SendRequest(request_id=message_id, to=TARGET, body=f"{name} {number}\nand more")
            setattr(request, "from", name)
            try:
                await mesh.messages.Send(request)
            except grpc.RpcError as error:
                raise _told(error) from error
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
