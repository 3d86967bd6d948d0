"""Two clusters: what one shows of its fleet is seen at the other, as it changes, and no longer than it is granted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from mosaic_framework import protocol
from mosaic_framework.paths import Home
from mosaic_proto.v1 import federation_pb2, peers_pb2
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1.federation_pb2_grpc import FederationServiceStub

from tests.support.cli import runner
from tests.support.mesh import Mesh
from tests.support.owned_rows import Owned, owned
from tests.support.peer_views import View, view
from tests.support.peers import Paired, grant, outgoing_of, pair, peer_row, ungrant

if TYPE_CHECKING:
    from mosaic_proto.v1.federation_pb2_grpc import FederationServiceAsyncStub


@pytest.fixture
async def there(west: Mesh) -> AsyncIterator[Owned]:
    """What west owns."""
    async with owned(west) as there:
        yield there


@pytest.fixture
async def here(mesh: Mesh) -> AsyncIterator[View]:
    """What the first cluster keeps of west."""
    async with view(mesh, "west") as here:
        yield here


@pytest.fixture
async def paired(mesh: Mesh, west: Mesh) -> Paired:
    return await pair(mesh, west)


async def test_what_is_granted_is_seen_while_it_is_and_nothing_else_ever(
    mesh: Mesh, west: Mesh, there: Owned, here: View, paired: Paired
) -> None:
    host = await there.host("w1")
    ada = await there.agent(host, "ada", class_name="builder")
    await there.agent(host, "bob", class_name="reviewer")
    await there.host("w2")
    await grant(west, paired.peer_id, "see", "class=builder")
    await here.until(lambda: here.agents.keys() == {"ada"} and here.hosts == {"w1"})
    assert not here.agents["ada"].command, "the fields of a process are not granted"

    wide = await grant(west, paired.peer_id, "see", "*", fields=("process",))
    await here.until(lambda: here.agents.keys() == {"ada", "bob"} and here.agents["ada"].command == "a command")
    seen = [event.agent.name async for event in _watched(mesh, cluster="west", until="bob")]
    assert set(seen) == {"ada", "bob"}

    await ungrant(west, paired.peer_id, wide)
    await here.until(lambda: here.agents.keys() == {"ada"} and not here.agents["ada"].command)
    await there.set_state([ada], "stuck")
    await here.until(lambda: here.agents["ada"].state == pb.AGENT_STATE_STUCK)
    left = "select count(*) from fleet.peer_row join fleet.peer using (peer_id) where name = $1"
    assert await here.value(f"{left} and removed_at is not null and content <> ''") == 0, (
        "what was said of a row is not kept when it goes"
    )


async def test_a_view_goes_on_where_it_was_after_either_side_was_away_and_after_a_restore_has_no_ghosts(
    mesh: Mesh, west: Mesh, there: Owned, here: View, paired: Paired
) -> None:
    host = await there.host("w1")
    ada, bob = await there.agent(host, "ada"), await there.agent(host, "bob")
    await grant(west, paired.peer_id, "see")
    await here.until(lambda: here.agents.keys() == {"ada", "bob"})
    await here.until_live()

    mesh.controlplane.kill()
    await there.set_state([bob], "stuck")
    mesh.controlplane.start()
    await mesh.serving()
    await here.until(lambda: here.agents["bob"].state == pb.AGENT_STATE_STUCK)

    west.controlplane.kill()
    # As from a backup that lacks an agent: the register begins an epoch of its own.
    await there.register.execute("update fleet.agent set removed_at = now() where agent_id = $1", ada)
    await there.register.execute("delete from fleet.change")
    await there.register.execute("update fleet.cluster set register_epoch = gen_random_uuid()")
    west.controlplane.start()
    await here.until(lambda: here.agents.keys() == {"bob"})
    epoch = await there.register.fetchval("select register_epoch::text from fleet.cluster")
    known = "select register_epoch::text from fleet.peer_feed join fleet.peer using (peer_id) where name = $1"
    assert await here.value(known) == epoch


async def test_a_cluster_that_is_not_heard_of_is_shown_grey_and_dated_with_no_state(
    mesh: Mesh,
    west: Mesh,
    there: Owned,
    here: View,
    paired: Paired,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await there.agent(await there.host("w1"), "ada")
    await grant(west, paired.peer_id, "see")
    await here.until(lambda: here.agents.keys() == {"ada"})
    await here.until_live()
    mesh.write_context(Home(tmp_path))
    monkeypatch.setenv("MOSAIC_HOME", str(tmp_path))
    mosaic = runner(capsys, monkeypatch)
    shown = await asyncio.to_thread(mosaic, "fleet", "ps", "-o", "json")
    assert (shown.code, [item["state"] for item in shown.json["items"]]) == (0, ["working"])
    assert shown.json["items"][0]["peer"]["health"] == "live"
    assert "west" in (await asyncio.to_thread(mosaic, "fleet", "ps")).out.splitlines()[1]
    assert (await asyncio.to_thread(mosaic, "agent", "ls", "-o", "name")).out == ""
    assert (await asyncio.to_thread(mosaic, "agent", "ls", "--cluster", "west", "-o", "name")).out == "west/w1/ada\n"
    unknown = await asyncio.to_thread(mosaic, "fleet", "ps", "--cluster", "wets")
    assert (unknown.code, "west" in unknown.err) == (3, True)

    west.controlplane.signal(signal.SIGSTOP)  # it holds its connections, and says nothing
    try:
        for age, health, words in (("4 minutes", "stale", "STALE 4m"), ("11 minutes", "lost", "LOST 11m")):
            watched = asyncio.create_task(_told_of(mesh, health))
            while not watched.done():  # a bookmark that was under way when it stopped may come after the first time
                await here.value(
                    f"update fleet.peer_feed set bookmark_at = now() - interval '{age}' from fleet.peer"
                    " where peer.peer_id = peer_feed.peer_id and name = $1 returning 1"
                )
                await asyncio.wait([watched], timeout=0.5)
            await watched
            shown = await asyncio.to_thread(mosaic, "fleet", "ps", "-o", "json")
            item = shown.json["items"][0]
            assert (shown.code, item["state"], item["stale"]) == (5, "unknown", True)
            assert item["peer"]["health"] == health
            assert item["stateDetail"] == "was working when cluster west was last heard of"
            assert item["ageSeconds"] >= 200
            assert words in (await asyncio.to_thread(mosaic, "fleet", "ps")).out
            assert (await asyncio.to_thread(mosaic, "agent", "ls", "--cluster", "west")).code == 5
            assert (await asyncio.to_thread(mosaic, "agent", "ls")).code == 0
    finally:
        west.controlplane.signal(signal.SIGCONT)


async def _told_of(mesh: Mesh, health: str) -> None:
    """Wait until whoever watches is told of the cluster's health, then that the state of what it shows is not known."""
    turned = False
    async with asyncio.timeout(20):
        async for event in mesh.fleet.Watch(pb.WatchRequest(cluster="*")):
            if event.WhichOneof("event") == "peer":
                turned = peers_pb2.PeerHealth.Name(event.peer.health) == f"PEER_HEALTH_{health.upper()}"
            if turned and event.WhichOneof("event") == "agent":
                assert event.agent.state == pb.AGENT_STATE_UNKNOWN
                return


async def _watched(mesh: Mesh, *, cluster: str, until: str) -> AsyncIterator[pb.WatchEvent]:
    """Yield the agents that a watcher is told of, up to the one named."""
    async with asyncio.timeout(20):
        async for event in mesh.fleet.Watch(pb.WatchRequest(cluster=cluster)):
            if event.WhichOneof("event") == "agent":
                yield event
                if event.agent.name == until:
                    return


async def test_a_peer_that_does_not_read_costs_the_owner_no_memory(
    mesh: Mesh, west: Mesh, there: Owned, here: View, paired: Paired
) -> None:
    host = await there.host("w1")
    for number in range(200):
        await there.agent(host, f"a{number}")
    await grant(west, paired.peer_id, "see", "*", fields=("detail",))
    await here.until(lambda: len(here.agents) == 200)
    async with outgoing_of(mesh) as outgoing, outgoing.to(await peer_row(mesh, "west")) as onward:
        stub: FederationServiceAsyncStub = FederationServiceStub(onward.channel)
        idle = stub.Exchange(metadata=onward.metadata)
        await idle.write(federation_pb2.ExchangeUp(hello=federation_pb2.ExchangeHello(protocol=protocol.VERSION)))
        await idle.write(federation_pb2.ExchangeUp(ready=True))
        await idle.read()
        assert west.controlplane.process is not None
        owner = psutil.Process(west.controlplane.process.pid)
        before = owner.memory_info().rss
        for number in range(25):  # 100 MB of changes, of which the other stream of this peer takes in all
            detail = f"{number:02}" * 10_000
            await there.register.execute("update fleet.agent set state_detail = $1", detail)
            await there.tell()
            await here.until(lambda detail=detail: all(one.state_detail == detail for one in here.agents.values()))
        grown = (owner.memory_info().rss - before) / 2**20
        idle.cancel()
    assert grown < 50, f"{grown:.0f} MiB"
