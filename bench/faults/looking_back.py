"""What is left when all is over: receipts, the shells' files, the register's history of cards."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import asyncpg
import grpc.aio
from mosaic_proto.v1 import backlog_pb2, backlog_pb2_grpc, messages_pb2, messages_pb2_grpc

from bench.faults.history import OK, Received, Run
from bench.faults.site import Site
from tests.support.backlog_history import Acknowledged, Edge, Event, violations

_MOST = 1000


async def open_messages(channel: grpc.aio.Channel) -> int:
    """How many messages are not at an end yet, and not submitted."""
    stub: messages_pb2_grpc.MessageServiceAsyncStub = messages_pb2_grpc.MessageServiceStub(channel)
    reply = await stub.List(messages_pb2.ListMessagesRequest(open_only=True, limit=_MOST), wait_for_ready=True)
    submitted = messages_pb2.MESSAGE_STEP_SUBMITTED
    return sum(receipt.step < submitted for receipt in reply.receipts)


async def look_back(site: Site, channel: grpc.aio.Channel, run: Run, workers: Mapping[str, str]) -> None:
    """Fill in what the run itself could not see. `workers`: name → claimant id."""
    stub: messages_pb2_grpc.MessageServiceAsyncStub = messages_pb2_grpc.MessageServiceStub(channel)
    reply = await stub.List(messages_pb2.ListMessagesRequest(limit=_MOST), wait_for_ready=True)
    assert len(reply.receipts) < _MOST, "more messages than one list tells of"
    run.received = {receipt.message_id: _received(receipt) for receipt in reply.receipts}
    for agent in site.agents:
        path = site.marks(agent)
        run.executed[agent] = path.read_text().split() if path.exists() else []
    backlog: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(channel)
    verified = await backlog.Verify(backlog_pb2.VerifyBacklogRequest(), wait_for_ready=True)
    run.mismatches = [f"{one.card_id}: {one.what} is {one.kept}, found {one.found}" for one in verified.mismatches]
    run.register = await _register(site, run, workers)


def _received(receipt: messages_pb2.Receipt) -> Received:
    submitted = [
        step.at.ToMicroseconds() / 1e6 for step in receipt.steps if step.step == messages_pb2.MESSAGE_STEP_SUBMITTED
    ]
    name = messages_pb2.MessageStep.Name(receipt.step).removeprefix("MESSAGE_STEP_").lower()
    return Received(name, receipt.seat_seq, submitted[0] if submitted else None)


async def _register(site: Site, run: Run, workers: Mapping[str, str]) -> list[str]:
    """What the history of cards, as the register wrote it, breaks by itself, or lacks of what clients were told."""
    connection = await asyncpg.connect(site.database.url())
    try:
        events = await connection.fetch(
            "select event_id, card_id, kind, status, fence, coalesce(run_id, actor_id) as who"
            " from fleet.card_event order by event_id"
        )
        edges = await connection.fetch("select card_id, depends_on from fleet.card_edge")
        cards = await connection.fetch("select card_id, status, fence from fleet.card")
    finally:
        await connection.close()
    return violations(
        [Event(e["event_id"], e["card_id"], e["kind"], e["status"], e["fence"], e["who"]) for e in events],
        # Made with their cards, and never taken away.
        [Edge(0, edge["card_id"], edge["depends_on"], added=True) for edge in edges],
        _acknowledged(site, run, workers),
        {card["card_id"]: (card["status"], card["fence"]) for card in cards},
    )


def _acknowledged(site: Site, run: Run, workers: Mapping[str, str]) -> list[Acknowledged]:
    operator = UUID(site.operator.identity_id)
    found = [Acknowledged(one.card, "claimed", one.fence, UUID(workers[one.holder])) for one in run.holdings]
    found += [Acknowledged(one.card, "completed", one.fence, UUID(workers[one.holder])) for one in run.completed]
    for write in run.writes:
        if write.outcome != OK:
            continue
        if write.kind == "create":
            found += [Acknowledged(card, "created", 0, operator) for card in write.subject.split()]
        elif write.kind == "release":
            card, fence, worker = write.subject.split()
            found.append(Acknowledged(card, "released", int(fence) + 1, UUID(worker)))
    return found
