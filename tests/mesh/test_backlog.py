"""The backlog through real processes: people and agents over mTLS, a host that vouches for what its runs hold."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from uuid import UUID

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from mosaic_framework import wire
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import backlog_pb2_grpc, fleet_pb2

from tests.support.mesh import Mesh
from tests.support.program import WAIT_SECONDS


def draft(card_id: str, *depends_on: str, **content: object) -> pb.CardDraft:
    return pb.CardDraft(id=card_id, content=pb.CardContent(title=f"card {card_id}", **content), depends_on=depends_on)  # type: ignore[arg-type]


def rid() -> str:
    return str(new_id())


@pytest.fixture
def backlog(mesh: Mesh) -> backlog_pb2_grpc.BacklogServiceAsyncStub:
    """The backlog as an operator meets it."""
    return backlog_pb2_grpc.BacklogServiceStub(mesh.channel)


async def create(backlog: backlog_pb2_grpc.BacklogServiceAsyncStub, *drafts: pb.CardDraft) -> pb.CreateCardsReply:
    return await backlog.Create(pb.CreateCardsRequest(request_id=rid(), cards=drafts))


async def show(backlog: backlog_pb2_grpc.BacklogServiceAsyncStub, card_id: str) -> pb.ShowCardReply:
    return await backlog.Show(pb.ShowCardRequest(card_id=card_id))


class Seat:
    """An agent of a host, calling as its host lets it."""

    def __init__(self, mesh: Mesh, host: str, agent_id: str, run_id: str) -> None:
        identity = StoredIdentity.load(mesh.hosts[host].pki)
        self.channel = wire.aio_channel(identity, identity.fleet_addresses[0])
        self.backlog: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(self.channel)
        self.metadata = ((wire.AGENT_KEY, agent_id), (wire.RUN_KEY, run_id))


async def running(mesh: Mesh, name: str) -> fleet_pb2.Agent:
    """The agent as soon as its host has told of its run, and so speaks for it."""
    agent = await mesh.until_agent(name, lambda agent: bool(agent.run_id and agent.pid))
    async with asyncio.timeout(WAIT_SECONDS):
        while not await mesh.register_value("select count(*) from fleet.run where run_id = $1", UUID(agent.run_id)):
            await asyncio.sleep(0.02)
    return agent


async def test_people_make_claim_and_complete_cards_over_the_wire(
    mesh: Mesh, backlog: backlog_pb2_grpc.BacklogServiceAsyncStub
) -> None:
    made = await create(backlog, draft("a", priority=3, labels=["x"]), draft("b", "a"), draft("c"))
    assert [card.id for card in made.cards] == ["a", "b", "c"]
    wrong = await create(backlog, draft("d", "nowhere"), draft("d"))
    assert {(one.index, one.code) for one in wrong.problems} == {(0, "unknown-dependency"), (1, "duplicate")}
    listed = await backlog.List(pb.ListCardsRequest(ready=True, limit=1))
    assert [card.id for card in listed.cards] == ["a"]
    rest = await backlog.List(pb.ListCardsRequest(ready=True, limit=5, cursor=listed.next_cursor))
    assert ([card.id for card in rest.cards], rest.next_cursor) == (["c"], "")
    claimant = rid()
    (claim,) = (await backlog.Claim(pb.ClaimRequest(request_id=rid(), claimant_id=claimant))).claims
    assert (claim.card.id, claim.fence, claim.card.holder.run_id) == ("a", 1, claimant)
    assert 890_000 < claim.lease_left_ms <= 900_000
    renewed = await backlog.Renew(pb.RenewRequest(request_id=rid(), claimant_id=claimant, lease=Duration(seconds=60)))
    assert 50_000 < renewed.claims[0].lease_left_ms <= 60_000
    proposed = await backlog.Propose(pb.ProposeRequest(request_id=rid(), card_id="a", fence=1, head="abc"))
    assert (proposed.card.status, proposed.card.content.head) == (pb.CARD_STATUS_REVIEW, "abc")
    done = await backlog.Complete(
        pb.CompleteRequest(request_id=rid(), card_id="a", result="merged", spent=pb.Spend(tokens=12))
    )
    assert (done.card.status, done.card.spent.tokens) == (pb.CARD_STATUS_DONE, 12)
    shown = await show(backlog, "b")
    assert [(node.id, node.level) for node in shown.depends_on] == [("b", 0), ("a", 1)]
    assert shown.card.claimable
    linked = await backlog.Link(pb.LinkRequest(request_id=rid(), card_id="c", depends_on=["b"]))
    assert (linked.card.unmet, linked.card.depends_on) == (1, ["b"])
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await backlog.Link(pb.LinkRequest(request_id=rid(), card_id="b", depends_on=["c"]))
    error = wire.error_from_rpc(told.value)
    assert (type(error).code, error.why) == ("dependency-refused", "b → c → b")
    paused = await backlog.Pause(pb.PauseRequest(request_id=rid(), reason="lunch"))
    assert (paused.paused, paused.by, paused.changed) == (True, "anna", True)
    nothing = await backlog.Claim(pb.ClaimRequest(request_id=rid()))
    assert (len(nothing.claims), nothing.paused) == (0, True)
    await backlog.Resume(pb.PauseRequest(request_id=rid()))
    stats = await backlog.Stats(pb.BacklogStatsRequest())
    assert dict(stats.by_status)["done"] == 1
    assert (stats.claimable, stats.waiting, stats.completed_in_window, stats.paused) == (1, 1, 1, False)
    verified = await backlog.Verify(pb.VerifyBacklogRequest())
    assert (verified.cards, verified.edges, list(verified.mismatches)) == (3, 2, [])


async def test_no_call_reaches_into_another_tenant(
    mesh: Mesh, backlog: backlog_pb2_grpc.BacklogServiceAsyncStub
) -> None:
    await create(backlog, draft("a"))
    tried = set()
    for method in pb.DESCRIPTOR.services_by_name["BacklogService"].methods:
        if method.client_streaming or method.server_streaming:
            continue
        fields = method.input_type.fields_by_name
        known = {"tenant": "elsewhere", "request_id": rid(), "card_id": "a", "reason": "r"}
        request = getattr(pb, method.input_type.name)(**{name: known[name] for name in known if name in fields})
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await getattr(backlog, method.name)(request)
        assert told.value.code() == grpc.StatusCode.PERMISSION_DENIED, (method.name, told.value.details())
        tried.add(method.name)
    assert {"Create", "List", "Show", "Claim", "Complete", "Reclaim"} <= tried


async def test_an_agent_works_on_one_stream_and_is_told_of_each_refusal(
    mesh: Mesh, backlog: backlog_pb2_grpc.BacklogServiceAsyncStub
) -> None:
    await mesh.join("alpha")
    await mesh.apply({"coder0": "alpha"})
    agent = await running(mesh, "coder0")
    seat = Seat(mesh, "alpha", agent.id, agent.run_id)
    await create(backlog, draft("a"), draft("b", "a"), draft("other", **{"class": "review"}))
    asked: asyncio.Queue[pb.WorkRequest | None] = asyncio.Queue()

    async def requests() -> AsyncIterator[pb.WorkRequest]:
        while (request := await asked.get()) is not None:
            yield request

    answers = seat.backlog.Work(requests(), metadata=seat.metadata)
    asked.put_nowait(pb.WorkRequest(request_id=rid(), next=1))
    first = await answers.read()
    assert [claim.card.id for claim in first.claims] == ["a"]
    assert first.claims[0].card.holder.run_id == agent.run_id
    assert 290_000 < first.claims[0].lease_left_ms <= 300_000
    again = pb.WorkRequest(
        request_id=rid(),
        done=[
            pb.CompleteRequest(card_id="a", fence=1, result="done"),
            pb.CompleteRequest(card_id="other", fence=1),
        ],
        next=2,
    )
    for _ in range(2):  # the second time as a client that lost the answer
        asked.put_nowait(again)
        second = await answers.read()
        assert [(one.card_id, one.error.code) for one in second.done] == [("a", ""), ("other", "card-not-claimed")]
        assert [(claim.card.id, claim.fence) for claim in second.claims] == [("b", 1)]
    asked.put_nowait(None)
    await seat.channel.close()
    seat = Seat(mesh, "alpha", agent.id, agent.run_id)
    done = await seat.backlog.Complete(pb.CompleteRequest(request_id=rid()), metadata=seat.metadata)  # the one it holds
    assert (done.card.id, done.card.status) == ("b", pb.CARD_STATUS_DONE)
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await seat.backlog.Complete(pb.CompleteRequest(request_id=rid()), metadata=seat.metadata)
    assert type(wire.error_from_rpc(told.value)).code == "card-not-held"
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await seat.backlog.Create(pb.CreateCardsRequest(request_id=rid(), cards=[draft("z")]), metadata=seat.metadata)
    assert told.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await seat.channel.close()


async def test_a_living_run_keeps_its_card_and_a_killed_one_gives_it_back(
    mesh: Mesh, backlog: backlog_pb2_grpc.BacklogServiceAsyncStub
) -> None:
    host = await mesh.join("alpha")
    await mesh.apply({"coder0": "alpha"})
    agent = await running(mesh, "coder0")
    seat = Seat(mesh, "alpha", agent.id, agent.run_id)
    await create(backlog, draft("a"))
    (claim,) = (await seat.backlog.Claim(pb.ClaimRequest(request_id=rid()), metadata=seat.metadata)).claims
    await seat.channel.close()
    await mesh.register_value(
        "update fleet.card set lease_until = now() + interval '40 seconds' where card_id = 'a' returning 1"
    )
    host.program.kill()
    host.program.start()  # the run lives on without its host-agent, which vouches for it as soon as it is back
    async with asyncio.timeout(WAIT_SECONDS):
        while (await show(backlog, "a")).card.holder.lease_left_ms < 200_000:
            await asyncio.sleep(0.05)
    os.kill(agent.pid, signal.SIGKILL)
    async with asyncio.timeout(WAIT_SECONDS):
        while (shown := await show(backlog, "a")).card.status != pb.CARD_STATUS_READY:
            await asyncio.sleep(0.05)
    assert (shown.card.fence, shown.card.expired) == (claim.fence, True)
    assert [event.kind for event in shown.history] == ["created", "claimed", "expired"]


async def test_clients_that_die_while_they_wait_leave_the_card_to_whoever_waits_on(
    mesh: Mesh, backlog: backlog_pb2_grpc.BacklogServiceAsyncStub
) -> None:
    streams = [backlog.Work() for _ in range(4)]
    for stream in streams:
        await stream.write(pb.WorkRequest(request_id=rid(), claimant_id=rid(), next=1, wait=Duration(seconds=60)))
    asked = [
        backlog.Claim(pb.ClaimRequest(request_id=rid(), claimant_id=rid(), wait=Duration(seconds=60))) for _ in range(4)
    ]
    await asyncio.sleep(0.1)
    for call in (*streams, *asked):
        call.cancel()
    await create(backlog, draft("a"), draft("b"), draft("c"))
    got: list[str] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while len(got) < 3:
            reply = await backlog.Claim(pb.ClaimRequest(request_id=rid(), max=3, wait=Duration(seconds=60)))
            got += [one.card.id for one in reply.claims]
    assert sorted(got) == ["a", "b", "c"]
    assert list((await backlog.Verify(pb.VerifyBacklogRequest())).mismatches) == []
