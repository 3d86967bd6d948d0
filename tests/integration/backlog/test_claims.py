"""Claims: each ready card to one holder, under a fence that only rises; late and lost calls do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest
from mosaic_controlplane.backlog.drafts import Draft
from mosaic_controlplane.backlog.errors import (
    CardEnded,
    CardGated,
    CardNotClaimed,
    CardNotFound,
    CardNotReady,
    FenceSuperseded,
    LeaseOver,
    NotHolder,
)
from mosaic_controlplane.backlog.standing import actor_of
from mosaic_controlplane.backlog.transitions import Proposal, Under
from mosaic_controlplane.backlog.wishes import Filter, Wish
from mosaic_controlplane.register.card import CardContent, CardRow
from mosaic_controlplane.register.card_claim import Actor, Completion
from mosaic_controlplane.register.request import RequestReused
from mosaic_framework.ids import new_id

from tests.support.backlog import Yard, add_tenant


async def test_the_best_card_is_the_one_of_the_highest_priority_then_the_oldest(yard: Yard) -> None:
    await yard.create("a", "b")
    await yard.create("urgent", priority=9)
    await yard.create("later", priority=-1)
    taken = await yard.claim(yard.worker(), most=10)
    assert [one.card.card_id for one in taken] == ["urgent", "a", "b", "later"]


async def test_a_card_of_higher_priority_that_comes_later_is_next(yard: Yard) -> None:
    who = yard.worker()
    await yard.create(*(f"c{n}" for n in range(6)))
    assert (await yard.claim(who))[0].card.card_id == "c0"
    assert (await yard.claim(who))[0].card.card_id == "c1"
    await yard.create("first", priority=5)
    assert (await yard.claim(who))[0].card.card_id == "first"
    assert (await yard.claim(who))[0].card.card_id == "c2"


async def test_a_released_card_is_the_next_one_again(yard: Yard) -> None:
    who = yard.worker()
    await yard.create("a", "b", "c")
    (first,) = await yard.claim(who)
    await yard.claim(who)
    await yard.release(who, "a", first.fence)
    assert (await yard.claim(who))[0].card.card_id == "a"


async def test_only_what_a_class_may_take_and_has_all_labels_is_claimed(yard: Yard) -> None:
    await yard.create("review", required_class="review")
    await yard.create("code", required_class="code", labels=["python", "sql"])
    await yard.create("any", labels=["python"])
    code = Filter(("", "code"))
    who = yard.worker()
    assert [one.card.card_id for one in await yard.claim(who, which=Filter(("", "code"), ("python", "sql")))] == [
        "code"
    ]
    assert [one.card.card_id for one in await yard.claim(who, which=code, most=5)] == ["any"]
    assert await yard.claim(who, which=code) == []
    assert [one.card.card_id for one in await yard.claim(who)] == ["review"]


async def test_one_card_is_claimed_by_its_id_and_else_it_is_said_why_not(yard: Yard) -> None:
    await yard.create("a", required_class="review")
    await yard.make([Draft("b", CardContent("b"), ("a",))])
    who = yard.worker()
    with pytest.raises(CardNotReady, match="b cannot be claimed") as told:
        await yard.claim(who, "b")
    assert "1 of the cards that it depends on" in told.value.why
    with pytest.raises(CardNotReady) as told:
        await yard.claim(who, "a", which=Filter(("", "code")))
    assert "class" in told.value.why
    (taken,) = await yard.claim(who, "a")
    assert (taken.card.card_id, taken.fence) == ("a", 1)
    with pytest.raises(CardNotReady) as told:
        await yard.claim(yard.worker("other"), "a")
    assert "agent worker holds it under fence 1" in told.value.why
    with pytest.raises(CardNotFound):
        await yard.claim(who, "nope")


async def test_nothing_of_a_paused_tenant_is_claimed_by_any_way_and_what_is_held_goes_on(yard: Yard) -> None:
    await yard.create("a", "b", "c")
    who = yard.worker()
    (held,) = await yard.claim(who)
    await yard.pause()
    assert await yard.claim(who) == []
    assert await yard.claim(who, most=5) == []
    with pytest.raises(CardNotReady) as told:
        await yard.claim(who, "b")
    assert told.value.why == "the tenant is paused"
    assert (await yard.complete(who, "a", held.fence)).status == "done"
    await yard.pause(paused=False)
    assert [one.card.card_id for one in await yard.claim(who)] == ["b"]


async def test_a_tenant_never_gets_or_sees_the_cards_of_another(yard: Yard) -> None:
    other = yard.of_tenant(await add_tenant(yard.database, "other"), "other")
    await yard.create("ours")
    await other.create("theirs")
    who = yard.worker()
    assert [one.card.card_id for one in await yard.claim(who, most=10)] == ["ours"]
    with pytest.raises(CardNotFound):
        await yard.claim(who, "theirs")
    with pytest.raises(CardNotFound):
        await yard.complete(who, "theirs", 1)
    (theirs,) = await other.claim(other.worker())
    with pytest.raises(CardNotFound):
        await yard.release(who, "theirs", theirs.fence)
    with pytest.raises(CardNotFound):
        await yard.link("ours", "theirs")


async def test_a_repeated_request_gets_the_same_claim_and_a_new_one_another_card(yard: Yard) -> None:
    await yard.create("a", "b", "c", "d")
    who, request_id = yard.worker(), new_id()
    first = await yard.claim(who, request_id=request_id, most=2)
    again = await yard.claim(who, request_id=request_id, most=2)
    assert [(one.card.card_id, one.fence) for one in again] == [(one.card.card_id, one.fence) for one in first]
    assert [one.card.card_id for one in await yard.claim(who)] == ["c"]
    one_id = new_id()
    assert await yard.claim(who, "d", request_id=one_id) is not None
    (repeated,) = await yard.claim(who, "d", request_id=one_id)
    assert (repeated.card.card_id, repeated.fence, repeated.over) == ("d", 1, False)
    assert (await yard.card("a")).fence == 1


async def test_a_repeated_request_whose_claim_has_ended_is_told_so(yard: Yard) -> None:
    await yard.create("a")
    who, request_id = yard.worker(), new_id()
    (first,) = await yard.claim(who, request_id=request_id)
    await yard.release(who, "a", first.fence)
    (again,) = await yard.claim(who, request_id=request_id)
    assert (again.fence, again.over) == (1, True)
    assert (await yard.card("a")).status == "ready"


async def test_one_request_sent_many_times_at_once_is_one_claim(yard: Yard) -> None:
    await yard.create(*(f"c{n}" for n in range(20)))
    who, request_id = yard.worker(), new_id()
    answers = await asyncio.gather(*(yard.claim(who, request_id=request_id) for _ in range(10)))
    assert {(one.card.card_id, one.fence) for taken in answers for one in taken} == {("c0", 1)}


async def test_another_caller_s_request_id_gives_no_claim_of_theirs(yard: Yard) -> None:
    await yard.create("a", "b")
    request_id = new_id()
    await yard.claim(yard.worker("one"), request_id=request_id)
    (other,) = await yard.claim(yard.worker("two"), request_id=request_id)
    assert other.card.card_id == "b"


async def test_completing_frees_what_waited_for_it(yard: Yard) -> None:
    await yard.create("a", "b")
    await yard.make([Draft("c", CardContent("c"), ("a", "b"))])
    who = yard.worker()
    a, b = await yard.claim(who, most=5)
    await yard.complete(who, "a", a.fence)
    assert await yard.claim(who) == []
    await yard.complete(who, "b", b.fence)
    assert [one.card.card_id for one in await yard.claim(who)] == ["c"]
    assert await yard.verify() == []


async def test_a_completion_repeated_is_accepted_and_counted_once(yard: Yard) -> None:
    await yard.create("a")
    await yard.make([Draft("b", CardContent("b"), ("a",))])
    who, request_id = yard.worker(), new_id()
    (a,) = await yard.claim(who)
    for _ in range(3):
        card = await yard.complete(who, "a", a.fence, request_id=request_id, result="merged")
        assert (card.status, card.result) == ("done", "merged")
    assert (await yard.complete(who, "a", a.fence)).status == "done"
    assert await yard.history("a") == ["created", "claimed", "completed"]
    assert (await yard.card("b")).unmet == 0
    assert await yard.verify() == []


async def test_a_superseded_fence_is_refused_with_who_holds_the_card_now(yard: Yard) -> None:
    await yard.create("a")
    slow, quick = yard.worker("slow"), yard.worker("quick")
    (old,) = await yard.claim(slow)
    await yard.run_out("a")
    await yard.reap()
    (new,) = await yard.claim(quick)
    assert new.fence == old.fence + 1
    for write in (
        yard.complete(slow, "a", old.fence),
        yard.release(slow, "a", old.fence),
        yard.block(slow, "a", old.fence),
    ):
        with pytest.raises(FenceSuperseded) as told:
            await write
        assert told.value.why == "agent quick holds it under fence 2"
        assert told.value.details["holder"] == "quick"
    assert (await yard.card("a")).status == "claimed"


async def test_a_late_completion_of_what_nobody_has_taken_is_accepted(yard: Yard) -> None:
    await yard.create("a", "b", "c", attempt_limit=1)
    who = yard.worker()
    a, b, c = await yard.claim(who, most=3)
    await yard.run_out("a")
    assert (await yard.complete(who, "a", a.fence)).status == "done"  # over, but nobody has looked yet
    await yard.run_out("b")
    await yard.reap()
    assert ((await yard.card("b")).status, (await yard.card("b")).expired) == ("blocked", True)
    assert (await yard.complete(who, "b", b.fence)).status == "done"
    await yard.run_out("c")
    await yard.reap()
    assert (await yard.unblock("c")).status == "ready"
    assert (await yard.complete(who, "c", c.fence)).status == "done"


async def test_a_person_blocks_a_card_that_keeps_running_out_and_its_late_holder_does_not(yard: Yard) -> None:
    await yard.create("a")
    anna = actor_of(yard.operator)
    (a,) = await yard.claim(anna)
    await yard.run_out("a")
    await yard.reap()
    for fence in (0, a.fence):
        with pytest.raises(LeaseOver):
            await yard.block(anna, "a", fence)
    who = yard.worker()
    (a,) = await yard.claim(who)
    await yard.run_out("a")
    await yard.reap()
    with pytest.raises(NotHolder):
        await yard.block(yard.worker("stranger"), "a", 0)
    blocked = await yard.block(anna, "a", 0)
    assert (blocked.status, blocked.reason, blocked.fence) == ("blocked", "waits for a key", a.fence + 1)
    with pytest.raises(FenceSuperseded):
        await yard.complete(who, "a", a.fence)
    assert await yard.verify() == []


async def test_a_late_proposal_of_what_nobody_has_taken_is_accepted_and_another_is_not(yard: Yard) -> None:
    await yard.create("a", "b")
    who = yard.worker()
    a, b = await yard.claim(who, most=2)
    await yard.run_out("a", "b")
    await yard.reap()
    await yard.claim(yard.worker("next"), "b")
    propose = yard.backlog.transitions.propose
    card = await propose(yard.tenant_id, Under(new_id(), who, "a", a.fence), Proposal(head="abc"))
    assert (card.status, card.head) == ("review", "abc")
    with pytest.raises(FenceSuperseded):
        await propose(yard.tenant_id, Under(new_id(), who, "b", b.fence), Proposal(head="abc"))


async def test_a_renewal_that_is_repeated_tells_of_the_callers_own_claim_alone(yard: Yard) -> None:
    await yard.create("a")
    who, other = yard.worker(), yard.worker()
    (a,) = await yard.claim(who)
    under, renew = Under(new_id(), who, "a", a.fence), yard.backlog.transitions.renew
    first, again = await renew(yard.tenant_id, under), await renew(yard.tenant_id, under)
    assert first.lease_until
    assert again.lease_until
    assert again.lease_until >= first.lease_until
    await yard.run_out("a")
    await yard.reap()
    (theirs,) = await yard.claim(other)
    with pytest.raises(FenceSuperseded):
        await renew(yard.tenant_id, under)
    assert (await yard.card("a")).fence == theirs.fence


async def test_renew_release_and_block_need_a_lease_that_is_live(yard: Yard) -> None:
    await yard.create("a")
    who = yard.worker()
    (a,) = await yard.claim(who)
    await yard.run_out("a")

    def writes() -> list[Awaitable[object]]:
        renewal = yard.backlog.transitions.renew(yard.tenant_id, Under(new_id(), who, "a", a.fence))
        return [renewal, yard.release(who, "a", a.fence), yard.block(who, "a", a.fence)]

    for reaped in (False, True):
        if reaped:
            await yard.reap()
        for write in writes():
            with pytest.raises(LeaseOver):
                await write


async def test_a_fence_rises_on_release_and_block_so_that_the_same_holder_cannot_write_late(yard: Yard) -> None:
    await yard.create("a")
    who, request_id = yard.worker(), new_id()
    (a,) = await yard.claim(who)
    released = await yard.release(who, "a", a.fence, request_id=request_id)
    assert released.fence == a.fence + 1
    assert (await yard.release(who, "a", a.fence, request_id=request_id)).fence == released.fence  # lost and repeated
    with pytest.raises(FenceSuperseded):
        await yard.complete(who, "a", a.fence)
    (a,) = await yard.claim(who)
    assert (await yard.block(who, "a", a.fence)).fence == a.fence + 1
    with pytest.raises(FenceSuperseded):
        await yard.complete(who, "a", a.fence)


async def test_nobody_writes_under_the_claim_of_another_even_with_its_fence(yard: Yard) -> None:
    await yard.create("a")
    (a,) = await yard.claim(yard.worker())
    stranger = yard.worker("stranger")
    for write in (
        yard.complete(stranger, "a", a.fence),
        yard.release(stranger, "a", a.fence),
        yard.complete(stranger, "a", 0),
    ):
        with pytest.raises(NotHolder):
            await write
    operator = actor_of(yard.operator)
    assert (await yard.complete(operator, "a", a.fence)).status == "done"


async def test_without_a_card_and_a_fence_the_run_s_own_claim_is_meant(yard: Yard) -> None:
    await yard.create("a", "b")
    who = yard.worker()
    with pytest.raises(NotHolder, match="you hold no card"):
        await yard.complete(who, "", 0)
    await yard.claim(who)
    assert (await yard.complete(who, "", 0)).card_id == "a"
    await yard.claim(who)
    reset = Actor("agent", who.id, who.name, new_id())
    with pytest.raises(NotHolder):
        await yard.release(reset, "", 0)
    assert (await yard.release(who, "", 0)).card_id == "b"


async def test_a_repeated_completion_without_a_card_is_of_the_card_that_was_held_then(yard: Yard) -> None:
    await yard.create("a", "b")
    who, request_id = yard.worker(), new_id()
    await yard.claim(who)
    assert (await yard.complete(who, "", 0, request_id=request_id)).card_id == "a"
    assert (await yard.complete(who, "", 0, request_id=request_id)).card_id == "a"
    await yard.claim(who)
    assert (await yard.complete(who, "", 0, request_id=request_id)).card_id == "a"
    assert (await yard.card("b")).status == "claimed"


async def test_what_is_done_without_a_name_is_what_was_held_before_the_next_card(yard: Yard) -> None:
    await yard.create("a", "b")
    who, request_id = yard.worker(), new_id()
    await yard.claim(who)
    for _ in range(2):  # the second time as a client that lost the answer
        done = Completion("", 0, who, request_id, place=-1)
        ((_, card),), taken = await yard.backlog.work(yard.tenant_id, [done], Wish(request_id, who))
        assert isinstance(card, CardRow)
        assert (card.card_id, card.status) == ("a", "done")
        assert [one.card.card_id for one in taken] == ["b"]
    ((_, refused),), _ = await yard.backlog.work(
        yard.tenant_id, [Completion("", 0, yard.worker("idle"), new_id(), place=-1)], None
    )
    assert isinstance(refused, NotHolder)


async def test_a_named_card_is_waited_for_and_one_that_has_ended_is_not(yard: Yard) -> None:
    await yard.create("a")
    await yard.make([Draft("b", CardContent("b"), ("a",))])
    who = yard.worker()
    (a,) = await yard.claim(who)
    listening = asyncio.create_task(yard.wakes.run())
    try:
        waiting = asyncio.create_task(yard.claim(yard.worker("next"), "b", wait=timedelta(seconds=60)))
        while not await yard.database.pool.fetchval("select bool_or(watching) from fleet.replica"):
            await asyncio.sleep(0.01)
        await yard.complete(who, "a", a.fence)
        async with asyncio.timeout(30):
            (taken,) = await waiting
        assert taken.card.card_id == "b"
        async with asyncio.timeout(30):
            with pytest.raises(CardNotReady, match="a cannot be claimed"):
                await yard.claim(who, "a", wait=timedelta(hours=1))
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_gated_card_is_proposed_by_its_worker_and_completed_by_its_gate(yard: Yard) -> None:
    await yard.create("a", gated=True)
    who = yard.worker()
    (a,) = await yard.claim(who)
    with pytest.raises(CardGated):
        await yard.complete(who, "a", a.fence)
    proposal = Proposal(branch="a-branch", head="abc", pull_request="#1")
    card = await yard.backlog.transitions.propose(yard.tenant_id, Under(new_id(), who, "a", a.fence), proposal)
    assert (card.status, card.branch, card.head, card.pull_request) == ("review", "a-branch", "abc", "#1")
    with pytest.raises(CardGated):
        await yard.complete(who, "a", a.fence)
    gate = actor_of(yard.agent("gate", role="merge-gate"))
    assert (await yard.complete(gate, "a", 0)).status == "done"
    assert await yard.history("a") == ["created", "claimed", "proposed", "completed"]


async def test_a_refused_proposal_goes_back_and_its_fence_is_superseded(yard: Yard) -> None:
    await yard.create("a")
    who = yard.worker()
    (a,) = await yard.claim(who)
    await yard.backlog.transitions.propose(yard.tenant_id, Under(new_id(), who, "a", a.fence), Proposal())
    gate = actor_of(yard.agent("gate", role="merge-gate"))
    card = await yard.release(gate, "a", 0, reason="no test")
    assert (card.status, card.reason, card.fence) == ("ready", "no test", a.fence + 1)


async def test_what_is_done_or_not_claimed_takes_no_write(yard: Yard) -> None:
    await yard.create("a", "b")
    who = yard.worker()
    with pytest.raises(CardNotClaimed):
        await yard.complete(who, "a", 1)
    (a,) = await yard.claim(who)
    await yard.complete(who, "a", a.fence)
    with pytest.raises(CardEnded):
        await yard.release(who, "a", a.fence)
    with pytest.raises(CardEnded):
        await yard.complete(yard.worker("other"), "a", a.fence)


async def test_a_request_id_used_for_another_card_is_refused_and_spoils_nothing_of_its_batch(yard: Yard) -> None:
    await yard.create("a", "b", "c")
    who, other, request_id = yard.worker(), yard.worker("other"), new_id()
    a, b = await yard.claim(who, most=2)
    (c,) = await yard.claim(other)
    await yard.complete(who, "a", a.fence, request_id=request_id)
    refused, done = await asyncio.gather(
        yard.complete(who, "b", b.fence, request_id=request_id),
        yard.complete(other, "c", c.fence),
        return_exceptions=True,
    )
    assert isinstance(refused, RequestReused)
    assert not isinstance(done, BaseException)
    assert (await yard.card("b")).status == "claimed"


async def test_leases_begin_by_the_database_s_clock_and_no_lease_goes_beyond_the_card_s_limit(yard: Yard) -> None:
    await yard.create("a", time_limit=timedelta(minutes=10))
    (a,) = await yard.claim(yard.worker(), lease=timedelta(hours=2))
    assert a.card.lease_until == a.card.renew_until
    assert a.card.claimed_at is not None
    assert a.card.renew_until == a.card.claimed_at + timedelta(minutes=10)


async def test_what_happens_to_a_card_is_in_its_history_by_whom_and_under_which_fence(yard: Yard) -> None:
    await yard.create("a")
    who = yard.worker()
    (a,) = await yard.claim(who)
    await yard.release(who, "a", a.fence, reason="needs a key")
    shown = await yard.backlog.views.show(yard.tenant_id, card_id="a", actor=who)
    assert [(one.kind, one.status, one.fence, one.actor_name, one.reason) for one in shown.history] == [
        ("created", "ready", 0, "anna", ""),
        ("claimed", "claimed", 1, "worker", ""),
        ("released", "ready", 2, "worker", "needs a key"),
    ]
    assert [one.run_id for one in shown.history] == [None, who.run_id, who.run_id]
