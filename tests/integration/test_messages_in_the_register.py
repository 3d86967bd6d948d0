"""Messages in the register: queued once, offered once a link, and a step only ever rises."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import host_events, rosters
from mosaic_controlplane.mesh.held_link import HelloFacts
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.messages import Draft, MessageReused, Messages, MessageTooLarge
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import message
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.host import LinkKey
from mosaic_framework.errors import Ambiguous, InvalidInput, NotFound
from mosaic_framework.ids import new_id

from tests.support.register_rows import Site, make_site, wanted_seat

STEPS = ("queued", "dispatched", "typed", "submitted", "accepted", "turn_started", "turn_ended")
ENDS = ("failed", "expired", "cancelled", "unknown")


@pytest.fixture
async def site(database: Database) -> Site:
    site = await make_site(database)
    await site.apply("coder0", "coder1")
    return site


@pytest.fixture
def messages(site: Site) -> Messages:
    return Messages(site.database, Wakes(site.database, site.replica_id))


async def send(site: Site, messages: Messages, body: str = "hello", *, to: str = "coder0", **more: object) -> UUID:
    draft = Draft(new_id(), to, body, **more)  # type: ignore[arg-type]
    await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    return draft.message_id


async def step(site: Site, message_id: UUID, name: str) -> bool:
    async with site.database.connection() as connection:
        return await message.step(
            connection,
            tenant_id=site.tenant_id,
            host_id=site.host_id,
            message_id=message_id,
            name=name,
            reason="",
            age=timedelta(0),
            source="screen",
            detail="seen",
        )


async def offered(site: Site, link: LinkKey) -> list[UUID]:
    async with site.database.connection() as connection:
        return [offer.message_id for offer in await message.offer(connection, link)]


async def state(site: Site, messages: Messages, message_id: UUID) -> str:
    return (await messages.receipt(tenant_id=site.tenant_id, message_id=message_id)).step


async def test_steps_only_rise_and_only_unknown_may_be_settled_later(database: Database) -> None:
    for old, new in product((*STEPS, *ENDS), repeat=2):
        async with database.connection() as connection:
            may = await connection.fetchval("select fleet.step_may_follow($1, $2)", old, new)
        if old in ("failed", "expired", "cancelled", "turn_ended"):
            expected = False
        elif old == "unknown":
            expected = new in ("submitted", "accepted", "turn_started", "turn_ended", "failed", "expired")
        elif new in ENDS:
            expected = old in ("queued", "dispatched", "typed")
        else:
            expected = STEPS.index(new) > STEPS.index(old)
        assert may is expected, (old, new)


async def test_a_step_that_is_no_rise_is_not_taken_and_leaves_no_trace(site: Site, messages: Messages) -> None:
    message_id = await send(site, messages)
    assert await step(site, message_id, "submitted")
    for name in ("queued", "dispatched", "typed", "submitted", "failed", "expired", "cancelled", "unknown"):
        assert not await step(site, message_id, name), name
    receipt = await messages.receipt(tenant_id=site.tenant_id, message_id=message_id)
    assert (receipt.step, [made.step for made in receipt.steps]) == ("submitted", ["queued", "submitted"])
    assert await step(site, message_id, "accepted")


async def test_the_same_message_sent_again_is_one_message_with_its_first_receipt(
    site: Site, messages: Messages
) -> None:
    draft = Draft(new_id(), "coder0", "hello")
    first = await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    again = await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    assert again.seat_seq == first.seat_seq
    assert len(await messages.list(tenant_id=site.tenant_id, address="", open_only=False, limit=10)) == 1


@pytest.mark.parametrize("change", [{"body": "other"}, {"to": "coder1"}, {"thread_id": UUID(int=1)}])
async def test_a_message_id_used_for_another_payload_is_a_conflict(
    site: Site, messages: Messages, change: dict[str, object]
) -> None:
    message_id = await send(site, messages)
    other = Draft(**{"message_id": message_id, "to": "coder0", "body": "hello", **change})  # type: ignore[arg-type]
    with pytest.raises(MessageReused):
        await messages.send(other, caller=site.operator, tenant_id=site.tenant_id)


@pytest.mark.parametrize("body", ["hello", "other"])
async def test_a_message_id_that_another_caller_has_used_is_a_conflict_that_tells_nothing_of_it(
    site: Site, messages: Messages, body: str
) -> None:
    message_id = await send(site, messages)
    ben = replace(site.operator, id=new_id(), name="ben")
    with pytest.raises(MessageReused) as refused:
        await messages.send(Draft(message_id, "coder0", body), caller=ben, tenant_id=site.tenant_id)
    assert (refused.value.why, refused.value.details) == ("", {"message_id": str(message_id)})
    (kept,) = await messages.list(tenant_id=site.tenant_id, address="", open_only=False, limit=10)
    assert kept.sender_name == "anna"


async def test_a_message_over_256_kib_is_refused_and_one_of_256_kib_is_taken(site: Site, messages: Messages) -> None:
    await send(site, messages, "é" * (128 * 1024))
    with pytest.raises(MessageTooLarge, match="larger than 256 KiB"):
        await send(site, messages, "é" * (128 * 1024) + "x")


@pytest.mark.parametrize("body", ["", "  \n", "nul\x00inside"])
async def test_a_text_that_no_agent_can_read_is_refused(site: Site, messages: Messages, body: str) -> None:
    with pytest.raises(InvalidInput):
        await send(site, messages, body)


async def test_an_unknown_agent_is_not_found_and_the_nearest_names_are_told(site: Site, messages: Messages) -> None:
    with pytest.raises(NotFound) as found:
        await send(site, messages, to="codr0")
    assert "coder0" in found.value.why


async def test_a_name_on_two_hosts_is_ambiguous_until_the_host_is_said(site: Site, messages: Messages) -> None:
    async with site.database.connection() as connection:
        await connection.execute(
            "insert into fleet.host (tenant_id, host_id, name) values ($1, $2, 'beta')", site.tenant_id, new_id()
        )
        await connection.execute(
            "insert into fleet.agent (tenant_id, agent_id, host_id, name, class, runtime, spec, spec_digest)"
            " select tenant_id, $2, host_id, 'coder0', 'worker', 'shell', '', '' from fleet.host"
            " where tenant_id = $1 and name = 'beta'",
            site.tenant_id,
            new_id(),
        )
    with pytest.raises(Ambiguous) as found:
        await send(site, messages)
    assert found.value.details["candidates"] == "alpha/coder0 beta/coder0"
    await send(site, messages, to="alpha/coder0")


async def test_messages_of_a_seat_are_offered_in_the_order_they_were_sent_and_once_a_link(
    site: Site, messages: Messages
) -> None:
    sent = [await send(site, messages, f"number {n}") for n in range(5)]
    link = await site.link()
    assert await offered(site, link) == sent
    assert await offered(site, link) == []


async def test_nothing_is_offered_before_the_host_has_written_the_links_epoch(site: Site, messages: Messages) -> None:
    await send(site, messages)
    assert await offered(site, await site.link(ready=False)) == []


async def test_a_superseded_link_is_offered_nothing(site: Site, messages: Messages) -> None:
    old = await site.link()
    await site.link(journal_epoch=old.link_epoch)
    await send(site, messages)
    assert await offered(site, old) == []


async def test_what_was_not_acknowledged_is_offered_again_on_the_next_link(site: Site, messages: Messages) -> None:
    message_id = await send(site, messages)
    link = await site.link()
    assert await offered(site, link) == [message_id]
    assert await offered(site, await site.link(journal_epoch=link.link_epoch)) == [message_id]


async def test_what_was_dispatched_is_never_offered_again(site: Site, messages: Messages) -> None:
    message_id = await send(site, messages)
    link = await site.link()
    await offered(site, link)
    assert await step(site, message_id, "dispatched")
    assert await offered(site, await site.link(journal_epoch=link.link_epoch)) == []


@pytest.mark.parametrize("replaced", ["another journal", "the same journal, restored from before the link"])
async def test_what_a_lost_journal_held_becomes_unknown_and_what_it_never_had_is_sent(
    site: Site, messages: Messages, replaced: str
) -> None:

    offered_only, dispatched, typed = [await send(site, messages, f"number {n}") for n in range(3)]
    link = await site.link()
    await offered(site, link)
    await step(site, dispatched, "dispatched")
    await step(site, typed, "typed")
    untouched = await send(site, messages, "after")

    links = Links(site.database, Wakes(site.database, site.replica_id), site.replica_id)
    host = Caller("host", site.tenant_id, "default", site.host_id, "alpha", "", 1, "")
    other = replaced == "another journal"
    hello = HelloFacts(
        journal_id=new_id() if other else site.journal_id,
        journal_epoch=link.link_epoch if other else link.link_epoch - 1,
        journal_sequence=None,
        version="0",
        machine="m",
        observed_generation=0,
    )
    key, opened = await links.open(host, hello)
    assert opened.journal_replaced
    await links.ready(key)
    assert [await state(site, messages, known) for known in (offered_only, dispatched, typed)] == ["unknown"] * 3
    assert await offered(site, key) == [untouched]


async def test_a_journal_that_has_the_newest_epoch_keeps_its_messages(site: Site, messages: Messages) -> None:
    message_id = await send(site, messages)
    link = await site.link()
    await offered(site, link)
    await step(site, message_id, "dispatched")
    async with site.database.transaction() as connection:
        opened = await host_table.open_link(
            connection,
            tenant_id=site.tenant_id,
            host_id=site.host_id,
            identity_epoch=1,
            replica_id=site.replica_id,
            journal_id=site.journal_id,
            journal_epoch=link.link_epoch,
            journal_sequence=None,
            version="0",
            machine="m",
            observed_generation=0,
        )
    assert not opened.journal_replaced
    assert await state(site, messages, message_id) == "dispatched"


async def test_past_its_deadline_a_message_no_host_was_given_expires_and_an_offered_one_stays_open(
    site: Site, messages: Messages
) -> None:
    given = await send(site, messages, deadline=timedelta(seconds=30))
    await offered(site, await site.link())
    kept = await send(site, messages, deadline=timedelta(seconds=30))
    async with site.database.connection() as connection:
        await connection.execute("update fleet.message set deadline_at = deadline_at - interval '31 seconds'")
        ended = await message.expire(connection)
    assert ended == [(site.tenant_id, kept)]
    assert await state(site, messages, kept) == "expired"
    assert await state(site, messages, given) == "queued"


async def test_an_offered_message_nobody_answers_for_becomes_unknown_and_its_host_may_settle_it(
    site: Site, messages: Messages
) -> None:
    message_id = await send(site, messages, deadline=timedelta(seconds=30))
    await offered(site, await site.link())
    async with site.database.connection() as connection:
        await connection.execute("update fleet.message set deadline_at = deadline_at - interval '150 seconds'")
        await message.expire(connection)
    assert await state(site, messages, message_id) == "unknown"
    assert await step(site, message_id, "submitted")
    assert await state(site, messages, message_id) == "submitted"


async def test_messages_for_a_removed_seat_fail_unless_a_host_has_them(site: Site, messages: Messages) -> None:
    with_host = await send(site, messages, to="coder1")
    await offered(site, await site.link())
    waiting = await send(site, messages, to="coder1")
    async with site.database.transaction() as connection:
        await rosters.apply(
            connection,
            tenant_id=site.tenant_id,
            document="{}",
            wanted=[wanted_seat("coder0")],
            base_version=1,
            default_host="",
            applied_by="anna",
        )
    assert await state(site, messages, waiting) == "failed"
    assert await state(site, messages, with_host) == "queued"


async def test_a_prefix_finds_its_one_message_and_says_when_it_fits_several(site: Site, messages: Messages) -> None:
    ids = [await send(site, messages) for _ in range(2)]
    found = await messages.find(tenant_id=site.tenant_id, prefix=str(ids[0]))
    assert found.message_id == ids[0]
    with pytest.raises(Ambiguous):
        await messages.find(tenant_id=site.tenant_id, prefix=ids[0].hex[:4])
    for rubbish in ("", "zz", "x" * 400, str(new_id())):
        with pytest.raises(NotFound):
            await messages.find(tenant_id=site.tenant_id, prefix=rubbish)


async def test_another_tenants_messages_are_not_there(site: Site, messages: Messages) -> None:
    message_id = await send(site, messages)
    with pytest.raises(NotFound):
        await messages.receipt(tenant_id=new_id(), message_id=message_id)


async def test_a_host_cannot_step_a_message_of_another_host(site: Site, messages: Messages) -> None:
    message_id = await send(site, messages)
    async with site.database.connection() as connection:
        taken = await message.step(
            connection,
            tenant_id=site.tenant_id,
            host_id=new_id(),
            message_id=message_id,
            name="submitted",
            reason="",
            age=timedelta(0),
            source="screen",
            detail="",
        )
    assert not taken


@pytest.mark.parametrize(
    ("sequence", "epoch", "replaced", "disowned"),
    [
        (7, 0, False, False),
        (9, 0, False, False),
        (None, 0, False, False),
        (6, 0, True, True),
        (0, 0, True, True),
        (9, -1, True, True),
    ],
    ids=["newest", "newer", "does not tell", "one less", "from the start", "of an older link"],
)
async def test_a_journal_that_knows_less_than_the_register_has_of_it_is_an_older_one_restored(
    site: Site, sequence: int | None, epoch: int, replaced: bool, disowned: bool
) -> None:
    link = await site.link()
    wakes = Wakes(site.database, site.replica_id)
    for newest in (7, 5):  # repeats of what is known do not lower it
        await host_events.record(site.database, wakes, link, [], newest=newest)
    opened = await open_link(site, site.journal_id, sequence, link.link_epoch + epoch)
    assert (opened.journal_replaced, opened.journal_disowned) == (replaced, disowned)


async def test_a_new_journal_is_not_disowned_and_counts_from_its_own_start(site: Site) -> None:
    link = await site.link()
    wakes = Wakes(site.database, site.replica_id)
    await host_events.record(site.database, wakes, link, [], newest=7)
    journal = new_id()
    opened = await open_link(site, journal, 0, 0)
    assert (opened.journal_replaced, opened.journal_disowned) == (True, False)
    again = await open_link(site, journal, 0, 0)
    assert (again.journal_replaced, again.journal_disowned) == (False, False)


async def test_a_journal_of_another_id_that_has_a_past_is_disowned(site: Site) -> None:
    link = await site.link()
    opened = await open_link(site, new_id(), 100, link.link_epoch)
    assert (opened.journal_replaced, opened.journal_disowned) == (True, True)


async def open_link(site: Site, journal_id: UUID, sequence: int | None, epoch: int) -> host_table.OpenedLink:
    async with site.database.transaction() as connection:
        return await host_table.open_link(
            connection,
            tenant_id=site.tenant_id,
            host_id=site.host_id,
            identity_epoch=1,
            replica_id=site.replica_id,
            journal_id=journal_id,
            journal_epoch=epoch,
            journal_sequence=sequence,
            version="0",
            machine="m",
            observed_generation=0,
        )
