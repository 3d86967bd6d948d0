"""The words of `mosaic-controlplane authority`: what each verb does, and what it says."""

from __future__ import annotations

from mosaic_framework.paths import Home

from mosaic_controlplane.identity import rollover
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, open_cluster
from mosaic_controlplane.register.database import Database

VERBS = ("ls", "add", "use", "retire")


async def run(verb: str, home: Home, *, url: str, alias: str, force: bool) -> str:
    """Carry out one verb on the register at `url` and return what to print."""
    database = await Database.connect(url, pool_size=1)
    try:
        return await _run(verb, database, await open_cluster(database, home, alias=alias), home, force=force)
    finally:
        await database.close()


async def _run(verb: str, database: Database, cluster: ClusterIdentity, home: Home, *, force: bool) -> str:
    if verb == "add":
        made = await rollover.add(database, cluster, home)
        return f"root {made} is made; every host is told within seconds, operators when they renew\n" + _NEXT_USE
    if verb == "use":
        used = await rollover.use(database, force=force)
        return f"root {used} signs now\nwhen nothing hangs on the old one: mosaic-controlplane authority retire\n"
    if verb == "retire":
        retired = await rollover.retire(database, force=force)
        return "".join(f"root {one} is trusted no more\n" for one in retired)
    async with database.connection() as connection:
        known = await rollover.roots(connection)
    lines = ["STATE  IN USE  LAST ENDS             ROOT ENDS   FINGERPRINT"]
    for root in known:
        used_by, last = (
            (str(root.in_use.leaves), f"{root.in_use.last_end:%Y-%m-%d %H:%M} UTC") if root.in_use else ("0", "-")
        )
        lines.append(f"{root.state:5}  {used_by:>6}  {last:20}  {root.not_after:%Y-%m-%d}  {root.fingerprint[:32]}")
    return "\n".join(lines) + "\n"


_NEXT_USE = "when all know it: mosaic-controlplane authority use\n"
