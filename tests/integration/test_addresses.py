"""The seat that an address means in the register: one is looked up, and all are only read to say what comes near."""

from __future__ import annotations

import pytest
from mosaic_controlplane.mesh.addresses import choose, one_seat
from mosaic_controlplane.register import agent
from mosaic_controlplane.register.database import Database
from mosaic_framework.errors import Ambiguous, FleetError, NotFound
from mosaic_framework.ids import new_id

from tests.support.register_rows import Site, make_site


@pytest.fixture
async def site(database: Database) -> Site:
    """Seats one and two on alpha, two on beta, and one that was removed."""
    site = await make_site(database)
    async with database.connection() as connection:
        await connection.execute(
            "insert into fleet.host (tenant_id, host_id, name) values ($1, $2, 'beta')", site.tenant_id, new_id()
        )
        for host, name in (("alpha", "one"), ("alpha", "two"), ("beta", "two"), ("beta", "gone")):
            await connection.execute(
                "insert into fleet.agent (tenant_id, agent_id, host_id, name, class, runtime, spec, spec_digest) "
                "select tenant_id, $3, host_id, $2, 'code', 'shell', '', '' from fleet.host where name = $1",
                host,
                name,
                new_id(),
            )
        await connection.execute("update fleet.agent set removed_at = now() where name = 'gone'")
    return site


@pytest.mark.parametrize(("address", "host"), [("one", "alpha"), ("alpha/two", "alpha"), ("beta/two", "beta")])
async def test_a_seat_is_found_by_its_name_alone_or_with_its_host(site: Site, address: str, host: str) -> None:
    async with site.database.connection() as connection:
        seat = await one_seat(connection, tenant_id=site.tenant_id, address=address)
    assert (seat.host, seat.name) == (host, address.rpartition("/")[2])


@pytest.mark.parametrize(
    "address",
    [
        "two",
        "gone",
        "beta/gone",
        "tow",
        "beta/one",
        "gamma/two",
        "",
        "/",
        "/one",
        "one/",
        "a/b/c/one",
        "o\0ne",
        "é" * 300,
    ],
)
async def test_an_address_that_means_no_single_seat_is_told_as_by_all_that_there_are(site: Site, address: str) -> None:
    async with site.database.connection() as connection:
        seats = await agent.addresses(connection, tenant_id=site.tenant_id)
        with pytest.raises(FleetError) as of_all:
            choose(seats, address)
        with pytest.raises((NotFound, Ambiguous)) as told:
            await one_seat(connection, tenant_id=site.tenant_id, address=address)
    assert (type(told.value), told.value.what, told.value.why, told.value.details) == (
        type(of_all.value),
        of_all.value.what,
        of_all.value.why,
        of_all.value.details,
    )
