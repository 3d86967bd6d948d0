"""Through the API, nobody of one tenant sees, claims, changes or counts a card of another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mosaic_controlplane.api.backlog import BacklogService
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.federation.working import PeerWork
from mosaic_controlplane.identity.bootstrap import open_cluster
from mosaic_controlplane.identity.caller import calling
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import backlog_pb2 as pb

from tests.support.backlog import Yard, add_tenant

CONTEXT: Any = None  # who calls is not read from it here

NAMING_A_CARD: list[tuple[str, Callable[[str], Any]]] = [
    ("Show", lambda card: pb.ShowCardRequest(card_id=card)),
    ("Claim", lambda card: pb.ClaimRequest(request_id=str(new_id()), card_id=card)),
    ("Renew", lambda card: pb.RenewRequest(request_id=str(new_id()), card_id=card, fence=1)),
    ("Propose", lambda card: pb.ProposeRequest(request_id=str(new_id()), card_id=card, fence=1)),
    ("Complete", lambda card: pb.CompleteRequest(request_id=str(new_id()), card_id=card, fence=1)),
    ("Release", lambda card: pb.ReleaseRequest(request_id=str(new_id()), card_id=card, fence=1)),
    ("Block", lambda card: pb.BlockRequest(request_id=str(new_id()), card_id=card, fence=1, reason="x")),
    ("Unblock", lambda card: pb.UnblockRequest(request_id=str(new_id()), card_id=card)),
    ("Cancel", lambda card: pb.CancelRequest(request_id=str(new_id()), card_id=card)),
    ("Reclaim", lambda card: pb.ReclaimRequest(request_id=str(new_id()), card_ids=[card])),
    ("Link", lambda card: pb.LinkRequest(request_id=str(new_id()), card_id=card, depends_on=["ours"])),
    ("Link", lambda card: pb.LinkRequest(request_id=str(new_id()), card_id="ours", depends_on=[card])),
    ("Unlink", lambda card: pb.LinkRequest(request_id=str(new_id()), card_id=card, depends_on=["ours"])),
    (
        "Update",
        lambda card: pb.UpdateCardRequest(
            request_id=str(new_id()), card_id=card, content=pb.CardContent(title="x"), fields=["title"]
        ),
    ),
]


async def as_(yard: Yard, call: Callable[[], Awaitable[Any]]) -> Any:
    with calling(yard.operator):
        return await call()


async def service_of(yard: Yard, folder: Path) -> BacklogService:
    cluster = await open_cluster(yard.database, Home(folder), alias="test")
    leaf = cluster.issue_replica_leaf(new_id())
    return BacklogService(yard.backlog, PeerWork(yard.database, Outgoing(yard.database, cluster, lambda: leaf)))


async def two(yard: Yard) -> Yard:
    other = yard.of_tenant(await add_tenant(yard.database, "other"), "other")
    await yard.create("ours")
    await other.create("theirs")
    await other.claim(other.worker(), "theirs")
    return other


@pytest.mark.parametrize(("method", "request_of"), NAMING_A_CARD)
async def test_a_card_of_another_tenant_is_as_one_that_is_not_there(
    yard: Yard, tmp_path: Path, method: str, request_of: Callable[[str], Any]
) -> None:
    other = await two(yard)
    service = await service_of(yard, tmp_path)
    before = (await other.card("theirs"), await other.history("theirs"))
    told = []
    for card_id in ("theirs", "nobodys"):
        with pytest.raises(FleetError) as refused:
            await as_(yard, lambda card_id=card_id: getattr(service, method)(request_of(card_id), CONTEXT))
        told.append((type(refused.value), str(refused.value).replace(card_id, "…"), refused.value.why))
    assert told[0] == told[1]
    assert (await other.card("theirs"), await other.history("theirs")) == before


async def test_lists_counts_exports_and_checks_hold_a_tenant_s_own_cards_alone(yard: Yard, tmp_path: Path) -> None:
    await two(yard)
    service = await service_of(yard, tmp_path)
    listed = await as_(yard, lambda: service.List(pb.ListCardsRequest(all=True), CONTEXT))
    assert [card.id for card in listed.cards] == ["ours"]
    counted = await as_(yard, lambda: service.Stats(pb.BacklogStatsRequest(), CONTEXT))
    assert (counted.claimable, dict(counted.by_status).get("claimed", 0), counted.claimed_in_window) == (1, 0, 0)
    checked = await as_(yard, lambda: service.Verify(pb.VerifyBacklogRequest(), CONTEXT))
    assert checked.cards == 1
    with calling(yard.operator):
        exported = [record async for record in service.Export(pb.ExportCardsRequest(history=True), CONTEXT)]
    assert [record.card.id for record in exported] == ["ours"]
    expired = await as_(
        yard, lambda: service.Reclaim(pb.ReclaimRequest(request_id=str(new_id()), expired=True), CONTEXT)
    )
    assert list(expired.cards) == []
    ids = [pb.CardDraft(id="theirs", content=pb.CardContent(title="the same id, another card"))]
    made = await as_(yard, lambda: service.Create(pb.CreateCardsRequest(request_id=str(new_id()), cards=ids), CONTEXT))
    assert [card.id for card in made.cards] == ["theirs"]
