"""Messages to agents of a peer, and their terminals: within what it grants, once, and told honestly when it is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mosaic_framework.ids import new_id

from tests.support.mesh import Mesh, eventually, running_mesh
from tests.support.pane import Done, Environment, mosaic, persons
from tests.support.peers import Paired, grant, pair, ungrant
from tests.support.postgres import Databases

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Pair:
    """Two clusters: `east` is ours, `west` owns the seats alpha/worker (docs) and alpha/other."""

    def __init__(self, east: Mesh, west: Mesh, paired: Paired) -> None:
        self.east, self.west, self.peer_id = east, west, paired.peer_id

    async def grants(self, **kinds: str) -> None:
        """What west grants to east, and nothing else."""
        await ungrant(self.west, self.peer_id)
        for kind, selector in kinds.items():
            await grant(self.west, self.peer_id, kind, selector)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(databases: Databases) -> AsyncIterator[Pair]:
    urls = databases.create(), databases.create()
    async with (
        running_mesh(urls[0], environment={"MOSAIC_CLUSTER": "east"}) as east,
        running_mesh(urls[1], environment={"MOSAIC_CLUSTER": "west"}) as west,
    ):
        await west.join("alpha")
        await west.apply({"worker": "alpha", "other": "alpha"}, classes={"worker": "docs"})
        await west.until_available("worker", "other")
        yield Pair(east, west, await pair(east, west))
    for url in urls:
        databases.drop(url)


@pytest_asyncio.fixture(loop_scope="module")
async def anna(both: Pair, tmp_path: Path) -> Environment:
    """An admin of east."""
    return persons(both.east, tmp_path / "anna")


async def run(environment: Environment, *arguments: str) -> Done:
    return await asyncio.to_thread(mosaic, environment, *arguments)


async def audit(mesh: Mesh, method: str) -> list[dict[str, object]]:
    """The rows of one call, newest first."""
    rows = await mesh.register_value(
        "select json_agg(to_jsonb(a) order by a.at desc)::text from fleet.audit a where a.method like '%' || $1", method
    )
    found: list[dict[str, object]] = json.loads(str(rows or "[]"))
    return found


async def test_a_granted_send_reaches_the_seat_once_and_is_audited_on_both_sides(
    both: Pair, anna: Environment, tmp_path: Path
) -> None:
    await both.grants(send="agent=worker")
    message_id = str(new_id())
    command = ("agent", "send", "west/alpha/worker", "-m", f"echo x >> {tmp_path}/ran", "--id", message_id, "-o", "json")
    sent = await run(anna, *command)
    assert sent.code == 0, sent
    receipt = json.loads(sent.out.splitlines()[-1])
    assert (receipt["cluster"], receipt["recipient"]["name"], receipt["step"]) == ("west", "worker", "submitted")
    assert (await run(anna, *command)).code == 0
    await eventually((tmp_path / "ran").exists, "it ran")
    assert (tmp_path / "ran").read_text() == "x\n"
    (there,) = await audit(both.west, "FederationService/Send")
    assert (there["caller_kind"], there["caller_name"], there["request_id"]) == ("peer", "east", message_id)
    assert there["detail"]["on_behalf_of"] == "operator anna (admin) of cluster east"  # type: ignore[index]
    (here,) = await audit(both.east, "MessageService/Send")
    assert (here["caller_name"], here["target"]) == ("anna", "west/alpha/worker")
    other = await run(anna, "agent", "send", "west/alpha/worker", "-m", "something else", "--id", message_id)
    assert (other.code, other.error_code) == (6, "message-reused"), other
