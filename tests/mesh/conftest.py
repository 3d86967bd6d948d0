"""A real mesh a test: control plane, host-agents, register, tmux."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.mesh import Mesh, running_mesh
from tests.support.postgres import Databases


@pytest.fixture
async def mesh(database_url: str) -> AsyncIterator[Mesh]:
    async with running_mesh(database_url) as mesh:
        yield mesh


@pytest.fixture
async def west(databases: Databases) -> AsyncIterator[Mesh]:
    """Another cluster beside `mesh`, with a register of its own."""
    url = databases.create()
    async with running_mesh(url, environment={"MOSAIC_CLUSTER": "west"}) as west:
        yield west
    databases.drop(url)
