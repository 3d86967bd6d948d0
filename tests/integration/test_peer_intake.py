"""What a peer's stream brings, as it is kept: a batch or nothing; what is not known is passed over and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from mosaic_controlplane.federation import intake as intake_module
from mosaic_controlplane.federation.arrivals import Unreadable
from mosaic_controlplane.federation.errors import PeerRevoked
from mosaic_controlplane.federation.intake import Intake
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer import PeerRow
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1 import fleet_pb2
from structlog.testing import capture_logs

from tests.support.peer_stream import Owner, owner_of

EPOCH = str(UUID(int=1))


class Taking:
    """A peer's stream, frame by frame."""

    def __init__(self, intake: Intake, database: Database, peer: PeerRow) -> None:
        self.intake, self._database, self._peer = intake, database, peer

    async def take(self, *downs: pb.ExchangeDown) -> None:
        for down in downs:
            # As it comes over the wire.
            await self.intake.take(pb.ExchangeDown.FromString(down.SerializeToString()))

    async def agents(self) -> set[str]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select content from fleet.peer_row where peer_id = $1 and kind = 'agent' and removed_at is null",
                self._peer.peer_id,
            )
        return {fleet_pb2.Agent.FromString(row["content"]).name for row in rows}

    async def contents(self) -> dict[str, bytes]:
        """Return what is kept, by its kind: one row of each."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("select kind, content from fleet.peer_row where removed_at is null")
        return {row["kind"]: row["content"] for row in rows}

    async def cursor(self) -> str:
        async with self._database.connection() as connection:
            return str(await connection.fetchval("select cursor from fleet.peer_feed"))

    async def skipped(self) -> dict[str, int]:
        async with self._database.connection() as connection:
            return (await peer_table.feeds(connection, tenant_id=self._peer.tenant_id))[self._peer.peer_id].skipped


@pytest.fixture
async def owner(database: Database, tmp_path: Path) -> AsyncIterator[Owner]:
    async with owner_of(database, tmp_path) as owner:
        yield owner


@asynccontextmanager
async def taking(owner: Owner) -> AsyncIterator[Taking]:
    database = owner.database
    async with database.own() as connection:
        peer = await peer_table.find(connection, owner.peer_id)
        assert peer is not None
        intake = Intake(connection, peer, owner.cluster, Wakes(database, new_id()))
        await intake.place()
        yield Taking(intake, database, peer)


@pytest.fixture
async def stream(owner: Owner) -> AsyncIterator[Taking]:
    async with taking(owner) as stream:
        yield stream


def row(number: int, name: str, *, kind: str = "agent") -> pb.PeerRow:
    content = fleet_pb2.Agent(host="w1", name=name).SerializeToString()
    return pb.PeerRow(kind=kind, id=UUID(int=number).bytes, content=content)


def rows(*found: pb.PeerRow, cursor: str = "") -> pb.ExchangeDown:
    return pb.ExchangeDown(rows=pb.PeerRows(rows=found), cursor=cursor)


def gone(number: int) -> pb.PeerRow:
    return pb.PeerRow(kind="agent", id=UUID(int=number).bytes, gone=True)


BEGIN = pb.ExchangeDown(begin=pb.SnapshotBegin(register_epoch=EPOCH, version="9"))
BOOKMARK = pb.ExchangeDown(bookmark=pb.PeerBookmark(), cursor="b")


def end(cursor: str) -> pb.ExchangeDown:
    return pb.ExchangeDown(end=pb.SnapshotEnd(), cursor=cursor)


async def test_a_snapshot_counts_when_it_is_whole_and_what_it_does_not_name_goes(stream: Taking) -> None:
    await stream.take(BEGIN, rows(row(1, "ada"), row(2, "bob")), end("c1"))
    await stream.take(BEGIN, rows(row(2, "bob2"), row(3, "cid")))
    assert (await stream.agents(), await stream.cursor()) == ({"ada", "bob"}, "c1"), "half of it is nothing"
    await stream.take(end("c2"))
    assert (await stream.agents(), await stream.cursor()) == ({"bob2", "cid"}, "c2")


async def test_a_snapshot_that_is_broken_off_leaves_what_was_there(stream: Taking) -> None:
    await stream.take(BEGIN, rows(row(1, "ada")), end("c1"))
    await stream.take(BEGIN, rows(row(2, "bob")), pb.ExchangeDown(reset=pb.ExchangeReset(reason="another grant")))
    await stream.take(BEGIN, rows(row(3, "cid")), end("c2"))
    assert await stream.agents() == {"cid"}


async def test_a_batch_is_kept_with_its_cursor_and_not_before(stream: Taking) -> None:
    await stream.take(BEGIN, rows(row(1, "ada"), row(2, "bob")), end("c1"))
    await stream.take(rows(gone(1), row(3, "cid")))
    assert (await stream.agents(), await stream.cursor()) == ({"ada", "bob"}, "c1")
    await stream.take(rows(row(3, "dan"), cursor="c2"))
    assert (await stream.agents(), await stream.cursor()) == ({"bob", "dan"}, "c2")
    await stream.take(rows(row(3, "dan"), gone(9), cursor="c2"))  # a frame that comes again
    assert await stream.agents() == {"bob", "dan"}


async def test_what_is_held_of_a_batch_without_an_end_is_bounded(
    stream: Taking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "MOST_ROWS", 10)
    await stream.take(BEGIN, end("c1"))
    await stream.take(*(rows(row(number, f"a{number}")) for number in range(25)))
    assert len(await stream.agents()) == 20
    assert await stream.cursor() == "c1", "a batch without its end is asked for again"


async def test_kinds_and_rows_that_are_not_known_are_skipped_counted_and_said_once(stream: Taking) -> None:
    strange = [
        row(1, "x", kind="card"),
        row(2, "y", kind="card"),
        pb.PeerRow(kind="agent", id=b"short", content=b""),
        pb.PeerRow(kind="agent", id=UUID(int=4).bytes, content=b"\xff\xff"),
        row(5, "no/name"),
    ]
    newer = pb.ExchangeDown.FromString(b"\xa2\x06\x03abc")  # field 100: something that a newer release says
    with capture_logs() as logs:
        await stream.take(
            BEGIN, newer, rows(*strange, row(6, "ada")), end("c1"), rows(row(7, "z", kind="card"), cursor="c2")
        )
    assert await stream.agents() == {"ada"}
    assert await stream.skipped() == {"card": 3, "agent (unreadable)": 3}
    said = [entry["kind"] for entry in logs if entry["event"] == "rows of a peer are skipped"]
    assert said == ["card", "agent (unreadable)"]


async def test_text_that_the_register_cannot_hold_ends_the_stream_as_a_fault_of_the_peers(stream: Taking) -> None:
    await stream.take(BEGIN, rows(row(1, "ada")), end("c1"))
    for bad in (
        [pb.ExchangeDown(begin=pb.SnapshotBegin(register_epoch=EPOCH, version="9\0")), end("c2")],
        [pb.ExchangeDown(begin=pb.SnapshotBegin(register_epoch="no id")), end("c2")],
        [BEGIN, end("c\0")],
        [rows(row(2, "bob"), cursor="c" * 10_000)],
        [pb.ExchangeDown(bookmark=pb.PeerBookmark(), cursor="\0")],
    ):
        with pytest.raises(Unreadable):
            await stream.take(*bad)
        await stream.take(pb.ExchangeDown(reset=pb.ExchangeReset(reason="anew\0")))
    await stream.take(rows(row(3, "x", kind="ca\0rd"), row(4, "cid"), cursor="c3"))
    assert (await stream.agents(), await stream.cursor()) == ({"ada", "cid"}, "c3")
    assert await stream.skipped() == {"ca?rd": 1}


async def test_only_fields_that_can_be_granted_are_kept_whatever_a_peer_sends(stream: Taking) -> None:
    more = {"tenant": "acme", "generation": 7, "cluster": "ours", "removed": True, "alias": "a"}
    agent = fleet_pb2.Agent(host="w1", name="ada", id="another", **more)  # type: ignore[arg-type]
    agent.MergeFromString(b"\xca\x3e\x03abc")  # field 1001: of a newer release
    host = fleet_pb2.Host(name="w1", tenant="acme", removed=True, linked=True)
    await stream.take(
        BEGIN,
        rows(
            pb.PeerRow(kind="agent", id=UUID(int=1).bytes, content=agent.SerializeToString()),
            pb.PeerRow(kind="host", id=UUID(int=2).bytes, content=host.SerializeToString()),
        ),
        end("c1"),
    )
    kept = await stream.contents()
    assert kept["agent"] == fleet_pb2.Agent(id=str(UUID(int=1)), host="w1", name="ada", alias="a").SerializeToString()
    assert kept["host"] == fleet_pb2.Host(id=str(UUID(int=2)), name="w1", linked=True).SerializeToString()


async def test_a_stream_that_begins_again_goes_on_counting_what_it_skips(owner: Owner) -> None:
    async with taking(owner) as stream:
        await stream.take(BEGIN, rows(row(1, "x", kind="card")), end("c1"))
    async with taking(owner) as stream:
        with capture_logs() as logs:
            await stream.take(rows(row(1, "x", kind="card"), cursor="c2"))
        assert await stream.skipped() == {"card": 2}
        assert not [entry for entry in logs if entry["event"] == "rows of a peer are skipped"]


async def test_nothing_is_kept_of_a_peer_whose_pairing_ends_meanwhile(owner: Owner, stream: Taking) -> None:
    await stream.take(BEGIN, rows(row(1, "ada")), end("c1"))
    async with owner.database.transaction() as connection:
        await peer_table.revoke(
            connection, tenant_id=owner.owned.tenant_id, peer_id=owner.peer_id, by="us", by_name="anna", reason=""
        )
    for late in (rows(row(2, "bob"), cursor="c2"), BOOKMARK):
        with pytest.raises(PeerRevoked):
            await stream.take(late)
    assert await stream.agents() == set()


async def test_what_waits_for_a_peer_goes_nowhere_when_the_pairing_ends(owner: Owner) -> None:
    states = ("waiting", "offered", "handed", "cancelled")
    for state in states:
        await owner.owned.register.execute(
            "insert into fleet.peer_message (tenant_id, message_id, peer_id, caller, address, request, origin, queued,"
            " deadline_at, state) values ($1, $2, $3, '', $4, '', '', true, now() + interval '1 hour', $4)",
            owner.owned.tenant_id,
            new_id(),
            owner.peer_id,
            state,
        )
    async with owner.database.transaction() as connection:
        await peer_table.revoke(
            connection, tenant_id=owner.owned.tenant_id, peer_id=owner.peer_id, by="us", by_name="anna", reason=""
        )
    became = dict(await owner.owned.register.fetch("select address, state from fleet.peer_message"))
    assert [became[state] for state in states] == ["failed", "unknown", "handed", "cancelled"]


async def test_a_pairing_that_ends_waits_for_what_is_being_kept_and_then_takes_it_along(
    owner: Owner, stream: Taking
) -> None:
    await stream.take(BEGIN, end("c1"))

    async def end_it() -> None:
        async with owner.database.transaction() as connection:
            await peer_table.revoke(
                connection, tenant_id=owner.owned.tenant_id, peer_id=owner.peer_id, by="us", by_name="anna", reason=""
            )

    async def keep() -> None:
        for number in range(50):
            await stream.take(rows(row(number, f"a{number}"), cursor=f"c{number}"))

    keeping, ending = await asyncio.gather(keep(), end_it(), return_exceptions=True)
    assert ending is None
    assert keeping is None or isinstance(keeping, PeerRevoked)
    assert await stream.agents() == set()


async def test_a_bookmark_alone_makes_a_peer_live(owner: Owner, stream: Taking) -> None:
    async def health() -> str:
        async with owner.database.connection() as connection:
            feeds = await peer_table.feeds(connection, tenant_id=owner.owned.tenant_id)
        return feeds[owner.peer_id].health

    await stream.take(BEGIN, rows(row(1, "ada")), end("c1"), pb.ExchangeDown())
    assert await health() == "paired", "rows and signs of life say nothing of what has not come yet"
    await stream.take(BOOKMARK)
    assert await health() == "live"


async def test_a_tenant_that_is_removed_takes_its_peers_along_with_all_that_is_known_of_them(owner: Owner) -> None:
    register, tenant_id = owner.owned.register, owner.owned.tenant_id
    other = await register.fetchval("insert into fleet.tenant values (gen_random_uuid(), 'other') returning tenant_id")
    await register.execute(
        "insert into fleet.peer (tenant_id, peer_id, name, trust_domain, cluster, their_tenant, bundle, paired_by)"
        " select $1, gen_random_uuid(), name, trust_domain, cluster, their_tenant, bundle, paired_by from fleet.peer",
        other,
    )
    await owner.grant("*")
    await register.execute(
        "insert into fleet.peer_row (tenant_id, peer_id, kind, id, content) values ($1, $2, 'agent', $2, 'x')",
        tenant_id,
        owner.peer_id,
    )
    await register.execute(
        "insert into fleet.peer_message (tenant_id, message_id, peer_id, caller, address, request, origin, queued,"
        " deadline_at, state) values ($1, $2, $2, '', '', '', '', true, now() + interval '1 hour', 'waiting')",
        tenant_id,
        owner.peer_id,
    )
    removed = dict(
        await register.fetch("select name, removed from fleet.remove_tenant($1) where removed > 0", tenant_id)
    )
    known = {"peer", "peer_feed", "peer_grant", "peer_row", "peer_message"}
    assert {name: removed.get(name) for name in known} == dict.fromkeys(known, 1)
    assert await register.fetchval("select count(*) from fleet.peer where tenant_id = $1", other) == 1
