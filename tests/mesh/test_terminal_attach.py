"""Terminals driven from elsewhere: exactly the keys, by one person at a time, known to all and written down."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg

from tests.mesh.test_two_replicas import Replica
from tests.support.mesh import Mesh
from tests.support.program import eventually
from tests.support.viewers import attached, watching


async def a_worker(mesh: Mesh) -> None:
    await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")


async def audited(mesh: Mesh) -> list[dict[str, str]]:
    connection = await asyncpg.connect(mesh.controlplane.environment["MOSAIC_DATABASE_URL"])
    try:
        rows = await connection.fetch(
            "select caller_name, target, detail from fleet.audit where method = 'TerminalService/Attach' order by at"
        )
    finally:
        await connection.close()
    return [{"who": row["caller_name"], "target": row["target"], **json.loads(row["detail"])} for row in rows]


async def test_keys_reach_the_program_and_everyone_sees_who_presses_them(mesh: Mesh) -> None:
    await a_worker(mesh)
    async with watching(mesh.channel, "worker") as watcher, attached(mesh.channel, "worker") as anna:
        await anna.screen.until(lambda seen: seen.leases and seen.leases[0].held, "the lease")
        await watcher.until(lambda seen: seen.status.driver == "anna", "who drives")
        await mesh.until_agent("worker", lambda agent: agent.driver == "anna")
        await anna.press(b"echo ty''ped\r")
        await watcher.shows("typed")
        await anna.screen.shows("typed")
    await mesh.until_agent("worker", lambda agent: not agent.driver)
    began, ended = await audited(mesh)
    assert (began["who"], began["target"], began["what"]) == ("anna", "alpha/worker", "attached")
    assert (ended["what"], ended["bytes"], ended["end"]) == ("detached", "13", "detached")


async def test_all_256_bytes_arrive_as_they_were_pressed(mesh: Mesh, tmp_path: Path) -> None:
    await a_worker(mesh)
    file = tmp_path / "bytes"
    await mesh.until_step(await mesh.send("worker", f"stty raw -echo; head -c 256 > {file}; stty sane"))
    pressed = bytes(range(256))
    async with attached(mesh.channel, "worker") as anna:
        await anna.screen.until(lambda seen: seen.leases, "the lease")
        await anna.press(pressed)
        await eventually(lambda: file.exists() and file.stat().st_size == 256, "256 bytes arrive")
    assert file.read_bytes() == pressed


async def test_a_second_person_is_refused_and_may_take_it_over_and_the_first_is_told(mesh: Mesh) -> None:
    await a_worker(mesh)
    async with attached(mesh.channel, "worker") as first:
        await first.screen.until(lambda seen: seen.leases, "the lease")
        async with attached(mesh.channel, "worker") as refused:
            await refused.screen.until(lambda seen: seen.error, "the refusal")
            assert refused.screen.error is not None
            assert (refused.screen.error.code, refused.screen.error.exit_code) == ("terminal-driven", 6)
            assert "anna drives alpha/worker" in refused.screen.error.what
        async with attached(mesh.channel, "worker", take=True) as second:
            await second.screen.until(lambda seen: seen.leases, "the lease")
            assert second.screen.leases[0].former == "anna"
            await first.screen.until(lambda seen: seen.error, "the loss")
            assert first.screen.error is not None
            assert first.screen.error.code == "lease-lost"
            assert "anna took it over" in first.screen.error.why
            await second.press(b"echo mi''ne\r")
            await second.screen.shows("mine")
    ends = [row for row in await audited(mesh) if row.get("what") == "detached"]
    assert sorted(row["end"] for row in ends) == ["detached", "lease-lost"]
    assert any(row.get("taken_from") == "anna" for row in await audited(mesh))


async def test_a_message_waits_while_a_person_types_and_arrives_when_they_have_gone_on(mesh: Mesh) -> None:
    await a_worker(mesh)
    async with attached(mesh.channel, "worker") as anna:
        await anna.screen.until(lambda seen: seen.leases, "the lease")
        await anna.press(b"echo one ")
        await anna.screen.shows("echo one")
        message = await mesh.send("worker", "echo fr''om-afar")
        await asyncio.sleep(1.5)  # a delivery takes 0.1 s: it would have happened
        assert "from-afar" not in anna.screen.text
        await anna.press(b"two\r")
        await anna.screen.shows("\none two")
        await mesh.until_step(message)
        await anna.screen.shows("from-afar")


async def test_through_a_replica_without_the_link_keys_go_in_all_the_same(mesh: Mesh) -> None:
    second = Replica(mesh)
    await second.start()
    try:
        await a_worker(mesh)
        for number, channel in enumerate((mesh.channel, second.channel)):
            async with attached(channel, "worker") as anna:
                await anna.screen.until(lambda seen: seen.leases, "the lease")
                await anna.press(f"echo thr''ough-{number}\r".encode())
                await anna.screen.shows(f"through-{number}")
            await mesh.until_agent("worker", lambda agent: not agent.driver)
    finally:
        await second.close()
