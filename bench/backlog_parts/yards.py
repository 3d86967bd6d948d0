"""A replica's backlog in this process, over a database that is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register.card_claim import connect_hot
from mosaic_controlplane.register.database import Database
from mosaic_framework.ids import new_id

from tests.support.backlog import Yard


@asynccontextmanager
async def open_yard(url: str, tenant_id: UUID) -> AsyncIterator[Yard]:
    """Lend it; in production the control plane has the same, with as many connections."""
    database = await Database.connect(url)
    hot = await connect_hot(url)
    try:
        wakes = Wakes(database, new_id())
        yield Yard(database, Backlog(database, hot, wakes), wakes, tenant_id)
    finally:
        await hot.close()
        await database.close()
