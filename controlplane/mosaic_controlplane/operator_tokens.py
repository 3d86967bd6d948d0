"""A login token for an operator, made where the register's credentials are: the first one, and whoever lost theirs."""

from __future__ import annotations

import json
import os
from datetime import timedelta

from mosaic_framework.errors import NotFound
from mosaic_framework.paths import Home

from mosaic_controlplane import config
from mosaic_controlplane.identity.bootstrap import open_cluster
from mosaic_controlplane.identity.tokens import make_token
from mosaic_controlplane.register import audit, tenant
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.embedded import running_url


def database_url(home: Home, settings: config.Settings) -> str:
    """Return the register's URL: the one set, else the embedded one's. Raises NotFound when neither runs."""
    return settings.database_url or running_url(home)


async def operator_token(home: Home, *, name: str, role: str, tenant_name: str, ttl: timedelta) -> str:
    """Make a login token for an operator, where the register's credentials are. Returns its text."""
    settings = config.load(home)
    try:
        running = json.loads((home.run / "controlplane.json").read_text(encoding="utf-8"))
        addresses = [str(running["enrol_address"])]
    except (OSError, ValueError, KeyError):
        addresses = [f"{settings.advertise or settings.listen}:{settings.enrol_port}"]
    database = await Database.connect(database_url(home, settings), pool_size=1)
    try:
        cluster = await open_cluster(database, home, alias=settings.cluster)
        async with database.transaction() as connection:
            found = await tenant.find_by_name(connection, tenant_name)
            if found is None:
                raise NotFound(f"there is no tenant {tenant_name!r}")
            token, _expires_at = await make_token(
                connection,
                cluster,
                tenant_id=found.tenant_id,
                tenant=found.name,
                kind="operator",
                name=name,
                role=role,
                made_by="operator-token",
                ttl=ttl,
                enrol_addresses=addresses,
            )
            await audit.record(
                connection,
                tenant_id=found.tenant_id,
                caller_kind="local",
                caller_id=str(os.getuid()),
                caller_name="operator-token",
                peer_address="",
                method="operator-token",
                target=name,
                detail={"role": role},
            )
    finally:
        await database.close()
    return token.format()
