"""Each step from one root to the next is refused while it would shut somebody out, and says whom."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_controlplane.identity import rollover
from mosaic_controlplane.register.database import Database
from mosaic_framework.errors import Conflict
from mosaic_framework.paths import Home

from tests.support.listeners import Listeners, running


async def age(database: Database) -> None:
    """Let ten seconds go by, after which every replica knows what became of the roots."""
    await database.pool.execute(
        "update fleet.authority set made_at = made_at - interval '10 s', signs_since = signs_since - interval '10 s'"
    )


async def add(listeners: Listeners, folder: Path) -> None:
    await rollover.add(listeners.database, listeners.cluster, Home(folder / "home"))
    await listeners.database.pool.execute("update fleet.leaf set issued_at = issued_at - interval '20 s'")
    await listeners.database.pool.execute("update fleet.join_token set made_at = made_at - interval '20 s'")
    await age(listeners.database)


async def test_the_next_root_does_not_sign_while_somebody_may_not_know_it(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as listeners:
        await listeners.enrolled("host", "web1")
        await listeners.enrolled("operator", "gone", role="viewer")
        await add(listeners, tmp_path)
        await database.pool.execute("update fleet.operator set revoked_at = now() where name = 'gone'")
        with pytest.raises(rollover.TooEarly, match=r"^host web1 may not know"):
            await rollover.use(database)
        await database.pool.execute("update fleet.leaf set replaced_at = now()")
        await rollover.use(database)


async def test_the_next_root_does_not_sign_while_a_join_token_is_from_before_it(
    database: Database, tmp_path: Path
) -> None:
    async with running(database, tmp_path) as listeners:
        await listeners.token("host", "web1")
        await add(listeners, tmp_path)
        with pytest.raises(rollover.TooEarly, match="1 unused join tokens"):
            await rollover.use(database)
        await rollover.use(database, force=True)


async def test_the_old_root_is_trusted_while_a_certificate_by_it_is_in_use(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as listeners:
        await listeners.enrolled("host", "web1")
        await add(listeners, tmp_path)
        with pytest.raises(Conflict):
            await rollover.add(database, listeners.cluster, Home(tmp_path / "home"))
        await rollover.use(database, force=True)
        await age(database)
        with pytest.raises(rollover.TooEarly, match="1 certificates by the old root are in use"):
            await rollover.retire(database)
        await database.pool.execute("update fleet.leaf set replaced_at = now()")
        assert len(await rollover.retire(database)) == 1
