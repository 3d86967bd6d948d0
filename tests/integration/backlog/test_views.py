"""What a backlog shows, and that it survives being exported and imported."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from mosaic_controlplane.api import backlog_decode, backlog_encode
from mosaic_controlplane.backlog.drafts import Draft
from mosaic_controlplane.backlog.exchange import Imported, Record
from mosaic_controlplane.register.card import CardContent
from mosaic_controlplane.register.card_view import PageFilter
from mosaic_framework.errors import InvalidInput
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb

from tests.support.backlog import Yard, add_tenant


def draft(card_id: str, *depends_on: str, **content: object) -> Draft:
    return Draft(card_id, CardContent(f"card {card_id}", **content), depends_on)  # type: ignore[arg-type]


async def pages(yard: Yard, *, limit: int, ready: bool = False, **wanted: object) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        page = await yard.backlog.views.page(
            yard.tenant_id, wanted=PageFilter(**wanted), ready=ready, everything=True, cursor=cursor, limit=limit
        )  # type: ignore[arg-type]
        assert len(page.cards) <= limit
        found += [card.card_id for card in page.cards]
        if not (cursor := page.next_cursor):
            return found


async def busy(yard: Yard) -> None:
    await yard.make(
        [
            draft("a", priority=1, labels=["x"], mission="m"),
            draft("b", "a", body="long", goals=["g"]),
            draft("c", priority=5),
            draft("d", "a", "c"),
            draft("e"),
        ]
    )
    who = yard.worker()
    c, a = await yard.claim(who, most=2)
    await yard.complete(who, "c", c.fence, result="merged")
    await yard.release(who, "a", a.fence, reason="not now")
    await yard.claim(who, "e")


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_pages_show_every_card_once_by_status_and_age(yard: Yard, limit: int) -> None:
    await busy(yard)
    assert await pages(yard, limit=limit) == ["e", "a", "b", "d", "c"]
    assert await pages(yard, limit=limit, ready=True) == ["a"]
    assert await pages(yard, limit=limit, labels=["x"], mission="m") == ["a"]
    assert await pages(yard, limit=limit, text="CARD B") == ["b"]
    assert await pages(yard, limit=limit, holder="worker") == ["e"]
    assert await pages(yard, limit=limit, goal="g") == ["b"]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "e30",
        "\x00",
        *(
            base64.urlsafe_b64encode(text).decode()
            for text in (b'["claim", 0, 0]', b'["listed", Infinity, 0]', b'["listed", 0, NaN]', b"[" * 100_000)
        ),
    ],
    ids=range(7),
)
async def test_a_cursor_that_is_not_of_this_listing_is_refused(yard: Yard, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        await yard.backlog.views.page(yard.tenant_id, wanted=PageFilter(), cursor=cursor)


async def test_a_card_is_shown_with_trees_both_ways(yard: Yard) -> None:
    await yard.make([draft("a"), draft("b", "a"), draft("c", "a"), draft("d", "b", "c")])
    shown = await yard.backlog.views.show(yard.tenant_id, card_id="d", actor=yard.worker())
    assert [(one.card_id, one.level, one.repeated) for one in shown.below] == [
        ("d", 0, False),
        ("b", 1, False),
        ("a", 2, False),
        ("c", 1, False),
        ("a", 2, False),
    ]
    shown = await yard.backlog.views.show(yard.tenant_id, card_id="a", actor=yard.worker(), tree_depth=1)
    assert [(one.card_id, one.level, one.cut) for one in shown.above] == [
        ("a", 0, False),
        ("b", 1, True),
        ("c", 1, True),
    ]


async def test_statistics_count_what_there_is_and_what_flowed(yard: Yard) -> None:
    await busy(yard)
    reply = backlog_encode.statistics(await yard.backlog.views.statistics(yard.tenant_id))
    assert dict(reply.by_status) == {"ready": 3, "claimed": 1, "review": 0, "done": 1, "blocked": 0, "cancelled": 0}
    assert (reply.claimable, reply.waiting, reply.oldest_claimable) == (1, 2, "a")
    assert (reply.claimed_in_window, reply.completed_in_window, reply.expired_in_window) == (3, 1, 0)
    assert reply.HasField("time_to_claim_p50")
    assert dict(reply.claimable_by_class) == {"": 1}


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("update fleet.card set unmet = unmet + 1 where card_id = 'd'", "unmet"),
        ("update fleet.card set depth = 9 where card_id = 'd'", "depth"),
        ("update fleet.card set lease_until = null where card_id = 'e'", "lease"),
        ("update fleet.card set ready_since = null where card_id = 'a'", "ready since"),
        ("update fleet.card set fence = 77 where card_id = 'c'", "history"),
    ],
)
async def test_what_is_kept_wrongly_is_found_by_verify(yard: Yard, damage: str, what: str) -> None:
    await busy(yard)
    assert await yard.verify() == []
    await yard.database.pool.execute(damage)
    assert [one.what for one in await yard.verify()] == [what]


async def exported(yard: Yard) -> list[pb.CardRecord]:
    return [
        backlog_encode.record(record, tenant="default")
        async for record in yard.backlog.exchange.export(yard.tenant_id, history=True)
    ]


async def bring_in(yard: Yard, records: list[Record]) -> Imported:
    return await yard.backlog.exchange.bring_in(
        records, caller=yard.operator, tenant_id=yard.tenant_id, request_id=new_id()
    )


async def test_an_exported_backlog_imported_elsewhere_is_the_same_but_for_what_is_claimed(yard: Yard) -> None:
    await busy(yard)
    other = yard.of_tenant(await add_tenant(yard.database, "other"), "other")
    first = await exported(yard)
    done = await bring_in(other, backlog_decode.records(pb.CardRecord.FromString(r.SerializeToString()) for r in first))
    assert (done.imported, done.problems) == (5, [])
    second = await exported(other)
    assert await other.verify() == []
    for before, after in zip(first, second, strict=True):
        assert after.history[-1].kind == "imported"
        del after.history[-1]
        if before.card.status == pb.CARD_STATUS_CLAIMED:
            assert (after.card.status, after.card.claimable) == (pb.CARD_STATUS_READY, True)
            continue
        assert [event.kind for event in after.history] == [event.kind for event in before.history]
        for record in (before, after):
            record.ClearField("history")
            record.card.ClearField("depth")
        assert after == before
    repeated = await bring_in(other, backlog_decode.records(first))
    assert (repeated.imported, repeated.existed, repeated.problems) == (0, 5, [])


async def test_after_an_import_a_key_stands_for_the_same_card_as_before(yard: Yard) -> None:
    keyed = [
        Draft("a", CardContent("a"), (), "k1"),
        Draft(str(new_id()), CardContent("made"), (), "k2", id_was_given=False),
    ]
    made = await yard.make(keyed)
    other = yard.of_tenant(await add_tenant(yard.database, "other"), "other")
    records = await exported(yard)
    assert (await bring_in(other, backlog_decode.records(records))).imported == 2
    assert [one.draft_digest for one in await exported(other)] == [one.draft_digest for one in records]
    again = [keyed[0], replace(keyed[1], card_id=str(new_id()))]
    assert [card.card_id for card in await other.make(again)] == [card.card_id for card in made]
    created = await other.backlog.cards.create(
        [replace(keyed[0], content=CardContent("another"))],
        caller=other.operator,
        tenant_id=other.tenant_id,
        request_id=new_id(),
        payload=b"",
    )
    assert [one.code for one in created.problems] == ["key-reused"]
    records[0].draft_digest = b"short"
    with pytest.raises(InvalidInput, match="SHA-256"):
        backlog_decode.records(records)


async def test_an_import_that_cannot_be_is_refused_whole(yard: Yard) -> None:
    await busy(yard)
    other = yard.of_tenant(await add_tenant(yard.database, "other"), "other")
    records = backlog_decode.records(await exported(yard))
    done = await bring_in(other, [record for record in records if record.card.card_id != "c"])
    assert [(one.card_id, one.code) for one in done.problems] == [("d", "unknown-dependency")]
    await other.create("a", priority=99)
    done = await bring_in(other, records)
    assert [(one.card_id, one.code) for one in done.problems] == [("a", "exists")]
    assert await pages(other, limit=10) == ["a"]
