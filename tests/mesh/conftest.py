"""A real mesh a test: control plane, host-agents, register, tmux."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.mesh import Mesh, running_mesh


@pytest.fixture
async def mesh(database_url: str) -> AsyncIterator[Mesh]:
    async with running_mesh(database_url) as mesh:
        yield mesh
