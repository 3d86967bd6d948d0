"""Connections to the register: what is lost, refused or too old is told in words a user can act on."""

from __future__ import annotations

import asyncio
import socket
import time
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import pytest
from mosaic_controlplane.register import database as register_database
from mosaic_controlplane.register import notifications
from mosaic_controlplane.register.database import Database, RegisterTooOld, RegisterUnreachable, check_server, shown
from mosaic_framework.errors import EXIT_UNREACHABLE, InvalidInput


async def test_a_transaction_commits_at_its_end_and_rolls_back_on_an_error(database: Database) -> None:
    insert = "insert into fleet.tenant (tenant_id, name) values (gen_random_uuid(), $1)"
    async with database.transaction() as connection:
        await connection.execute(insert, "kept")

    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(insert, "not kept")
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    async with database.connection() as connection:
        assert [row["name"] for row in await connection.fetch("select name from fleet.tenant")] == ["kept"]


async def test_our_settings_hold_on_pooled_and_on_dedicated_connections(database: Database) -> None:
    dedicated = await database.dedicated(application_name="singleton")
    try:
        async with database.connection() as pooled:
            for connection, name in ((pooled, "mosaic-controlplane"), (dedicated, "singleton")):
                assert await connection.fetchval("show application_name") == name
                assert await connection.fetchval("show jit") == "off"
                assert await connection.fetchval("show idle_in_transaction_session_timeout") == "30s"
    finally:
        await dedicated.close()


async def test_a_register_that_is_down_is_unreachable_at_once(tmp_path: object) -> None:
    with pytest.raises(RegisterUnreachable) as caught:
        await Database.connect("postgresql:///mosaic?host=/nonexistent&user=mosaic")
    assert caught.value.exit_code == EXIT_UNREACHABLE
    assert "/nonexistent" in caught.value.what


async def test_a_register_that_says_nothing_is_unreachable_within_5_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(RegisterUnreachable, match=r"the register at 127\.0\.0\.1:\d+/fleet"):
            await Database.connect(f"postgresql://me:geheim@127.0.0.1:{silent.getsockname()[1]}/fleet")
        assert time.monotonic() - started < 5


async def test_a_connection_cut_under_a_query_is_unreachable_and_the_next_one_works(database: Database) -> None:
    admin = await asyncpg.connect(database.url)

    async def cut() -> None:
        async with database.transaction() as connection:
            await admin.execute("select pg_terminate_backend($1)", connection.get_server_pid())
            await connection.execute("select 1")

    try:
        with pytest.raises(RegisterUnreachable):
            await cut()
        async with database.connection() as connection:
            assert await connection.fetchval("select 1") == 1
    finally:
        await admin.close()


async def test_a_deadlock_is_told_as_a_busy_register(database: Database) -> None:
    async def lock(first: int, second: int) -> None:
        async with database.transaction() as connection:
            await connection.execute("select pg_advisory_xact_lock($1)", first)
            await asyncio.sleep(0.2)
            await connection.execute("select pg_advisory_xact_lock($1)", second)

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert [outcome.code for outcome in outcomes if isinstance(outcome, RegisterUnreachable)] == ["register-busy"]


class Proxy:
    """Stands before the register, and can fall silent without closing anything, as a machine that vanished does."""

    def __init__(self, url: str) -> None:
        self._host = parse_qs(urlsplit(url).query)["host"][0] if "host=" in url else str(urlsplit(url).hostname)
        self._port = int(parse_qs(urlsplit(url).query).get("port", [str(urlsplit(url).port or 5432)])[0])
        self.silent = False

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._host.startswith("/"):
            opened = asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            opened = asyncio.open_connection(self._host, self._port)
        up_reader, up_writer = await opened
        try:
            await asyncio.gather(self._pipe(reader, up_writer), self._pipe(up_reader, writer))
        finally:
            up_writer.close()
            writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.silent:
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_who_listens_finds_out_that_the_register_has_vanished(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "PROBE_SECONDS", 0.2, raising=False)
    listening = asyncio.Event()

    async def ready() -> None:
        listening.set()

    parts = urlsplit(database.url)
    async with Proxy(database.url) as proxy:
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        query |= {"sslmode": "disable"} | ({} if parts.hostname else {"host": "127.0.0.1", "port": str(proxy.port)})
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}" if parts.hostname else parts.netloc
        through = parts._replace(netloc=netloc, query=urlencode(query)).geturl()
        other = Database(through, database.pool)
        task = asyncio.create_task(notifications.listen(other, "anything", ready=ready, heard=lambda _: None))
        await asyncio.wait_for(listening.wait(), 5)
        await asyncio.sleep(0.5)
        assert not task.done()
        proxy.silent = True
        with pytest.raises(RegisterUnreachable):
            await asyncio.wait_for(task, 5)


async def test_an_error_in_a_statement_is_not_taken_for_a_lost_register(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.transaction() as connection:
            await connection.execute("select * from fleet.no_such_table")


async def test_a_missing_database_is_named(database_url: str) -> None:
    with pytest.raises(RegisterUnreachable) as caught:
        await Database.connect(database_url.replace("test_", "gone_", 1))
    assert "does not exist" in caught.value.why


@pytest.mark.parametrize("url", ["mysql://somewhere/x", "postgresql://host:port/x", "not a url"])
async def test_a_malformed_url_is_told_and_its_password_is_not(url: str) -> None:
    with pytest.raises(InvalidInput, match="URL is malformed"):
        await Database.connect(url)


def test_an_old_server_is_refused() -> None:
    old = SimpleNamespace(get_server_version=lambda: SimpleNamespace(major=14, minor=9))
    with pytest.raises(RegisterTooOld, match=r"PostgreSQL 14\.9"):
        check_server(cast("Any", old))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me:geheim@db.example:5433/fleet?sslmode=require", "db.example:5433/fleet"),
        ("postgresql:///mosaic?host=/tmp/x&user=mosaic", "/tmp/x mosaic"),
        ("postgresql://me:geheim@a:1,b:2/fleet", "a:1,b:2/fleet"),
        ("postgresql://", "localhost"),
    ],
)
def test_a_url_is_told_without_its_password(url: str, told: str) -> None:
    assert shown(url) == told


async def test_closing_twice_and_with_a_connection_still_lent_ends(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register_database, "CLOSE_SECONDS", 0.2)
    database = await Database.connect(database_url)
    lent = await database.pool.acquire()
    closing = asyncio.create_task(database.close())
    await asyncio.wait_for(closing, 10)
    with pytest.raises(asyncpg.InterfaceError):  # it was cut
        await lent.execute("select 1")
    await database.close()


async def test_a_server_that_ends_a_connection_as_it_is_given_back_fails_nobody_whose_work_is_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken_off(connection: asyncpg.Connection[asyncpg.Record], **_options: object) -> None:
        connection.terminate()
        # What asyncpg's reset says when the server's farewell has been read just before it.
        raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")

    monkeypatch.setattr(asyncpg.Connection, "reset", broken_off)
    async with database.connection() as connection:
        assert await connection.fetchval("select 1") == 1
    monkeypatch.undo()
    async with database.connection() as connection:
        assert await connection.fetchval("select 2") == 2
