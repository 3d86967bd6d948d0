"""Clients of one cluster that send to agents of its peers, and one that makes cards for those to claim."""

from __future__ import annotations

import asyncio
import time

import grpc.aio
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2, backlog_pb2_grpc, messages_pb2, messages_pb2_grpc

from bench.faults.clients import Client
from bench.faults.history import OK
from bench.federation_faults.history import AcrossRun, SentAcross
from bench.federation_faults.layout import other_sides
from bench.federation_faults.site import Site

PAUSE_SECONDS = (0.1, 0.5)
_QUEUED = 0.5
_OPEN_CARDS = 8


async def send_across(site: Site, client: Client, run: AcrossRun, via: str) -> None:
    """Send one after another, half of them so that they may wait for a peer that is away, until the client is over."""
    agents = [(owner, agent) for owner in other_sides(via) for agent in site.clusters[owner].seats]
    while not client.over.is_set():
        owner, agent = client.chance.choice(agents)
        mark = new_id().hex
        write = client.begin("send", f"{via} to {owner}/{agent}")
        request = messages_pb2.SendRequest(
            request_id=write.request_id,
            to=f"{owner}/{owner}-host/{agent}",
            body=f"echo {mark} >> {site.marks(agent)}",
            queue_here=client.chance.random() < _QUEUED,
        )
        try:
            await client.write(
                write,
                lambda channel, request=request: messages_pb2_grpc.MessageServiceStub(channel).Send(request),
                lambda reply: reply.receipt.message_id,
            )
        finally:
            run.across.append(SentAcross(write.request_id, via, owner, agent, mark, write.outcome, write.invoked))
        await asyncio.sleep(client.chance.uniform(*PAUSE_SECONDS))


async def make_cards(client: Client, channel_of: Site) -> None:
    """Make cards of two classes at B whenever few are left."""
    while not client.over.is_set():
        write = client.begin("create", "")
        try:
            async with channel_of.clusters["b"].channel() as channel:
                stub = backlog_pb2_grpc.BacklogServiceStub(channel)
                ready = await stub.List(
                    backlog_pb2.ListCardsRequest(statuses=[backlog_pb2.CARD_STATUS_READY]), timeout=2
                )
                if len(ready.cards) < _OPEN_CARDS:
                    drafts = [
                        backlog_pb2.CardDraft(
                            id=f"{name}-{new_id().hex[-12:]}",
                            content=backlog_pb2.CardContent(title="work", **{"class": name}),
                        )
                        for name in ("docs", "code")
                    ]
                    await stub.Create(
                        backlog_pb2.CreateCardsRequest(request_id=write.request_id, cards=drafts), timeout=2
                    )
                    write.outcome = OK
        except grpc.aio.AioRpcError:
            pass  # the next round makes some
        write.ended = time.monotonic()
        await asyncio.sleep(0.3)
