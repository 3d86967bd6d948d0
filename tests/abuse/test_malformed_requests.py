"""Malformed requests at every listener: no crash, no leak, no fault of ours, and nobody else is hurt by them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.fuzzing import Fuzzed, fuzzed_mesh
from tests.support.postgres import Databases

SEED = 20261128
COUNT = 300

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", loop_scope="module")
async def fuzzed(databases: Databases) -> AsyncIterator[Fuzzed]:
    url = databases.create()
    async with fuzzed_mesh(url) as made:
        yield made
    databases.drop(url)
