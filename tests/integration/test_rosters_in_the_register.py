"""Desired state: applied by compare-and-set, raised by generation, told by the change stream."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from mosaic_controlplane.mesh import rosters, watch
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import agent, briefing, change, host, replica, request, roster
from mosaic_controlplane.register.agent import AgentRow, SeatReportRow
from mosaic_controlplane.register.change import Cursor
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.replica import WakeKey
from mosaic_controlplane.register.request import RequestReused
from mosaic_framework.errors import InvalidInput, NotFound, RosterChanged
from mosaic_framework.ids import new_id
from mosaic_proto.v1.seeding_pb2 import Briefing, BriefingText

from tests.support.register_rows import Site, make_site, wanted_seat


@pytest.fixture
async def site(database: Database) -> Site:
    return await make_site(database)


async def apply(
    site: Site, *names: str, base: int, model: str = "", on: str = "", texts: Briefing | None = None
) -> rosters.Applied:
    async with site.database.transaction() as connection:
        return await rosters.apply(
            connection,
            tenant_id=site.tenant_id,
            document='{"version": 1}',
            wanted=[wanted_seat(name, model=model, host_name=on) for name in names],
            base_version=base,
            default_host="",
            applied_by="anna",
            briefing=texts,
        )


async def test_an_apply_tells_what_was_added_changed_removed_and_left_alone(site: Site) -> None:
    first = await apply(site, "a", "b", base=0)
    assert {(c.name, c.change) for c in first.changes} == {("a", "added"), ("b", "added")}
    again = await apply(site, "a", "b", base=1)
    assert {c.change for c in again.changes} == {"unchanged"}
    assert again.generations == {}
    moved = await apply(site, "b", "c", base=2, model="big")
    assert {(c.name, c.change) for c in moved.changes} == {("a", "removed"), ("b", "changed"), ("c", "added")}


async def test_a_preview_says_what_an_apply_would_do_even_to_a_seat_that_differs_only_by_its_contract(
    site: Site,
) -> None:
    await apply(site, "a", "b", base=0)
    other = wanted_seat("b")
    other = replace(other, row=replace(other.row, spec_digest=b"another contract"))
    async with site.database.connection() as connection:
        version, changes = await rosters.preview(
            connection, tenant_id=site.tenant_id, wanted=[other, wanted_seat("c")], default_host=""
        )
        rows = await agent.list_agents(connection, tenant_id=site.tenant_id)
    assert version == 1
    assert {(c.name, c.change) for c in changes} == {("a", "removed"), ("b", "changed"), ("c", "added")}
    assert [row.name for row in rows] == ["a", "b"]


def told(user: str) -> Briefing:
    return Briefing(texts=[BriefingText(name="user", text=user, digest="not believed")])


async def briefing_of(site: Site) -> Briefing:
    async with site.database.connection() as connection:
        return Briefing.FromString(await briefing.get(connection, tenant_id=site.tenant_id))


async def test_a_roster_makes_its_seats_the_peers_of_one_another(site: Site) -> None:
    await apply(site, "b", "a", base=0)
    assert [(peer.host, peer.name) for peer in (await briefing_of(site)).peers] == [("alpha", "a"), ("alpha", "b")]


async def test_a_text_for_all_agents_reaches_every_host_and_changes_no_seat(site: Site) -> None:
    await apply(site, "a", base=0)
    done = await apply(site, "a", base=1, texts=told("Anna."))
    assert ([c.change for c in done.changes], done.briefing_changes) == (["unchanged"], ["user"])
    assert done.generations == {}  # nothing to wait for
    assert WakeKey.host(site.tenant_id, site.host_id) in done.wakes
    (kept,) = (await briefing_of(site)).texts
    assert (kept.text, kept.digest) == ("Anna.", hashlib.sha256(b"Anna.").hexdigest())
    again = await apply(site, "a", base=2, texts=told("Anna."))
    assert again.briefing_changes == []
    assert WakeKey.host(site.tenant_id, site.host_id) not in again.wakes


async def test_of_two_edits_of_one_version_the_second_is_refused(site: Site) -> None:
    await apply(site, "a", base=0)
    with pytest.raises(RosterChanged, match="since the one this edit started from"):
        await apply(site, "b", base=0)


async def test_two_applies_at_once_give_two_versions_or_one_refusal(site: Site) -> None:
    outcomes = await asyncio.gather(*(apply(site, f"a{n}", base=0) for n in range(4)), return_exceptions=True)
    assert sum(isinstance(outcome, rosters.Applied) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, RosterChanged) for outcome in outcomes) == 3


async def test_a_seat_on_a_host_that_never_joined_is_refused_and_nothing_is_applied(site: Site) -> None:
    with pytest.raises(NotFound, match="alpah"):
        await apply(site, "a", base=0, on="alpah")
    async with site.database.connection() as connection:
        assert await agent.list_agents(connection, tenant_id=site.tenant_id) == []


async def add_host(site: Site, name: str) -> None:
    async with site.database.connection() as connection:
        await connection.execute(
            "insert into fleet.host (tenant_id, host_id, name, state) values ($1, $2, $3, 'live')",
            site.tenant_id,
            new_id(),
            name,
        )


async def move(site: Site, *, staying: str = "b", force: bool = False) -> rosters.Applied:
    """Apply a second roster, which has agent a on beta and the others where they were."""
    async with site.database.transaction() as connection:
        return await rosters.apply(
            connection,
            tenant_id=site.tenant_id,
            document="{}",
            wanted=[wanted_seat("a", host_name="beta"), *(wanted_seat(name, host_name="alpha") for name in staying)],
            base_version=1,
            default_host="",
            applied_by="anna",
            force_moves=force,
        )


@pytest.mark.parametrize("state", ["stale", "lost", "revoked"])
async def test_an_agent_is_moved_off_a_host_that_cannot_be_reached_only_by_force(site: Site, state: str) -> None:
    await add_host(site, "beta")
    await apply(site, "a", "b", base=0, on="alpha")
    async with site.database.connection() as connection:
        await connection.execute("update fleet.host set state = $1 where name = 'alpha'", state)
    staying = "" if state == "revoked" else "b"  # nobody can be placed on a host that was revoked
    with pytest.raises(rosters.SeatOutOfReach, match="agent a may still run on host alpha") as refused:
        await move(site, staying=staying)
    assert "twice" in refused.value.why
    assert "--force" in refused.value.next_step
    async with site.database.connection() as connection:
        assert [row.host for row in await agent.list_agents(connection, tenant_id=site.tenant_id)] == ["alpha"] * 2
    changes = (await move(site, staying=staying, force=True)).changes
    assert {("a", "added"), ("a", "removed")} <= {(c.name, c.change) for c in changes}


async def test_an_agent_that_its_host_tried_to_end_and_could_not_look_for_is_not_moved_off_it(site: Site) -> None:
    await add_host(site, "beta")
    await apply(site, "a", "b", base=0, on="alpha")
    async with site.database.connection() as connection:
        await connection.execute("update fleet.host set state = 'lost' where name = 'alpha'")
        await connection.execute(
            "update fleet.agent set desired_running = false, observed_generation = generation, state = 'unknown' "
            "where name = 'a'"
        )
    with pytest.raises(rosters.SeatOutOfReach):
        await move(site)


@pytest.mark.parametrize("why", ["its host is there", "it stands still"])
async def test_an_agent_that_cannot_run_twice_is_moved_at_once(site: Site, why: str) -> None:
    await add_host(site, "beta")
    await apply(site, "a", "b", base=0, on="alpha")
    async with site.database.connection() as connection:
        await connection.execute("update fleet.host set state = 'live'")
        if why == "it stands still":
            await connection.execute("update fleet.host set state = 'lost' where name = 'alpha'")
            await connection.execute(
                "update fleet.agent set desired_running = false, observed_generation = generation, state = 'exited' "
                "where name = 'a'"
            )
    assert {("beta", "a", "added"), ("alpha", "a", "removed")} <= {
        (c.host, c.name, c.change) for c in (await move(site)).changes
    }


async def test_a_seat_without_a_host_is_refused_when_there_are_several(site: Site) -> None:
    async with site.database.connection() as connection:
        await connection.execute(
            "insert into fleet.host (tenant_id, host_id, name) values ($1, $2, 'beta')", site.tenant_id, new_id()
        )
    with pytest.raises(InvalidInput, match="names no host"):
        await apply(site, "a", base=0)


@pytest.mark.parametrize("document", ['{"a": "\\u0000"}', '{"a": NaN}', "[" * 50_000 + "]" * 50_000])
async def test_a_document_that_the_register_cannot_keep_is_refused_in_words(site: Site, document: str) -> None:
    async with site.database.connection() as connection:
        with pytest.raises(InvalidInput, match="cannot be kept"):
            await roster.add(connection, tenant_id=site.tenant_id, version=1, document=document, applied_by="anna")


async def test_a_restart_raises_the_seat_and_its_host_by_one_generation(site: Site) -> None:
    await apply(site, "a", "b", base=0)
    async with site.database.transaction() as connection:
        acted = await rosters.act(connection, tenant_id=site.tenant_id, action="restart", targets=["alpha/a"])
        seats = await agent.seats_of_host(connection, tenant_id=site.tenant_id, host_id=site.host_id)
        await rosters.act(connection, tenant_id=site.tenant_id, action="restart", targets=["alpha/a"])
        again = await agent.seats_of_host(connection, tenant_id=site.tenant_id, host_id=site.host_id)
    assert acted.generations == {"alpha": 2}
    assert [seat.generation for seat in seats] == [2, 1]
    assert [seat.restart for seat in (seats[1], again[1])] == [0, 0]
    assert 0 < seats[0].restart < again[0].restart, "each restart has a number of its own"


async def test_a_write_repeated_under_its_request_id_is_carried_out_once(site: Site) -> None:
    request_id, calls = new_id(), 0

    async def write() -> bytes:
        nonlocal calls
        calls += 1
        return b"reply"

    async def call(payload: bytes) -> bytes:
        async with site.database.transaction() as connection:
            return await request.once(
                connection,
                tenant_id=site.tenant_id,
                caller="operator:1",
                request_id=request_id,
                method="m",
                payload=payload,
                write=write,
            )

    assert await asyncio.gather(*(call(b"same") for _ in range(5))) == [b"reply"] * 5
    assert calls == 1
    with pytest.raises(RequestReused):
        await call(b"other")


async def test_a_silent_host_turns_stale_after_three_beats_then_lost_and_a_beat_brings_it_back(site: Site) -> None:
    link = await site.link()

    async def tick() -> list[str]:
        async with site.database.transaction() as connection:
            return [state for *_, state in await host.tick(connection)]

    assert await tick() == []
    await site.age_host(timedelta(seconds=16))
    assert await tick() == ["stale"]
    await site.age_host(timedelta(seconds=50))
    assert await tick() == ["lost"]
    async with site.database.transaction() as connection:
        revived = await host.flush_beats(connection, {link: timedelta(seconds=0.1)})
        rows = await host.list_hosts(connection, tenant_id=site.tenant_id)
    assert revived == [site.tenant_id]
    assert rows[0].state == "live"


async def test_after_the_control_planes_own_absence_no_host_is_blamed(site: Site) -> None:
    await site.link()
    await site.age_host(timedelta(seconds=300))
    async with site.database.transaction() as connection:
        await connection.execute("update fleet.cluster set liveness_tick_at = now() - interval '300 seconds'")
    async with site.database.transaction() as connection:
        assert await host.tick(connection) == []


async def test_a_beat_of_a_superseded_link_counts_for_nothing(site: Site) -> None:
    old = await site.link()
    await site.link(journal_epoch=old.link_epoch)
    await site.age_host(timedelta(seconds=16))
    async with site.database.transaction() as connection:
        await host.flush_beats(connection, {old: timedelta(0)})
        assert [state for *_, state in await host.tick(connection)] == ["stale"]


async def report(site: Site, name: str, state: str) -> None:
    row = SeatReportRow(await site.agent_id(name), state, "process", "", timedelta(0), None, 0, "", "", None, 1)
    async with site.database.transaction() as connection:
        await agent.report_seats(connection, tenant_id=site.tenant_id, host_id=site.host_id, reports=[row])
    async with site.database.connection() as connection:
        await replica.notify(connection, [WakeKey.change(site.tenant_id)])


class Watcher:
    """Collects what a watch yields, until told to stop."""

    def __init__(self, site: Site, resume: Cursor | None = None) -> None:
        self.seen: list[watch.Watched] = []
        self._more = asyncio.Event()
        self.wakes = Wakes(site.database, site.replica_id)
        self._site, self._resume = site, resume

    async def __aenter__(self) -> Watcher:
        self._listening = asyncio.create_task(self.wakes.run())
        self._task = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._task, self._listening):
            task.cancel()
        await asyncio.gather(self._task, self._listening, return_exceptions=True)

    async def _collect(self) -> None:
        stream = watch.watch(
            self._site.database,
            self.wakes,
            tenant_id=self._site.tenant_id,
            register_epoch=self._site.register_epoch,
            resume=self._resume,
        )
        async for watched in stream:
            self.seen.append(watched)
            self._more.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.completes() < count:
                self._more.clear()
                await self._more.wait()

    async def until_state(self, name: str, state: str) -> None:
        async with asyncio.timeout(20):
            while (name, state) not in self.states():
                self._more.clear()
                await self._more.wait()

    def completes(self) -> int:
        return sum(isinstance(watched.what, watch.Complete) for watched in self.seen)

    def states(self) -> list[tuple[str, str]]:
        return [(w.what.name, w.what.state) for w in self.seen if isinstance(w.what, AgentRow)]


async def test_a_watcher_gets_the_snapshot_then_each_change(site: Site) -> None:
    await apply(site, "a", "b", base=0)
    async with Watcher(site) as watcher:
        await watcher.until(1)
        assert watcher.states() == [("a", "unknown"), ("b", "unknown")]
        await report(site, "b", "available")
        await watcher.until_state("b", "available")
    assert watcher.states()[-1] == ("b", "available")


async def test_a_watch_resumed_from_its_cursor_has_no_gap_and_no_repeat(site: Site) -> None:
    await apply(site, "a", "b", base=0)
    async with Watcher(site) as before:
        await before.until(1)
        await report(site, "a", "starting")
        await before.until_state("a", "starting")
    await report(site, "b", "working")
    async with Watcher(site, before.seen[-1].cursor) as after:
        await after.until_state("b", "working")
    assert after.states() == [("b", "working")]
    await report(site, "a", "available")
    async with Watcher(site, before.seen[-1].cursor) as later:
        await later.until_state("a", "available")
    assert later.states() == [("b", "working"), ("a", "available")]


async def test_a_change_that_commits_late_is_not_skipped_by_the_cursor(site: Site) -> None:
    """A sequence is not commit order: an older transaction that commits after a newer one must still be served."""
    await apply(site, "a", "b", base=0)
    slow = await site.database.dedicated()
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("update fleet.agent set state = 'waiting' where name = 'a'")
        await report(site, "b", "working")
        async with site.database.connection() as connection:
            cursor = Cursor(site.register_epoch, 0, 0)
            early = await change.after(connection, tenant_id=site.tenant_id, cursor=cursor)
        await transaction.commit()
        if early:
            cursor = Cursor(site.register_epoch, early[-1].xid, early[-1].seq)
        both = {await site.agent_id("a"), await site.agent_id("b")}
        late: set[UUID] = set()
        async with asyncio.timeout(20), site.database.connection() as connection:
            # Transactions of other databases on the tests' server hold the snapshot back too, for a moment.
            while not both <= late:
                found = await change.after(connection, tenant_id=site.tenant_id, cursor=cursor)
                late = {one.id for one in found}
    finally:
        await slow.close()


async def test_a_change_held_back_by_an_older_transaction_is_told_as_soon_as_that_one_ends(site: Site) -> None:
    await apply(site, "a", base=0)
    slow = await site.database.dedicated()
    try:
        async with Watcher(site) as watcher:
            await watcher.until(1)
            transaction = slow.transaction()
            await transaction.start()
            await slow.execute("select pg_current_xact_id()")
            await report(site, "a", "working")
            watcher.wakes.tell(WakeKey.change(site.tenant_id))
            await asyncio.sleep(0.5)
            assert ("a", "working") not in watcher.states()
            await transaction.rollback()
            await watcher.until_state("a", "working")
    finally:
        await slow.close()


async def test_a_snapshot_broken_off_is_not_resumed_half_way(site: Site) -> None:
    await apply(site, "a", "b", base=0)
    async with Watcher(site) as watcher:
        await watcher.until(1)
    *rows, complete = watcher.seen
    assert {row.cursor for row in rows} == {None}
    assert complete.cursor is not None


@pytest.mark.parametrize("why", ["another register", "forgotten"])
async def test_a_cursor_that_cannot_be_resumed_is_told_and_a_snapshot_follows(site: Site, why: str) -> None:
    await apply(site, "a", base=0)
    epoch = new_id() if why == "another register" else site.register_epoch
    if why == "forgotten":
        async with site.database.connection() as connection:
            await connection.execute("update fleet.change set at = now() - interval '25 hours'")
            await change.forget_old(connection)
    async with Watcher(site, Cursor(epoch, 1, 1)) as watcher:
        await watcher.until(1)
    assert isinstance(watcher.seen[0].what, watch.Restart)
    assert watcher.states() == [("a", "unknown")]


SNAPSHOTS_OF_NOBODY = ["", "5", "5:4:", "0:4:", "5:9:9", "5:9:7,6", "5:9:4", "5:9:x", f"5:{2**70}:", "5:9:7:", "5:9:."]


@pytest.mark.parametrize(
    "text",
    ["", "x", "1.2", "zz.1.2", f"{'0' * 32}.-1.0", f"{'0' * 32}.1.{2**70}", "é" * 300]
    + [f"{'0' * 32}.1.1.{snapshot}" for snapshot in SNAPSHOTS_OF_NOBODY],
)
def test_a_cursor_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Cursor.parse(text)


async def test_what_the_snapshot_showed_is_not_told_again_though_an_older_transaction_was_open(site: Site) -> None:
    slow = await site.database.dedicated()
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("select pg_current_xact_id()")
        await apply(site, "a", base=0)  # newer than the open transaction: at or after the cursor, and in the snapshot
        async with Watcher(site) as watcher:
            await watcher.until(1)
            await transaction.rollback()
            await report(site, "a", "working")
            await watcher.until_state("a", "working")
    finally:
        await slow.close()
    assert watcher.states() == [("a", "unknown"), ("a", "working")]


async def test_a_watch_broken_off_right_after_its_snapshot_goes_on_without_telling_it_again(site: Site) -> None:
    await apply(site, "a", "b", base=0)
    slow = await site.database.dedicated()
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("select pg_current_xact_id()")
        await report(site, "a", "working")  # newer than the open transaction, and in the snapshot
        async with Watcher(site) as before:
            await before.until(1)
        await slow.execute("update fleet.agent set state = 'waiting' where name = 'b'")
        await transaction.commit()
        cursors = [Cursor.parse(str(before.seen[-1].cursor))]
        async with Watcher(site, cursors[0]) as after:
            await after.until_state("b", "waiting")
        cursors += [watched.cursor for watched in after.seen if watched.cursor is not None]
        await report(site, "b", "available")
        async with Watcher(site, Cursor.parse(str(cursors[1]))) as last:
            await last.until_state("b", "available")
    finally:
        await slow.close()
    assert before.states() == [("a", "working"), ("b", "unknown")]
    assert after.states() == [("b", "waiting")]
    assert last.states() == [("b", "available")]
    assert last.seen[-1].cursor is not None
    assert last.seen[-1].cursor.seen == "", "past the snapshot it need not be carried on"
