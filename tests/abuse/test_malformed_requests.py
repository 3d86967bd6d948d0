"""Malformed requests at every listener: no crash, no leak, no fault of ours, and nobody else is hurt by them."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.fuzzing import Fuzzed, Outcomes, Size, fuzzed_mesh, settled
from tests.support.postgres import Databases
from tests.support.program import Program

SEED = 20261128
COUNT = 300
POOL = 8  # connections to the register, which are opened when they are first needed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fuzzed(databases: Databases) -> AsyncIterator[Fuzzed]:
    url = databases.create()
    async with fuzzed_mesh(url) as made:
        yield made
    databases.drop(url)


async def unhurt(fuzzed: Fuzzed, program: Program, outcomes: Outcomes, before: Size) -> None:
    """The program lives, answered without a fault, holds no more than before, and honest callers are served."""
    assert outcomes.made >= COUNT
    assert not outcomes.faults, "\n".join(outcomes.faults[:5])
    await fuzzed.honest_work()
    assert program.runs
    for line in program.log.read_text().splitlines():
        entry = json.loads(line)  # nothing writes past the log, such as a library or a traceback
        assert "exception" not in entry, entry
    after = await settled(program)
    assert after.files <= before.files + POOL + 4, (before, after)
    assert after.tasks <= before.tasks + 10, (before, after)
    assert after.rss <= before.rss + 64 * 1024 * 1024, (before, after)


async def test_malformed_requests_at_the_enrolment_listener_hurt_nobody(fuzzed: Fuzzed) -> None:
    before = await settled(fuzzed.mesh.controlplane)
    outcomes = await fuzzed.enrolment(random.Random(SEED), COUNT)
    await unhurt(fuzzed, fuzzed.mesh.controlplane, outcomes, before)


async def test_malformed_requests_of_every_method_at_the_fleet_listener_hurt_nobody(fuzzed: Fuzzed) -> None:
    before = await settled(fuzzed.mesh.controlplane)
    outcomes = await fuzzed.fleet(random.Random(SEED), 2 * COUNT)
    await unhurt(fuzzed, fuzzed.mesh.controlplane, outcomes, before)


async def test_malformed_requests_by_a_peer_hurt_nobody(fuzzed: Fuzzed) -> None:
    before = await settled(fuzzed.mesh.controlplane)
    outcomes = await fuzzed.peer(random.Random(SEED), COUNT)
    await unhurt(fuzzed, fuzzed.mesh.controlplane, outcomes, before)
    assert outcomes.codes["UNAVAILABLE"] == 0, "TLS takes the peer"


async def test_malformed_requests_from_a_pane_hurt_nobody(fuzzed: Fuzzed) -> None:
    before = await settled(fuzzed.honest.program)
    outcomes = await fuzzed.pane(random.Random(SEED), COUNT)
    await unhurt(fuzzed, fuzzed.honest.program, outcomes, before)


async def test_reports_that_no_hook_makes_hurt_nobody(fuzzed: Fuzzed) -> None:
    before = await settled(fuzzed.honest.program)
    outcomes = await fuzzed.reports(random.Random(SEED), COUNT)
    await unhurt(fuzzed, fuzzed.honest.program, outcomes, before)


async def test_garbage_below_grpc_at_the_tcp_listeners_hurts_nobody(fuzzed: Fuzzed) -> None:
    before = await settled(fuzzed.mesh.controlplane)
    outcomes = await fuzzed.raw(
        random.Random(SEED), COUNT, fuzzed.enrol_address, fuzzed.fleet_address, fuzzed.peer_address
    )
    await unhurt(fuzzed, fuzzed.mesh.controlplane, outcomes, before)


async def test_garbage_below_grpc_at_the_panes_socket_hurts_nobody(fuzzed: Fuzzed) -> None:
    before = await settled(fuzzed.honest.program)
    outcomes = await fuzzed.raw(random.Random(SEED), COUNT, fuzzed.pane_address)
    await unhurt(fuzzed, fuzzed.honest.program, outcomes, before)
