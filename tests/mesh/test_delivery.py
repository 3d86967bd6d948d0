"""Delivery through the whole mesh: order, names, queue, cancel, interrupt, and why a message waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_framework.wire import error_from_rpc
from mosaic_proto.v1 import messages_pb2 as pb

from tests.support.mesh import Mesh
from tests.support.program import Program, eventually
from tests.support.standins import command_of, read_log
from tests.support.two_senders import TARGET, faults, send_all, two_hosts_and_a_target


async def one_seat(mesh: Mesh, log: Path, **does: object) -> None:
    await mesh.join("alpha")
    await mesh.apply(
        {TARGET: "alpha"}, command={TARGET: command_of("echoes-at-once", log, **does)}, runtimes={TARGET: "claude"}
    )
    await mesh.until_available(TARGET)


async def send(mesh: Mesh, body: str, mode: pb.DeliveryMode.ValueType = pb.DELIVERY_MODE_UNSPECIFIED) -> str:
    message_id = str(new_id())
    await mesh.messages.Send(pb.SendRequest(request_id=message_id, to=TARGET, body=body, mode=mode))
    return message_id


async def code_of(call: object) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        await call  # type: ignore[misc]
    return error_from_rpc(refused.value).code


async def test_two_senders_on_two_hosts_keep_their_order_and_are_not_mixed(mesh: Mesh, tmp_path: Path) -> None:
    log = tmp_path / "log"
    await two_hosts_and_a_target(mesh, log)
    assert faults(log, await send_all(mesh, 25)) == []


async def test_why_a_message_waits_is_in_its_receipt_and_it_can_be_taken_back(mesh: Mesh, tmp_path: Path) -> None:
    await one_seat(mesh, tmp_path / "log", turn_ms=60_000)
    await mesh.until_step(await send(mesh, "long"))
    waiting = await send(mesh, "waits")

    async with asyncio.timeout(20):
        while "it works" not in (await mesh.receipt(waiting)).waits_for:
            await asyncio.sleep(0.02)
    await mesh.messages.Cancel(pb.CancelMessageRequest(message_id=waiting))
    receipt = await mesh.until_step(waiting)
    assert (receipt.step, receipt.waits_for) == (pb.MESSAGE_STEP_CANCELLED, "")
    stopped = await send(mesh, "", pb.DELIVERY_MODE_INTERRUPT_ONLY)
    assert (await mesh.until_step(stopped)).step == pb.MESSAGE_STEP_SUBMITTED
    last = await send(mesh, "after")
    assert (await mesh.until_step(last)).step == pb.MESSAGE_STEP_SUBMITTED
    took = [event["text"].partition("] ")[2] for event in read_log(tmp_path / "log") if event["event"] == "took"]
    assert took == ["long", "after"]
    assert await code_of(mesh.messages.Cancel(pb.CancelMessageRequest(message_id=last))) == "too-late"


async def test_a_message_no_host_was_given_is_taken_back_at_once(mesh: Mesh, tmp_path: Path) -> None:
    await one_seat(mesh, tmp_path / "log")
    mesh.hosts["alpha"].program.stop()
    async with asyncio.timeout(30):
        while (await mesh.host_row("alpha")).linked:
            await asyncio.sleep(0.05)
    message_id = await send(mesh, "never")
    reply = await mesh.messages.Cancel(pb.CancelMessageRequest(message_id=message_id))
    assert reply.receipt.step == pb.MESSAGE_STEP_CANCELLED
    again = await mesh.messages.Cancel(pb.CancelMessageRequest(message_id=message_id))
    assert again.receipt.step == pb.MESSAGE_STEP_CANCELLED


async def test_a_text_is_told_what_was_left_out_of_it_and_a_name_is_only_lent_with_the_right_to(
    mesh: Mesh, tmp_path: Path
) -> None:
    await one_seat(mesh, tmp_path / "log")
    request = pb.SendRequest(request_id=str(new_id()), to=TARGET, body="a\x1b[0mb\x07\x07")
    setattr(request, "from", f"alpha/{TARGET}")
    receipt = (await mesh.messages.Send(request)).receipt
    assert receipt.stripped == "2 times U+0007 (bell), 1 times U+001B (escape)"
    assert receipt.sender.name == TARGET
    assert receipt.sent_by
    await mesh.until_step(receipt.message_id)
    took = [event["text"] for event in read_log(tmp_path / "log") if event["event"] == "took"]
    assert took == [f"[alpha/{TARGET} → {TARGET} #{receipt.message_id}] a[0mb"]


async def test_a_command_follows_its_message_and_says_why_it_is_not_further(mesh: Mesh, tmp_path: Path) -> None:
    await one_seat(mesh, tmp_path / "log", turn_ms=60_000)
    await mesh.until_step(await send(mesh, "long"))
    home = tmp_path / "home"
    mesh.write_context(Home(home))
    command = Program(["mosaic", "agent", "send", TARGET, "-m", "x", "--timeout", "2s"], home, {})
    command.start()

    await eventually(lambda: not command.runs, "it ends past its timeout")
    assert command.process is not None
    assert command.process.returncode == 8
