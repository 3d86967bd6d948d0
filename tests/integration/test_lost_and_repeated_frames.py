"""Frames of an owner's stream are lost with their stream, or come twice: what is kept becomes what is shared again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from itertools import cycle
from pathlib import Path
from uuid import UUID

import pytest
from mosaic_controlplane.federation.intake import Intake
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Database
from mosaic_framework.ids import new_id

from tests.support.peer_stream import Listener, Owner, owner_of

Rows = dict[tuple[str, bytes], bytes]

LOST, REPEATED = 0.15, 0.3
SELECTORS = ("class=builder", "*", "label.zone=x")


@pytest.fixture
async def owner(database: Database, tmp_path: Path) -> AsyncIterator[Owner]:
    async with owner_of(database, tmp_path) as owner:
        yield owner


async def kept(owner: Owner) -> tuple[Rows, str]:
    """Return what the register of the peer has, and the cursor to go on from."""
    async with owner.database.connection() as connection:
        rows = await connection.fetch("select kind, id, content from fleet.peer_row where removed_at is null")
        cursor = await connection.fetchval("select cursor from fleet.peer_feed")
    return {(row["kind"], row["id"].bytes): row["content"] for row in rows}, cursor


async def follow(owner: Owner, chance: random.Random | None) -> None:
    """Go on with the stream until it has nothing new, or a frame is lost and the stream with it."""
    rows, cursor = await kept(owner)
    frames = owner.frames(Listener(rows, cursor))
    async with owner.database.own() as connection:
        peer = await peer_table.find(connection, owner.peer_id)
        assert peer is not None
        intake = Intake(connection, peer, owner.cluster, Wakes(owner.database, new_id()))
        await intake.place()
        try:
            async for down in frames:
                if down.WhichOneof("down") == "bookmark":
                    return
                if down.WhichOneof("down") == "bundle":
                    continue  # the peer is this cluster itself here, whose roots are not another one's
                for _ in range(2 if chance is not None and chance.random() < REPEATED else 1):
                    if chance is not None and chance.random() < LOST:
                        return
                    await intake.take(down)
        finally:
            await frames.aclose()


async def change(
    owner: Owner, chance: random.Random, states: Iterator[str], hosts: list[UUID], agents: list[UUID]
) -> None:
    """Change a few of the owner's rows."""
    for _ in range(chance.randrange(6)):
        one, way = chance.choice(agents), chance.random()
        if way < 0.4:
            await owner.owned.set_state([one], next(states))
        elif way < 0.6:
            await owner.owned.set_labels(one, str(one), {"zone": chance.choice("xy")})
        elif way < 0.8:
            class_name = chance.choice(("builder", "docs"))
            agents.append(await owner.owned.agent(chance.choice(hosts), f"a{len(agents)}", class_name=class_name))
        else:
            await owner.owned.register.execute("update fleet.agent set removed_at = now() where agent_id = $1", one)
            await owner.owned.tell()


@pytest.mark.parametrize("seed", range(4))
async def test_lost_and_repeated_frames_leave_no_ghost_and_nothing_out(owner: Owner, seed: int) -> None:
    chance = random.Random(seed)
    hosts = [await owner.owned.host(name) for name in ("h1", "h2")]
    agents = [await owner.owned.agent(chance.choice(hosts), f"a{number}") for number in range(8)]
    grant = await owner.grant(SELECTORS[0])
    states = cycle(("working", "waiting", "stuck", "available", "exited"))
    shown = 0
    for _ in range(12):
        await change(owner, chance, states, hosts, agents)
        if chance.random() < 0.3:
            before, grant = grant, await owner.grant(chance.choice(SELECTORS))
            await owner.ungrant(before)
        async with asyncio.timeout(30):
            await follow(owner, chance)
        shown += len((await kept(owner))[0])
    async with asyncio.timeout(30):
        await follow(owner, None)
    anew = Listener()
    await owner.listen(anew, lambda: "end" in anew.kinds())
    assert (await kept(owner))[0] == anew.rows
    assert shown, "at some time there was something to show"
