"""Clients of the backlog: they make cards, claim, renew, release, complete, and oversleep their leases."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import backlog_pb2_grpc

from bench.faults.clients import CALL_SECONDS, Client
from bench.faults.history import OK, Completed, Holding, Write

LEASE_SECONDS = 2
WAIT_SECONDS = 0.5
OVERSLEEPS = 0.35
_CARDS_AT_ONCE = 3
_OPEN_CARDS = 6
"""Few, so that whoever oversleeps finds that another has taken its card up."""


def _stub(channel: grpc.aio.Channel) -> backlog_pb2_grpc.BacklogServiceAsyncStub:
    return backlog_pb2_grpc.BacklogServiceStub(channel)


async def make_cards(client: Client, made: list[str]) -> None:
    """Make cards, some of which need another, whenever few are left."""
    while not client.over.is_set():
        done = {one.card for one in client.run.completed}
        if len(made) - len(done) < _OPEN_CARDS:
            write = client.begin("create", "")
            drafts = [
                pb.CardDraft(id=f"c{new_id().hex[-12:]}", content=pb.CardContent(title="work"))
                for _ in range(_CARDS_AT_ONCE)
            ]
            if made and client.chance.random() < 0.5:
                drafts[-1].depends_on.append(client.chance.choice(made))
            drafts[1].depends_on.append(drafts[0].id)
            request = pb.CreateCardsRequest(request_id=write.request_id, cards=drafts)
            write.subject = " ".join(draft.id for draft in drafts)
            answer = await client.write(
                write,
                lambda channel, request=request: _stub(channel).Create(request),
                lambda reply: " ".join(card.id for card in reply.cards) or str(reply.problems),
            )
            if answer is not None:
                made += [card.id for card in answer[0].cards]
        await asyncio.sleep(client.chance.uniform(0.1, 0.4))


class Worker:
    """One worker: an operator's claimant with an id of its own. `cluster`: the peer whose cards it works on."""

    def __init__(self, client: Client, *, cluster: str = "") -> None:
        self.client = client
        self.cluster = cluster
        self.id = str(new_id())
        self.stream: Any = None

    def hold(self, write: Write, claim: pb.Claim, asked: float) -> Holding | None:
        """Note what an answer gave; None when it says itself that the claim is over."""
        if claim.over:
            return None
        holding = Holding(
            claim.card.id,
            claim.fence,
            self.client.name,
            asked=write.invoked,
            since=time.monotonic(),
            until=asked + claim.lease_left_ms / 1000,
        )
        if holding.until <= holding.since:
            return None  # the answer was so long under way that it believes in nothing
        self.client.run.holdings.append(holding)
        return holding

    def completed(self, holding: Holding, asked: float) -> None:
        self.client.run.completed.append(
            Completed(holding.card, holding.fence, self.client.name, asked, time.monotonic())
        )

    async def work(self, holding: Holding) -> None:
        """Spend time with a card: little, or more than its lease."""
        if self.client.chance.random() < OVERSLEEPS:
            await asyncio.sleep(max(0.0, holding.until - time.monotonic()) + self.client.chance.uniform(1.0, 2.5))
        else:
            await asyncio.sleep(self.client.chance.uniform(0.0, 0.6) * LEASE_SECONDS)


async def work_by_calls(worker: Worker) -> None:
    """Claim, renew, complete or release, each as a call of its own."""
    client = worker.client
    while not client.over.is_set():
        write = client.begin("claim", "")
        request = pb.ClaimRequest(
            request_id=write.request_id,
            claimant_id=worker.id,
            wait=_duration(WAIT_SECONDS),
            lease=_duration(LEASE_SECONDS),
            cluster=worker.cluster,
        )
        answer = await client.write(write, lambda channel, request=request: _stub(channel).Claim(request), _claimed)
        if answer is None or not answer[0].claims:
            continue
        holding = worker.hold(write, answer[0].claims[0], answer[1])
        if holding is None:
            continue
        write.subject = holding.card
        await worker.work(holding)
        way = client.chance.random()
        if way < 0.2:
            await _renew(worker, holding)
        if way > 0.85:
            await _release(worker, holding)
        else:
            await _complete(worker, holding)


async def _renew(worker: Worker, holding: Holding) -> None:
    write = worker.client.begin("renew", holding.card)
    request = pb.RenewRequest(
        request_id=write.request_id,
        claimant_id=worker.id,
        card_id=holding.card,
        fence=holding.fence,
        cluster=worker.cluster,
    )
    answer = await worker.client.write(
        write, lambda channel: _stub(channel).Renew(request), lambda reply: f"{reply.claims[0].fence}"
    )
    if answer is not None:
        reply, asked = answer
        holding.until = max(holding.until, asked + reply.claims[0].lease_left_ms / 1000)


async def _release(worker: Worker, holding: Holding) -> None:
    write = worker.client.begin("release", holding.card)
    holding.until = min(holding.until, write.invoked)
    request = pb.ReleaseRequest(
        request_id=write.request_id,
        claimant_id=worker.id,
        card_id=holding.card,
        fence=holding.fence,
        reason="tired",
        cluster=worker.cluster,
    )
    await worker.client.write(
        write, lambda channel: _stub(channel).Release(request), lambda reply: f"{reply.card.id} is released"
    )
    write.subject += f" {holding.fence} {worker.id}"


async def _complete(worker: Worker, holding: Holding) -> None:
    write = worker.client.begin("complete", holding.card)
    holding.until = min(holding.until, write.invoked)
    request = pb.CompleteRequest(
        request_id=write.request_id,
        claimant_id=worker.id,
        card_id=holding.card,
        fence=holding.fence,
        result=f"{worker.client.name} {holding.fence}",
        cluster=worker.cluster,
    )
    answer = await worker.client.write(
        write,
        lambda channel: _stub(channel).Complete(request),
        lambda reply: f"{reply.card.status} {reply.card.result}",
    )
    if answer is not None:
        worker.completed(holding, write.invoked)
    write.subject += f" {holding.fence} {worker.id}"


async def work_on_a_stream(worker: Worker) -> None:
    """Done-and-next on one work stream; when it breaks, the same message goes again to the next replica."""
    client = worker.client
    held: Holding | None = None
    while not client.over.is_set():
        write = client.begin("work", held.card if held else "")
        request = pb.WorkRequest(
            request_id=write.request_id,
            claimant_id=worker.id,
            next=1,
            wait=_duration(WAIT_SECONDS),
            lease=_duration(LEASE_SECONDS),
        )
        if held is not None:
            held.until = min(held.until, write.invoked)
            request.done.add(card_id=held.card, fence=held.fence, result=f"{client.name} {held.fence}")
        answer = await _exchange(worker, write, request)
        if answer is None:
            held = None
            continue
        reply, asked = answer
        if held is not None and not reply.done[0].HasField("error"):
            worker.completed(held, write.invoked)
        held = worker.hold(write, reply.claims[0], asked) if reply.claims else None
        if held is not None:
            await worker.work(held)


async def _exchange(worker: Worker, write: Write, request: pb.WorkRequest) -> tuple[pb.WorkReply, float] | None:
    """Put one message on the worker's stream and read its answer; on a broken stream begin another."""
    client = worker.client
    while True:
        asked = time.monotonic()
        write.attempts += 1
        try:
            if worker.stream is None:
                worker.stream = _stub(client.channel).Work()
            async with asyncio.timeout(CALL_SECONDS):
                await worker.stream.write(request)
                reply = await worker.stream.read()
            if isinstance(reply, pb.WorkReply):
                write.ended, write.outcome = time.monotonic(), OK
                return reply, asked
            error: BaseException = ConnectionError()
        except (grpc.aio.AioRpcError, asyncio.CancelledError, TimeoutError, asyncio.InvalidStateError) as failure:
            error = failure
        worker.stream = None
        if not await client.goes_on(write, error):
            return None


def _claimed(reply: pb.ClaimReply) -> str:
    return " ".join(f"{claim.card.id} {claim.fence}" for claim in reply.claims)


def _duration(seconds: float) -> Duration:
    found = Duration()
    found.FromMilliseconds(int(seconds * 1000))
    return found
