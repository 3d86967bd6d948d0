"""Many seats on one host die at once: each death is told, each seat comes back, and none twice."""

from __future__ import annotations

import pytest

from tests.support.mesh import Mesh
from tests.support.storm import host_under, start_all, storm

SEATS, KILLS = 20, 6


@pytest.mark.parametrize("supervision", ["built-in", "systemd"])
async def test_every_death_is_told_and_every_seat_comes_back_once(mesh: Mesh, supervision: str) -> None:
    async with host_under(mesh, supervision) as host:
        await start_all(mesh, host, SEATS)
        before = await mesh.agents()
        found = await storm(mesh, KILLS)
        assert len(found.seen) == len(found.back) == KILLS
        after = await mesh.agents()
        changed = [name for name in before if before[name].run_id != after[name].run_id]
        assert sorted(changed) == sorted(found.back)
        names = host.tmux("list-sessions", "-F", "#{session_name}").split()
        assert sorted(names) == ["_holder", *sorted(before)]
        assert {agent.supervision for agent in after.values()} == {supervision}
