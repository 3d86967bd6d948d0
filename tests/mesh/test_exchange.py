"""What one cluster shows another: exactly what is granted, as it changes, and nothing that is not its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.mesh import Mesh
from tests.support.owned_rows import Owned, owned
from tests.support.peer_views import View, view
from tests.support.peers import Paired, grant, pair


@pytest.fixture
async def there(west: Mesh) -> AsyncIterator[Owned]:
    """What west owns."""
    async with owned(west) as there:
        yield there


@pytest.fixture
async def here(mesh: Mesh) -> AsyncIterator[View]:
    """What the first cluster knows of west."""
    async with view(mesh, "west") as here:
        yield here


@pytest.fixture
async def paired(mesh: Mesh, west: Mesh) -> Paired:
    return await pair(mesh, west)


async def test_what_matches_a_grant_is_shown_and_nothing_else(
    west: Mesh, there: Owned, here: View, paired: Paired
) -> None:
    host = await there.host("w1")
    await there.agent(host, "ada", class_name="builder")
    await there.agent(host, "bob", class_name="reviewer")
    await there.host("w2")
    await grant(west, paired.peer_id, "see", "class=builder")
    await here.until(lambda: here.agents.keys() == {"ada"} and here.hosts == {"w1"})
