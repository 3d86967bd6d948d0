"""The owner's stream: a snapshot, then what changes of it; begun anew where that cannot be gone on from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

import pytest
from mosaic_controlplane.federation import exchange, granted, pace
from mosaic_controlplane.federation.errors import NotGranted, PeerRevoked
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Database
from mosaic_framework import protocol
from mosaic_framework.ids import new_id

from tests.support.hostagent import eventually
from tests.support.peer_stream import Listener, Owner, owner_of


@pytest.fixture
async def owner(database: Database, tmp_path: Path) -> AsyncIterator[Owner]:
    async with owner_of(database, tmp_path) as owner:
        yield owner


async def test_a_stream_that_is_resumed_tells_what_changed_and_nothing_else(owner: Owner) -> None:
    host = await owner.owned.host("w1")
    for name in ("ada", "bob", "cid"):
        await owner.owned.agent(host, name)
    hidden = await owner.owned.agent(host, "secret", class_name="hidden")
    await owner.grant("class=builder")
    await owner.owned.settled()
    peer = Listener()
    await owner.listen(peer, lambda: "bookmark" in peer.kinds())
    assert peer.agents.keys() == {"ada", "bob", "cid"}
    ada = UUID(peer.agents["ada"].id)

    await owner.owned.set_state([ada, hidden], "stuck")
    late = await owner.owned.agent(host, "dan")
    await owner.listen(peer, lambda: "dan" in peer.agents)
    assert {row.id for row in peer.told if row.kind == "agent"} == {ada.bytes, late.bytes}
    assert "begin" not in peer.kinds()


async def test_a_row_that_does_not_match_any_more_is_gone_and_one_never_shown_is_not_named(owner: Owner) -> None:
    host, other = await owner.owned.host("w1"), await owner.owned.host("w2")
    ada = await owner.owned.agent(host, "ada", labels={"team": "red"})
    bob = await owner.owned.agent(other, "bob", labels={"team": "blue"})
    await owner.grant("label.team=red")
    peer = Listener()
    async with owner.followed(peer) as until:
        await until(lambda: peer.agents.keys() == {"ada"} and peer.hosts == {"w1"})
        await owner.owned.set_labels(bob, "bob", {"team": "green"})
        await owner.owned.set_labels(ada, "ada", {"team": "blue"})
        await until(lambda: not peer.rows)
    assert bob.bytes not in {row.id for row in peer.told}
    assert [row.kind for row in peer.told if row.gone] == ["agent", "host"]


async def test_a_change_of_what_is_not_shown_is_not_told(owner: Owner) -> None:
    host = await owner.owned.host("w1")
    ada = await owner.owned.agent(host, "ada")
    await owner.grant("*")
    peer = Listener()
    async with owner.followed(peer) as until:
        await until(lambda: "bookmark" in peer.kinds())
        before = len(peer.told)
        await owner.owned.register.execute("update fleet.agent set command = 'another'")
        await owner.owned.set_state([ada], "stuck")
        await until(lambda: len(peer.told) > before)
    assert len(peer.told) == before + 1


@pytest.mark.parametrize("narrowed", ["by hand", "by its end"])
async def test_a_grant_that_ends_while_the_stream_runs_takes_away_at_once_what_it_showed(
    owner: Owner, narrowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SIGN_SECONDS", "BOOKMARK_SECONDS"):  # it is not found by the way, when something else is to be said
        monkeypatch.setattr(pace, name, 60.0)
    host = await owner.owned.host("w1")
    await owner.owned.agent(host, "ada", class_name="builder")
    await owner.owned.agent(host, "bob", class_name="reviewer")
    await owner.grant("class=builder")
    wide = await owner.grant("*", fields=["work"], seconds=1.0 if narrowed == "by its end" else 3600.0)
    peer = Listener()
    async with owner.followed(peer) as until:
        await until(lambda: peer.agents.keys() == {"ada", "bob"} and bool(peer.agents["ada"].reported_model))
        if narrowed == "by hand":
            await owner.ungrant(wide)
        await until(lambda: peer.agents.keys() == {"ada"} and peer.kinds()[-1] == "end")
        assert not peer.agents["ada"].reported_model
    assert peer.resets == ["what is granted has changed"]


async def test_a_grant_that_ends_between_two_pages_shows_nothing_of_the_second(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "ROWS_A_FRAME", 1)
    host = await owner.owned.host("w1")
    for name in ("ada", "bob", "cid"):
        await owner.owned.agent(host, name)
    wide = await owner.grant("*")
    peer, ended = Listener(), False
    async with asyncio.timeout(30), aclosing(owner.frames(peer)) as stream:
        async for down in stream:
            peer.take(down)
            if peer.told and not ended:  # the peer takes its time, and reads on after the grant has ended
                ended = True
                await owner.ungrant(wide)
            if "bookmark" in peer.kinds():
                break
    assert len(peer.told) == 1
    assert not peer.rows


@pytest.mark.parametrize(
    ("cursor", "why"),
    [
        ("rubbish", "the cursor is not one of ours"),
        ("{other}.1.1/{digest}", "the register was restored from a backup, or is another one"),
        ("{epoch}.1.1/0000", "what is granted has changed"),
        ("{epoch}.1.1/{digest}", "the cursor is older than what the register keeps"),
    ],
)
async def test_a_cursor_that_cannot_be_gone_on_from_begins_anew_and_leaves_no_ghosts(
    owner: Owner, cursor: str, why: str
) -> None:
    host = await owner.owned.host("w1")
    await owner.owned.agent(host, "ada")
    gone = await owner.owned.agent(host, "bob")
    await owner.grant("*")
    peer = Listener()
    await owner.listen(peer, lambda: "bookmark" in peer.kinds())
    assert peer.agents.keys() == {"ada", "bob"}
    digest = peer.cursor.partition("/")[2]

    # As after a restore, or a week: it is gone, and no change tells of it.
    await owner.owned.register.execute("update fleet.agent set removed_at = now() where agent_id = $1", gone)
    await owner.owned.register.execute("delete from fleet.change")
    await owner.owned.register.execute("update fleet.cluster set changes_forgotten_up_to = '1'")
    epoch, other = owner.cluster.register_epoch.hex, new_id().hex
    peer.cursor = cursor.format(epoch=epoch, other=other, digest=digest)
    await owner.listen(peer, lambda: "bookmark" in peer.kinds())
    assert peer.resets == [why]
    assert peer.agents.keys() == {"ada"}


async def test_a_peer_that_has_rows_of_no_agent_here_begins_anew(owner: Owner) -> None:
    await owner.owned.agent(await owner.owned.host("w1"), "ada")
    await owner.grant("*")
    peer = Listener()
    await owner.listen(peer, lambda: "bookmark" in peer.kinds())
    known = dict(peer.rows)
    peer.rows["agent", new_id().bytes] = b""
    await owner.listen(peer, lambda: "bookmark" in peer.kinds())
    assert peer.resets == ["rows are known there that are not of this register"]
    assert peer.rows == known


async def test_a_peer_is_told_of_the_kinds_of_rows_that_it_knows_and_of_no_others(owner: Owner) -> None:
    await owner.owned.agent(await owner.owned.host("w1"), "ada")
    await owner.grant("*")
    peer = Listener(understands=("agent", "card"))
    await owner.listen(peer, lambda: "bookmark" in peer.kinds())
    assert {row.kind for row in peer.told} == {"agent"}


async def test_a_peer_a_release_ahead_or_behind_is_served_and_one_that_is_too_old_is_named(owner: Owner) -> None:
    await owner.owned.agent(await owner.owned.host("w1"), "ada")
    await owner.grant("*")
    for spoken in (protocol.VERSION - 1, protocol.VERSION, protocol.VERSION + 1):
        peer = Listener(protocol=spoken)
        await owner.listen(peer, lambda peer=peer: "end" in peer.kinds())
        assert peer.agents.keys() == {"ada"}
    with pytest.raises(protocol.ProtocolMismatch, match="cluster east speaks protocol 0, which is too old"):
        await owner.listen(Listener(protocol=protocol.OLDEST - 1), lambda: False)


async def test_agents_of_a_host_that_is_not_heard_of_are_shown_as_such(owner: Owner) -> None:
    host = await owner.owned.host("w1")
    await owner.owned.agent(host, "ada")
    await owner.grant("*", fields=["detail"])
    peer = Listener()
    async with owner.followed(peer) as until:
        await until(lambda: "bookmark" in peer.kinds())
        await owner.owned.register.execute("update fleet.host set state = 'stale'")
        await owner.owned.tell()
        await until(lambda: peer.agents["ada"].state_detail == "was working when its host was last heard of")


async def test_nothing_of_the_register_is_held_while_a_peer_does_not_read(owner: Owner, database: Database) -> None:
    host = await owner.owned.host("w1")
    for number in range(3):
        await owner.owned.agent(host, f"a{number}")
    await owner.grant("*")
    peer = Listener()
    # Between two frames is where a peer that does not read leaves it; whoever else looks gives back at once.
    async with aclosing(owner.frames(peer)) as frames:
        async for down in frames:
            peer.take(down)
            await eventually(lambda: database.pool_use()[0] == 0, f"nothing is lent after {down}", seconds=10)
            if "bookmark" in peer.kinds():
                break
    assert {"end", "bookmark"} <= set(peer.kinds())


async def test_what_rested_on_a_grant_is_told_that_the_pairing_is_over_when_it_is(owner: Owner) -> None:
    async with owner.database.connection() as connection:
        with pytest.raises(NotGranted):
            await granted.grants(connection, owner.caller, "watch")
    async with owner.database.transaction() as connection:
        of = {"tenant_id": owner.owned.tenant_id, "peer_id": owner.peer_id}
        await peer_table.revoke(connection, **of, by=peer_table.BY_US, by_name="anna", reason="enough")
    async with owner.database.connection() as connection:
        with pytest.raises(PeerRevoked) as over:
            await granted.grants(connection, owner.caller, "watch")
    assert over.value.why == "enough"
