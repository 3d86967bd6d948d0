"""A backlog a test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from mosaic_controlplane.register.database import Database

from tests.support.backlog import Yard, open_yards


@pytest.fixture
async def yard(database: Database) -> AsyncIterator[Yard]:
    async with open_yards(database) as (yard,):
        yield yard
