"""A fleet at work is backed up, works on, and is put back: nothing is typed twice, and no card has two holders."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc.aio
from mosaic_framework import wire
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import backlog_pb2_grpc, fleet_pb2, messages_pb2

from tests.mesh.test_restored_register import cursor_now, first_event
from tests.support.controlplane import beside
from tests.support.mesh import Mesh

SUBMITTED = messages_pb2.MESSAGE_STEP_SUBMITTED


def rid() -> str:
    return str(new_id())


async def claim(mesh: Mesh, who: str, *, most: int = 1, card: str = "") -> dict[str, int]:
    """Claim as one worker of the operator's; returns the fence of each card."""
    request = pb.ClaimRequest(request_id=rid(), claimant_id=who, max=most, card_id=card)
    reply = await backlog_pb2_grpc.BacklogServiceStub(mesh.channel).Claim(request, wait_for_ready=True)
    return {claim.card.id: claim.fence for claim in reply.claims}


async def complete(mesh: Mesh, who: str, card: str, fence: int) -> str:
    """Complete a card under a fence; returns the code of the refusal, or ''."""
    request = pb.CompleteRequest(request_id=rid(), claimant_id=who, card_id=card, fence=fence, result="done")
    try:
        await backlog_pb2_grpc.BacklogServiceStub(mesh.channel).Complete(request)
    except grpc.aio.AioRpcError as error:
        return wire.error_from_rpc(error).code
    return ""


async def test_a_fleet_put_back_to_a_backup_types_nothing_twice_and_gives_no_card_to_two(
    mesh: Mesh, tmp_path: Path
) -> None:
    host = await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    backlog = backlog_pb2_grpc.BacklogServiceStub(mesh.channel)
    drafts = [pb.CardDraft(id=name, content=pb.CardContent(title=name)) for name in ("held", "free")]
    await backlog.Create(pb.CreateCardsRequest(request_id=rid(), cards=drafts))
    one, other = rid(), rid()
    fences = await claim(mesh, one, card="held")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    await mesh.until_step(await mesh.send("worker", f"cat {pipe}"))
    waiting = await mesh.send("worker", f"echo x >> {tmp_path}/ran")
    await mesh.until_step(waiting, at_least=messages_pb2.MESSAGE_STEP_DISPATCHED)
    cursor = await cursor_now(mesh)
    folder = tmp_path / "backup"
    made = await asyncio.to_thread(beside, mesh, "backup", str(folder))
    assert made.returncode == 0, made.stderr

    # After the backup: the message is typed, another one too, and the other card is claimed.
    await asyncio.to_thread(pipe.write_text, "go\n")
    assert (await mesh.until_step(waiting)).step == SUBMITTED
    late = await mesh.send("worker", f"echo y >> {tmp_path}/ran; touch {tmp_path}/late")
    await mesh.until_step(late)
    await mesh.settled(host, "worker", tmp_path / "late")
    fences |= await claim(mesh, one, card="free")
    pid = (await mesh.agents())["worker"].pid

    refused = await asyncio.to_thread(beside, mesh, "restore", str(folder), "--replace")
    assert (refused.returncode, "replica-runs" in refused.stderr) == (6, True)
    mesh.controlplane.stop()
    refused = await asyncio.to_thread(beside, mesh, "restore", str(folder))
    assert (refused.returncode, "--replace" in refused.stderr) == (6, True)
    done = await asyncio.to_thread(beside, mesh, "restore", str(folder), "--replace")
    assert done.returncode == 0, done.stderr
    assert "1 hosts will be told everything anew, 1 messages are asked for again" in done.stdout
    assert "1 claims of cards are void" in done.stdout
    mesh.controlplane.start()
    await mesh.serving()
    await mesh.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)

    assert (await mesh.until_step(waiting)).step == SUBMITTED, "its host told every step again"
    assert (await first_event(mesh, cursor)).HasField("reset"), "a cursor of before is refused"
    assert (await mesh.agents())["worker"].pid == pid, "the agent ran on"
    again = await mesh.send("worker", f"echo z >> {tmp_path}/ran; touch {tmp_path}/again")
    await mesh.until_step(again)
    await mesh.settled(host, "worker", tmp_path / "again")
    assert (tmp_path / "ran").read_text() == "x\ny\nz\n"

    assert list((await backlog.Verify(pb.VerifyBacklogRequest())).mismatches) == [], "the history says what was done"
    taken = await claim(mesh, other, most=5)
    assert set(taken) == {"held", "free"}
    for card, fence in fences.items():
        assert taken[card] > fence
        assert await complete(mesh, one, card, fence) == "fence-superseded"
        assert await complete(mesh, other, card, taken[card]) == ""
    assert list((await backlog.Verify(pb.VerifyBacklogRequest())).mismatches) == []


async def test_a_replica_does_not_start_on_a_register_whose_restore_was_cut_short(mesh: Mesh, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    assert (await asyncio.to_thread(beside, mesh, "backup", str(folder))).returncode == 0
    mesh.controlplane.stop()
    # As a restore that is killed leaves it.
    await mesh.register_value("alter schema fleet rename to fleet_set_aside")
    refused = await asyncio.to_thread(beside, mesh, "serve")
    assert (refused.returncode, "restore-unfinished" in refused.stderr) == (6, True)
    assert "mosaic-controlplane restore" in refused.stderr
    again = await asyncio.to_thread(beside, mesh, "restore", str(folder), "--replace")
    assert again.returncode == 0, again.stderr
    mesh.controlplane.start()
    await mesh.serving()
    assert await mesh.register_value("select to_regnamespace('fleet_set_aside')") is None
