"""Cards of a peer: claimed within its grants, never more at once than those say, and never anybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1.backlog_pb2_grpc import BacklogServiceStub
from mosaic_proto.v1.federation_pb2_grpc import FederationServiceStub

from tests.support.pane import Environment, persons
from tests.support.peers import outgoing_of, peer_row
from tests.support.postgres import Databases
from tests.support.two_clusters import Pair, audit, run, two_clusters

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Cards:
    """The backlog of west."""

    def __init__(self, both: Pair) -> None:
        self.both = both
        self.stub: BacklogServiceStub = BacklogServiceStub(both.west.channel)

    async def make(self, *ids: str, card_class: str = "", mission: str = "", labels: Sequence[str] = ()) -> None:
        content = pb.CardContent(title="a card", mission=mission, labels=labels, **{"class": card_class})
        drafts = [pb.CardDraft(id=one, content=content) for one in ids]
        reply = await self.stub.Create(
            pb.CreateCardsRequest(request_id=str(new_id()), cards=drafts), wait_for_ready=True
        )
        assert not reply.problems

    async def show(self, card_id: str) -> pb.Card:
        return (await self.stub.Show(pb.ShowCardRequest(card_id=card_id))).card


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(databases: Databases) -> AsyncIterator[Pair]:
    async with two_clusters(databases) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def cards(both: Pair) -> AsyncIterator[Cards]:
    """An empty backlog."""
    yield Cards(both)
    await both.west.register_value("with gone as (delete from fleet.card returning 1) select count(*) from gone")


@pytest_asyncio.fixture(loop_scope="module")
async def anna(both: Pair, tmp_path: Path) -> Environment:
    return persons(both.east, tmp_path / "anna")


async def test_a_claim_gets_what_is_granted_and_its_worker_finishes_it(
    both: Pair, cards: Cards, anna: Environment
) -> None:
    await both.may_claim(**{"class=docs": 2})
    await cards.make("code", card_class="code")
    await cards.make("guide", "page", "note", card_class="docs")
    claimed = await run(anna, "backlog", "claim", "--cluster", "west", "-o", "json")
    assert claimed.code == 0, claimed
    assert claimed.json["card"]["id"] == "guide"
    held = await cards.show("guide")
    assert (held.status, held.holder.who.name) == (pb.CARD_STATUS_CLAIMED, "east/anna")
    renewed = await run(anna, "backlog", "renew", "guide", "--cluster", "west", "--lease", "20m")
    assert renewed.code == 0, renewed
    blocked = await run(anna, "backlog", "block", "guide", "--cluster", "west", "-m", "needs a person")
    assert blocked.code == 0, blocked
    assert (await run(anna, "backlog", "claim", "--cluster", "west", "--label", "x")).code == 3
    for verb, status in (
        ("release", pb.CARD_STATUS_READY),
        ("propose", pb.CARD_STATUS_REVIEW),
        ("complete", pb.CARD_STATUS_DONE),
    ):
        claimed = await run(anna, "backlog", "claim", "--cluster", "west", "-o", "json")
        assert claimed.code == 0, claimed
        card_id = claimed.json["card"]["id"]
        done = await run(anna, "backlog", verb, "--cluster", "west", "-o", "json")
        assert (done.code, done.json["id"]) == (0, card_id), done
        assert (await cards.show(card_id)).status == status
        (row,) = await audit(both.west, f"FederationService/{verb.capitalize()}")
        assert row["detail"]["on_behalf_of"] == "operator anna (admin) of cluster east"  # type: ignore[index]
    assert len(await audit(both.west, "FederationService/Claim")) == 4
    assert len(await audit(both.west, "FederationService/Block")) == 1
    assert {row["target"] for row in await audit(both.east, "BacklogService/Complete")} == {f"west: {card_id}"}


async def test_no_grant_no_claim_and_what_is_not_granted_is_not_there(
    both: Pair, cards: Cards, anna: Environment
) -> None:
    await cards.make("code", card_class="code")
    await both.grants(send="*")
    refused = await run(anna, "backlog", "claim", "--cluster", "west")
    assert (refused.code, refused.error_code) == (4, "not-granted"), refused
    await both.may_claim(**{"class=docs": 1})
    assert (await run(anna, "backlog", "claim", "--cluster", "west")).code == 3
    hidden, absent = await asyncio.gather(
        run(anna, "backlog", "claim", "code", "--cluster", "west"),
        run(anna, "backlog", "claim", "never", "--cluster", "west"),
    )
    assert (hidden.code, hidden.error_code) == (3, "card-not-found")
    assert hidden.err.splitlines()[0].replace("'code'", "'never'") == absent.err.splitlines()[0]
    await cards.stub.Claim(pb.ClaimRequest(request_id=str(new_id()), card_id="code"))
    others = await run(anna, "backlog", "complete", "code", "--fence", "1", "--cluster", "west")
    absent = await run(anna, "backlog", "complete", "never", "--fence", "1", "--cluster", "west")
    assert (others.code, absent.code) == (3, 3), others
    assert others.err.splitlines()[0].replace("'code'", "'never'") == absent.err.splitlines()[0]


async def test_what_is_held_is_finished_and_not_renewed_once_no_grant_covers_it(
    both: Pair, cards: Cards, anna: Environment
) -> None:
    await both.may_claim(**{"class=docs": 1})
    await cards.make("guide", card_class="docs")
    assert (await run(anna, "backlog", "claim", "--cluster", "west")).code == 0
    for others in ({}, {"class=code": 1}):
        await both.may_claim(**others)
        refused = await run(anna, "backlog", "renew", "guide", "--cluster", "west")
        assert (refused.code, refused.error_code) == (4, "not-granted"), refused
    assert (await run(anna, "backlog", "complete", "guide", "--cluster", "west")).code == 0
    assert (await cards.show("guide")).status == pb.CARD_STATUS_DONE


async def test_whoever_lost_a_card_is_not_told_who_has_it_now(both: Pair, cards: Cards, anna: Environment) -> None:
    await both.may_claim(**{"*": 1})
    await cards.make("page")
    fence = (await run(anna, "backlog", "claim", "--cluster", "west", "-o", "json")).json["fence"]
    await cards.stub.Reclaim(pb.ReclaimRequest(request_id=str(new_id()), card_ids=["page"], reason="ours"))
    await cards.stub.Claim(pb.ClaimRequest(request_id=str(new_id()), card_id="page"))
    late = await run(anna, "backlog", "complete", "page", "--fence", str(fence), "--cluster", "west")
    assert (late.code, late.error_code) == (6, "fence-superseded"), late
    assert "anna" not in late.err
    assert "operator" not in late.err


async def test_claims_at_one_moment_never_hold_more_than_the_grants_say(both: Pair, cards: Cards) -> None:
    await both.may_claim(**{"class=docs": 3, "mission=tidy": 2})
    await cards.make(*(f"docs-{number}" for number in range(10)), card_class="docs")
    await cards.make(*(f"both-{number}" for number in range(10)), card_class="docs", mission="tidy")
    await cards.make(*(f"tidy-{number}" for number in range(10)), mission="tidy")

    async def claim(stub: FederationServiceStub, metadata: object) -> list[str]:
        request = pb.ClaimRequest(request_id=str(new_id()), claimant_id=str(new_id()), max=2)
        try:
            return [one.card.id for one in (await stub.Claim(request, metadata=metadata)).claims]
        except grpc.aio.AioRpcError as error:
            if "as many cards as it may" not in (error.details() or ""):
                raise
            return []

    async with outgoing_of(both.east) as outgoing, outgoing.to(await peer_row(both.east, "west")) as onward:
        stub = FederationServiceStub(onward.channel)
        got = await asyncio.gather(*(claim(stub, onward.metadata) for _ in range(12)))
    taken = [card_id for cards_of_one in got for card_id in cards_of_one]
    assert len(taken) == len(set(taken))
    # Three of class docs, and then two of the mission, which may be of that class as well.
    assert len(taken) == 5, taken


async def test_a_card_that_two_grants_choose_counts_in_both_within_one_claim_too(both: Pair, cards: Cards) -> None:
    await both.may_claim(**{"class=docs": 1, "mission=tidy": 1})
    await cards.make("one", "two", "three", card_class="docs", mission="tidy")
    async with outgoing_of(both.east) as outgoing, outgoing.to(await peer_row(both.east, "west")) as onward:
        stub = FederationServiceStub(onward.channel)
        request = pb.ClaimRequest(request_id=str(new_id()), claimant_id=str(new_id()), max=3)
        got = await stub.Claim(request, metadata=onward.metadata)
    assert len(got.claims) == 1


async def test_a_claim_made_again_gets_what_it_got_and_at_an_away_peer_it_fails(
    both: Pair, cards: Cards, anna: Environment
) -> None:
    await both.may_claim(**{"*": 5})
    await cards.make("one", "two")
    command = ("backlog", "claim", "--cluster", "west", "--request-id", str(new_id()), "-o", "json")
    first, again = await run(anna, *command), await run(anna, *command)
    assert (first.json["card"]["id"], first.json["fence"]) == (again.json["card"]["id"], again.json["fence"])
    both.west.controlplane.stop()
    try:
        away = await run(anna, "backlog", "claim", "--cluster", "west")
        assert (away.code, away.error_code) == (5, "peer-unreachable"), away
        assert "cluster west" in away.err
    finally:
        both.west.controlplane.start()
        await both.west.serving()
    assert (await cards.show("two")).status == pb.CARD_STATUS_READY


async def test_a_pairing_that_ends_gives_its_claims_back(both: Pair, cards: Cards, anna: Environment) -> None:
    await both.may_claim(**{"*": 1})
    await cards.make("page")
    assert (await run(anna, "backlog", "claim", "--cluster", "west")).code == 0
    westerner = persons(both.west, Path(anna["MOSAIC_HOME"]).parent / "westerner")
    ended = await run(westerner, "peer", "revoke", "east", "--yes")
    assert ended.code == 0, ended
    card = await cards.show("page")
    assert (card.status, card.fence) == (pb.CARD_STATUS_READY, 2)
    after = await run(anna, "backlog", "complete", "page", "--cluster", "west")
    assert (after.code, after.error_code) == (4, "peer-revoked"), after
