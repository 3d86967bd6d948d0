"""`mosaic host drain` on a real mesh: no new work there, what is held is finished, and everybody sees it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc.aio
import pytest
from mosaic_framework import wire
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import backlog_pb2_grpc

from tests.mesh.test_backlog import Seat, create, draft, running
from tests.support.mesh import Mesh
from tests.support.pane import mosaic, persons


async def test_a_drained_host_finishes_what_it_holds_and_takes_nothing_new_until_it_is_back(
    mesh: Mesh, tmp_path: Path
) -> None:
    await mesh.join("alpha")
    await mesh.apply({"coder0": "alpha"})
    agent = await running(mesh, "coder0")
    seat = Seat(mesh, "alpha", agent.id, agent.run_id)
    anna = persons(mesh, tmp_path / "anna")
    operators: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(mesh.channel)
    await create(operators, draft("a"), draft("b"))
    claim = pb.ClaimRequest(request_id=str(new_id()))
    assert [one.card.id for one in (await seat.backlog.Claim(claim, metadata=seat.metadata)).claims] == ["a"]

    told = await asyncio.to_thread(mosaic, anna, "host", "drain", "alpha", "--detach", "-o", "json")
    assert [one["card"] for one in json.loads(told.out)["held"]] == ["a"]
    late = await asyncio.to_thread(mosaic, anna, "host", "drain", "alpha", "--timeout", "1s")
    assert late.code == 8, late.err
    assert "coder0: a" in late.err
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await seat.backlog.Claim(pb.ClaimRequest(request_id=str(new_id())), metadata=seat.metadata)
    assert wire.error_from_rpc(refused.value).code == "host-draining"
    again = await seat.backlog.Claim(claim, metadata=seat.metadata)
    assert [one.card.id for one in again.claims] == ["a"], "a claim whose reply was lost is told again"
    assert "(draining)" in (await asyncio.to_thread(mosaic, anna, "fleet", "ps")).out

    await seat.backlog.Complete(pb.CompleteRequest(request_id=str(new_id()), card_id="a"), metadata=seat.metadata)
    assert (await asyncio.to_thread(mosaic, anna, "host", "drain", "alpha", "--timeout", "30s")).code == 0
    assert (await asyncio.to_thread(mosaic, anna, "host", "undrain", "alpha")).code == 0
    fresh = await seat.backlog.Claim(pb.ClaimRequest(request_id=str(new_id())), metadata=seat.metadata)
    assert [one.card.id for one in fresh.claims] == ["b"]
    await seat.channel.close()
