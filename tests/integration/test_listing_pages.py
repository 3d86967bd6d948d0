"""A fleet that is larger than one reply: listed a page at a time, in the order of hosts and names, each agent once."""

from __future__ import annotations

from uuid import UUID

import pytest
from mosaic_controlplane.api import listing
from mosaic_controlplane.mesh.clusters import Choice
from mosaic_controlplane.register import agent
from mosaic_controlplane.register.database import Database
from mosaic_framework.errors import InvalidInput
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2 as pb

from tests.support.register_rows import Site, make_site


@pytest.fixture
async def site(database: Database) -> Site:
    """A tenant with seats on three hosts, whose names are not in the order in which they came."""
    site = await make_site(database)
    spec = pb.SeatSpec(model="big", contract="a contract" * 1000, working_directory="/srv", labels={"team": "x"})
    for host in ("web-2", "web-1"):
        await database.pool.execute(
            "insert into fleet.host (tenant_id, host_id, name) values ($1, $2, $3)", site.tenant_id, new_id(), host
        )
    await database.pool.execute(
        "insert into fleet.agent (tenant_id, agent_id, host_id, name, class, runtime, spec, spec_digest) "
        "select tenant_id, gen_random_uuid(), host_id, 'a' || n, 'code', 'shell', $2, '' "
        "from fleet.host cross join generate_series(1, 12) n where tenant_id = $1",
        site.tenant_id,
        spec.SerializeToString(),
    )
    return site


def own(site: Site) -> Choice:
    return Choice(site.tenant_id, "", "local")


async def pages(site: Site, size: int) -> list[pb.ListAgentsReply]:
    found, token = [], ""
    async with site.database.connection() as connection:
        while not found or token:
            asked = pb.ListAgentsRequest(page_size=size, page_token=token)
            reply = await listing.list_agents(connection, asked, site.operator, own(site))
            found.append(reply)
            token = reply.next_page_token
    return found


def places(reply: pb.ListAgentsReply) -> list[tuple[str, str]]:
    return [(one.host, one.name) for one in reply.agents]


@pytest.mark.parametrize("size", [1, 5, 12, 36, 5_000, 2_000_000_000])
async def test_pages_tell_every_agent_once_and_in_order_and_the_hosts_once(site: Site, size: int) -> None:
    (whole,) = await pages(site, 0)
    assert len(whole.agents) == 36
    assert places(whole) == sorted(places(whole))
    found = await pages(site, size)
    assert [place for page in found for place in places(page)] == places(whole)
    assert all(len(page.agents) <= min(size, listing.PAGE_LIMIT) for page in found)
    assert [len(page.hosts) for page in found] == [3] + [0] * (len(found) - 1)


async def test_an_agent_that_was_removed_is_on_no_page(site: Site) -> None:
    async with site.database.connection() as connection:
        await connection.execute("update fleet.agent set removed_at = now() where name = 'a7'")
    for size in (5, 5_000):
        names = [one.name for page in await pages(site, size) for one in page.agents]
        assert ("a7" in names, len(names)) == (False, 33)


async def test_an_agent_that_goes_between_two_pages_leaves_out_no_other(site: Site) -> None:
    async with site.database.connection() as connection:
        first = await listing.list_agents(connection, pb.ListAgentsRequest(page_size=7), site.operator, own(site))
        await connection.execute(
            "update fleet.agent set removed_at = now() where agent_id = any($1)",
            [UUID(one.id) for one in first.agents[-2:]],
        )
        asked = pb.ListAgentsRequest(page_size=5_000, page_token=first.next_page_token)
        rest = await listing.list_agents(connection, asked, site.operator, own(site))
    assert len(rest.agents) == 29
    assert min(places(rest)) > max(places(first))


@pytest.mark.parametrize("token", ["x", "/x", "x/", "x/\0", "x/" + "y" * 200])
async def test_a_page_token_that_is_none_is_refused(site: Site, token: str) -> None:
    with pytest.raises(InvalidInput, match="page token"):
        async with site.database.connection() as connection:
            await listing.list_agents(
                connection, pb.ListAgentsRequest(page_size=5, page_token=token), site.operator, own(site)
            )


async def test_what_a_watcher_begins_with_holds_of_a_seats_spec_only_what_is_shown(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "PAGE", 10)
    async with site.database.connection() as connection:
        rows = await agent.shown(connection, tenant_id=site.tenant_id)
    assert len(rows) == 36
    assert [(row.host, row.name) for row in rows] == sorted((row.host, row.name) for row in rows)
    shown = {pb.SeatSpec.FromString(row.spec).SerializeToString(deterministic=True) for row in rows}
    kept = pb.SeatSpec(model="big", working_directory="/srv", labels={"team": "x"})
    assert shown == {kept.SerializeToString(deterministic=True)}
