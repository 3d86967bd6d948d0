"""What one replica does at a time: another takes it up at once when its process is gone, soon when it is stopped."""

from __future__ import annotations

import asyncio
import sys

import pytest
from mosaic_controlplane.register import singleton
from mosaic_controlplane.register.database import _SETTINGS, Database, RegisterUnreachable
from mosaic_controlplane.register.singleton import elected

HOLDER = """
import asyncio, sys
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.singleton import elected

async def main():
    database = await Database.connect(sys.argv[1], pool_size=1)
    async with elected(database, "tests") as connection:
        print("elected" if connection else "not", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_duty_is_free_at_once_when_the_process_that_had_it_is_killed(database: Database) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, database.url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert await asyncio.wait_for(holder.stdout.readline(), 20) == b"elected\n"
        async with elected(database, "tests") as other:
            assert other is None
        holder.kill()
        await holder.wait()
        async with asyncio.timeout(5):
            while True:
                async with elected(database, "tests") as other:
                    if other is not None:
                        break
                await asyncio.sleep(0.02)
    finally:
        if holder.returncode is None:
            holder.kill()
            await holder.wait()


async def test_a_holder_that_is_stopped_and_says_nothing_loses_its_duty_and_is_told_so_when_it_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(singleton._SETTINGS, "idle_session_timeout", "200ms")
    taken_over = asyncio.Event()

    async def hold_and_fall_silent() -> None:
        async with elected(database, "tests") as connection:
            assert connection is not None
            await taken_over.wait()
            await connection.fetchval("select 1")

    stopped = asyncio.create_task(hold_and_fall_silent())
    await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        while not taken_over.is_set():
            async with elected(database, "tests") as other:
                if other is not None:
                    taken_over.set()
            await asyncio.sleep(0.05)
    with pytest.raises(RegisterUnreachable):
        await stopped


async def test_the_register_drops_a_holder_whose_machine_is_gone_within_10_s(database: Database) -> None:
    async with elected(database, "tests") as connection:
        assert connection is not None
        rows = await connection.fetch(
            "select name, setting::integer from pg_settings where name in ('idle_session_timeout',"
            " 'idle_in_transaction_session_timeout')"
        )
        assert {row["name"]: row["setting"] for row in rows} == {
            "idle_session_timeout": 10_000,
            "idle_in_transaction_session_timeout": 10_000,
        }
    # A server reached over a unix socket keeps none of these; over TCP they are what it is asked for.
    tcp = {name.removeprefix("tcp_keepalives_"): int(value) for name, value in _SETTINGS.items() if "tcp_" in name}
    assert tcp["idle"] + tcp["interval"] * tcp["count"] <= 10
    assert tcp["tcp_user_timeout"] <= 10_000
