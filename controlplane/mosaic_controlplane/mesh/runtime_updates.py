"""Updates of the runtimes' own programs: which there could be, asking a host for one, following it to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from mosaic_framework.errors import Conflict, InvalidInput, NotFound
from mosaic_framework.manifest import Manifest
from mosaic_framework.names import nearest
from mosaic_proto.v1 import fleet_pb2
from pydantic import ValidationError

from mosaic_controlplane.mesh.wakes import Wakes, wait_for_wake
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import runtime_update as update_table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.replica import WakeKey
from mosaic_controlplane.register.runtime_update import UpdatableSeat, UpdateRow

START_WITHIN = timedelta(seconds=30)
DEFAULT_DRAIN = timedelta(minutes=5)
LONGEST_DRAIN = timedelta(hours=24)
_ENDS = ("done", "failed")


class UpdateUnderWay(Conflict):
    """This runtime is being updated on this host already."""

    code = "update-under-way"


class NothingUpdates(InvalidInput):
    """Nothing updates this runtime."""

    code = "nothing-updates"


@dataclass(slots=True)
class Planned:
    """One runtime on one host: the command that updates it (empty: there is none), and whom that touches."""

    host_id: UUID
    host: str
    runtime: str
    command: list[str]
    agents: list[str] = field(default_factory=list)


def plan(seats: list[UpdatableSeat]) -> list[Planned]:
    """Return every runtime on every host once (pure). A seat with a command of its own does not run its program."""
    found: dict[tuple[UUID, str], Planned] = {}
    for seat in seats:
        spec = fleet_pb2.SeatSpec.FromString(seat.spec)
        if spec.command:
            continue
        key = (seat.host_id, seat.runtime)
        if key not in found:
            found[key] = Planned(seat.host_id, seat.host, seat.runtime, _update_command(spec.manifest_json))
        found[key].agents.append(seat.name)
    return list(found.values())


def _update_command(manifest_json: str) -> list[str]:
    try:
        return list(Manifest.from_json(manifest_json).install.update)
    except ValidationError:
        return []


async def planned(connection: Connection, *, tenant_id: UUID, host: str, runtime: str) -> list[Planned]:
    """Return what could be updated. Raises NotFound for a host or a runtime that no seat has."""
    found = plan(await update_table.seats(connection, tenant_id=tenant_id, host=host, runtime=runtime))
    if not found and (host or runtime):
        everything = plan(await update_table.seats(connection, tenant_id=tenant_id, host="", runtime=""))
        what, wanted, known = (
            ("host", host, {one.host for one in everything})
            if host and host not in {one.host for one in everything}
            else ("runtime", runtime, {one.runtime for one in everything if not host or one.host == host})
        )
        near = ", ".join(nearest(wanted, known) or sorted(known))
        raise NotFound(f"no agent's {what} is {wanted!r}", why=f"there are: {near}" if near else "there is no agent")
    return found


async def ask(
    connection: Connection,
    *,
    tenant_id: UUID,
    update_id: UUID,
    host: str,
    runtime: str,
    relaunch: bool,
    drain: timedelta,
    asked_by: str,
) -> tuple[UpdateRow, list[WakeKey]]:
    """Ask a host for an update, in the caller's transaction. Raises NothingUpdates, UpdateUnderWay, NotFound."""
    if not host or not runtime:
        raise InvalidInput("an update is of one runtime on one host", why="the request does not name both")
    if not timedelta(0) <= drain <= LONGEST_DRAIN:
        raise InvalidInput("the time to wait for agents is out of range", why="it lies between 0 and 24 hours")
    (found,) = await planned(connection, tenant_id=tenant_id, host=host, runtime=runtime)
    if not found.command:
        raise NothingUpdates(f"nothing updates the runtime {runtime}", why="its manifest names no update command")
    # The host's row first, as whoever writes for a host does: its generation makes the link look for what is new.
    await host_table.set_generation(connection, tenant_id=tenant_id, host_ids=[found.host_id])
    await update_table.expire(connection, tenant_id=tenant_id)
    asked = await update_table.ask(
        connection,
        tenant_id=tenant_id,
        update_id=update_id,
        host_id=found.host_id,
        runtime=runtime,
        relaunch=relaunch,
        drain=drain or DEFAULT_DRAIN,
        asked_by=asked_by,
        start_within=START_WITHIN,
    )
    if not asked:
        other = await update_table.under_way(connection, tenant_id=tenant_id, host_id=found.host_id, runtime=runtime)
        raise UpdateUnderWay(
            f"{runtime} is being updated on host {host} already", why=f"{other[1]} asked for it" if other else ""
        )
    row = await update_table.find(connection, tenant_id=tenant_id, update_id=update_id)
    if row is None:
        raise NotFound(f"there is no update {update_id}")
    return row, [WakeKey.host(tenant_id, found.host_id), WakeKey.change(tenant_id)]


async def follow(database: Database, wakes: Wakes, *, tenant_id: UUID, update_id: UUID) -> AsyncIterator[UpdateRow]:
    """Yield an update as it is, then whenever it is another, until it has ended. Raises NotFound."""
    told: UpdateRow | None = None
    async with wakes.watching(WakeKey.change(tenant_id)) as wake:
        while True:
            async with database.connection() as connection:
                await update_table.expire(connection, tenant_id=tenant_id)
                row = await update_table.find(connection, tenant_id=tenant_id, update_id=update_id)
            if row is None:
                raise NotFound(f"there is no update {update_id}")
            if row != told:
                told = row
                yield row
            if row.state in _ENDS:
                return
            await wait_for_wake(wake)
