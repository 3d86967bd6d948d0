"""What is left when all is over: the receipts at both sides, and the shells' files."""

from __future__ import annotations

import asyncio
import time

import grpc.aio
from mosaic_proto.v1 import backlog_pb2, backlog_pb2_grpc, messages_pb2, messages_pb2_grpc

from bench.faults.history import OPEN_STEPS
from bench.federation_faults.history import AcrossRun
from bench.federation_faults.layout import HOSTS
from bench.federation_faults.owners import owned
from bench.federation_faults.site import Site

SETTLE_SECONDS = 20.0


async def settle(site: Site, run: AcrossRun) -> None:
    """Wait until each message that is known has come to an end; what has not is the checker's to tell."""
    # What was offered with no answer is looked into again after half a minute: as if that had passed.
    for cluster in site.clusters.values():
        async with owned(cluster) as mine:
            await mine.register.execute(
                "update fleet.peer_message set tried_at = tried_at - interval '31 seconds' where state = 'offered'"
            )
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        await look_back(site, run)
        sent = {one.message_id: one for one in run.across}
        is_open = [
            message
            for name, steps in run.steps.items()
            for message, step in steps.items()
            if step in OPEN_STEPS and message in sent and name in HOSTS and sent[message].owner == name
        ]
        if not is_open and not await _waiting(site):
            return
        await asyncio.sleep(0.2)


async def _waiting(site: Site) -> int:
    number = 0
    for cluster in site.clusters.values():
        async with owned(cluster) as mine:
            number += await mine.register.fetchval(
                "select count(*) from fleet.peer_message where state in ('waiting', 'offered')"
            )
    return number


async def look_back(site: Site, run: AcrossRun) -> None:
    """Fill in what the run itself could not see."""
    for name, cluster in site.clusters.items():
        async with cluster.channel() as channel:
            await _steps(run, name, channel)
    async with site.clusters["b"].channel() as channel:
        backlog: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(channel)
        verified = await backlog.Verify(backlog_pb2.VerifyBacklogRequest(), wait_for_ready=True)
        run.mismatches = [f"{one.card_id}: {one.what} is {one.kept}, found {one.found}" for one in verified.mismatches]
    for cluster in site.clusters.values():
        for agent in cluster.seats:
            path = site.marks(agent)
            run.executed[agent] = path.read_text().split() if path.exists() else []


async def _steps(run: AcrossRun, name: str, channel: grpc.aio.Channel) -> None:
    stub: messages_pb2_grpc.MessageServiceAsyncStub = messages_pb2_grpc.MessageServiceStub(channel)
    run.steps[name] = {}
    for sent in run.across:
        if name not in (sent.via, sent.owner):
            continue
        try:
            shown = await stub.Show(
                messages_pb2.ShowMessageRequest(message_id=sent.message_id), wait_for_ready=True, timeout=10
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            continue
        step = messages_pb2.MessageStep.Name(shown.receipt.step).removeprefix("MESSAGE_STEP_").lower()
        run.steps[name][sent.message_id] = step
