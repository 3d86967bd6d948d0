"""Rosters: what is wanted of a tenant's fleet, changed by compare-and-set and by actions on seats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from mosaic_framework.briefing import changed_texts, laid_over
from mosaic_framework.errors import Conflict, InvalidInput, NotFound, RosterChanged
from mosaic_framework.ids import new_id
from mosaic_framework.manifest import Manifest
from mosaic_framework.names import nearest
from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1.seeding_pb2 import Briefing
from pydantic import ValidationError

from mosaic_controlplane.mesh.addresses import choose, of_own
from mosaic_controlplane.mesh.briefings import with_peers
from mosaic_controlplane.register import agent as agent_table
from mosaic_controlplane.register import briefing as briefing_table
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import message as message_table
from mosaic_controlplane.register import roster as roster_table
from mosaic_controlplane.register import shared
from mosaic_controlplane.register.agent import AppliedSeat, SeatSpecRow
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.replica import WakeKey
from mosaic_controlplane.register.roster import RosterRow

SEAT_REMOVED = "the agent was removed from the roster before its host was given this message"


class SeatStopped(Conflict):
    """The seat does not run."""

    code = "seat-stopped"


class SeatOutOfReach(Conflict):
    """An agent cannot be moved off a host that cannot be reached."""

    code = "seat-out-of-reach"


@dataclass(frozen=True, slots=True)
class WantedSeat:
    """A seat as a roster names it: its host by name ('' for the default host)."""

    host: str
    row: SeatSpecRow


@dataclass(frozen=True, slots=True)
class SeatChange:
    """What an apply does to one seat: added, changed, removed or unchanged."""

    host: str
    name: str
    change: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an apply does, before it is done (pure)."""

    added: list[SeatSpecRow]
    changed: list[tuple[UUID, SeatSpecRow]]
    removed: list[AppliedSeat]
    changes: list[SeatChange]

    @property
    def touched_hosts(self) -> set[UUID]:
        """Hosts whose desired state changes."""
        return (
            {row.host_id for row in self.added}
            | {row.host_id for _id, row in self.changed}
            | {seat.host_id for seat in self.removed}
        )


def place(wanted: Sequence[WantedSeat], hosts: dict[str, UUID], default_host: str) -> list[SeatSpecRow]:
    """Return the seats with their host ids (pure). Raises NotFound or InvalidInput."""
    if not hosts:
        raise NotFound("no host has joined yet", next_step="mosaic host token NAME")
    if not default_host and len(hosts) == 1:
        default_host = next(iter(hosts))
    placed: list[SeatSpecRow] = []
    for seat in wanted:
        name = seat.host or default_host
        if not name:
            raise InvalidInput(
                f"agent {seat.row.name!r} names no host and there are {len(hosts)}",
                why=f"the hosts are {', '.join(sorted(hosts)[:8])}",
                next_step="add host: NAME to the agent in the roster",
            )
        if name not in hosts:
            close = nearest(name, hosts)
            raise NotFound(
                f"agent {seat.row.name!r} is placed on host {name!r}, which has not joined",
                why=f"the nearest names are {', '.join(close)}"
                if close
                else f"the hosts are {', '.join(sorted(hosts))}",
                next_step=f"mosaic host token {name}",
            )
        placed.append(replace(seat.row, host_id=hosts[name]))
    taken: set[tuple[UUID, str]] = set()
    for row in placed:
        if (row.host_id, row.name) in taken:
            raise InvalidInput(f"two agents on one host are named {row.name!r}")
        taken.add((row.host_id, row.name))
    return placed


def plan(applied: Sequence[AppliedSeat], wanted: Sequence[SeatSpecRow], host_names: dict[UUID, str]) -> Plan:
    """Return what turns `applied` into `wanted` (pure). A seat is the same when host and name are."""
    before = {(seat.host_id, seat.name): seat for seat in applied}
    result = Plan([], [], [], [])
    for row in wanted:
        known = before.pop((row.host_id, row.name), None)
        if known is None:
            result.added.append(row)
            change = "added"
        elif known.spec_digest != row.spec_digest:
            result.changed.append((known.agent_id, row))
            change = "changed"
        else:
            change = "unchanged"
        result.changes.append(SeatChange(host_names.get(row.host_id, ""), row.name, change))
    for seat in before.values():
        result.removed.append(seat)
        result.changes.append(SeatChange(host_names.get(seat.host_id, ""), seat.name, "removed"))
    return result


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did. `generations`: of the hosts whose seats change; others are at most told of new peers."""

    version: int
    changes: list[SeatChange]
    generations: dict[str, int]
    wakes: list[WakeKey]
    briefing_changes: list[str]


async def apply(
    connection: Connection,
    *,
    tenant_id: UUID,
    document: str,
    wanted: Sequence[WantedSeat],
    base_version: int,
    default_host: str,
    applied_by: str,
    briefing: Briefing | None = None,
    force_moves: bool = False,
) -> Applied:
    """Make a roster the desired one, in the caller's transaction.

    `briefing`: its texts, laid over those applied before; the peers are those of the roster.
    Raises RosterChanged, NotFound, InvalidInput, or, unless `force_moves`, SeatOutOfReach.
    """
    await roster_table.lock(connection, tenant_id=tenant_id)
    newest = await roster_table.newest(connection, tenant_id=tenant_id)
    _check_base(newest, base_version)
    hosts = await host_table.ids_by_name(connection, tenant_id=tenant_id)
    rows = place(wanted, hosts, default_host)
    names = {host_id: name for name, host_id in hosts.items()}
    done = plan(await agent_table.seats_for_apply(connection, tenant_id=tenant_id), rows, names)
    if not force_moves:
        await _check_moves(connection, tenant_id, done)

    before = Briefing.FromString(await briefing_table.get(connection, tenant_id=tenant_id))
    after = with_peers(laid_over(before, briefing or Briefing()), rows, names)
    touched = sorted(done.touched_hosts | ({row.host_id for row in rows} if after != before else set()))
    generations = await host_table.set_generation(connection, tenant_id=tenant_id, host_ids=touched)
    await briefing_table.replace(connection, tenant_id=tenant_id, content=after.SerializeToString(deterministic=True))
    for row in done.added:
        await agent_table.add_seat(connection, tenant_id=tenant_id, agent_id=new_id(), seat=row)
    for agent_id, row in done.changed:
        await agent_table.change_seat(connection, tenant_id=tenant_id, agent_id=agent_id, seat=row)
    gone = [seat.agent_id for seat in done.removed]
    await agent_table.remove_seats(connection, tenant_id=tenant_id, agent_ids=gone)
    failed = await message_table.fail_unoffered(connection, tenant_id=tenant_id, recipients=gone, reason=SEAT_REMOVED)
    version = (newest.version if newest else 0) + 1
    await roster_table.add(connection, tenant_id=tenant_id, version=version, document=document, applied_by=applied_by)
    return Applied(
        version,
        done.changes,
        {name: generation for name, generation in generations.items() if hosts.get(name) in done.touched_hosts},
        [
            WakeKey.change(tenant_id),
            *(WakeKey.host(tenant_id, host_id) for host_id in touched),
            *(WakeKey.message(tenant_id, message_id) for message_id in failed),
        ],
        changed_texts(before, after),
    )


async def _check_moves(connection: Connection, tenant_id: UUID, done: Plan) -> None:
    """Raise SeatOutOfReach when an agent would begin on one host while nobody can end it on another."""
    arriving = {row.name for row in done.added}
    leaving = [seat.agent_id for seat in done.removed if seat.name in arriving]
    for name, host, state in await agent_table.may_still_run(connection, tenant_id=tenant_id, agent_ids=leaving):
        raise SeatOutOfReach(
            f"agent {name} may still run on host {host}, which is {state}",
            why="moved now, it would run twice until that host is back: two at work, on what both can reach",
            next_step=f"wait until {host} is back, or see to it that nothing runs there and add --force",
            details={"agent": name, "host": host},
        )


def _check_base(newest: RosterRow | None, base_version: int) -> None:
    current = newest.version if newest else 0
    if base_version == current:
        return
    by = f"version {current} was applied by {newest.applied_by}" if newest else "none has been applied"
    raise RosterChanged(
        why=f"this edit started from version {base_version}; {by}",
        details={"current": str(current), "base": str(base_version)},
    )


async def preview(
    connection: Connection, *, tenant_id: UUID, wanted: Sequence[WantedSeat], default_host: str
) -> tuple[int, list[SeatChange]]:
    """Return the version that is applied, and what `apply` would do to each seat. Raises NotFound or InvalidInput."""
    newest = await roster_table.newest(connection, tenant_id=tenant_id)
    hosts = await host_table.ids_by_name(connection, tenant_id=tenant_id)
    rows = place(wanted, hosts, default_host)
    names = {host_id: name for name, host_id in hosts.items()}
    found = plan(await agent_table.seats_applied(connection, tenant_id=tenant_id), rows, names)
    return newest.version if newest else 0, found.changes


@dataclass(frozen=True, slots=True)
class Acted:
    """What an action on seats raised."""

    agent_ids: list[UUID]
    generations: dict[str, int]
    wakes: list[WakeKey]


RESET_WAYS = ("", "clear", "new", "restart")


async def act(
    connection: Connection, *, tenant_id: UUID, action: str, targets: Sequence[str], reset_way: str = ""
) -> Acted:
    """Start, stop, restart or reset the seats named by `targets` (all when empty), in the caller's transaction.

    Raises InvalidInput for a way of resetting that is none, and Conflict for a reset of a seat that is stopped.
    """
    if reset_way not in RESET_WAYS:
        raise InvalidInput(f"{reset_way[:32]!r} is no way to reset an agent", why="it is clear, new or restart")
    await roster_table.lock(connection, tenant_id=tenant_id)
    seats = await agent_table.addresses(connection, tenant_id=tenant_id)
    chosen = [choose(seats, await of_own(connection, target)) for target in targets] if targets else seats
    agent_ids = sorted({seat.agent_id for seat in chosen})
    hosts = sorted({seat.host_id for seat in chosen})
    generations = await host_table.set_generation(connection, tenant_id=tenant_id, host_ids=hosts)
    if action == "reset":
        await _reset(connection, tenant_id, agent_ids, reset_way)
    else:
        await agent_table.act_on_seats(connection, tenant_id=tenant_id, agent_ids=agent_ids, action=action)
    return Acted(
        agent_ids,
        generations,
        [WakeKey.change(tenant_id), *(WakeKey.host(tenant_id, host_id) for host_id in hosts)],
    )


def reset_ways(spec: bytes) -> set[str]:
    """Return which of /clear and /new empty the context of a seat's runtime (pure). `spec`: a mosaic.v1.SeatSpec."""
    try:
        reset = Manifest.from_json(fleet_pb2.SeatSpec.FromString(spec).manifest_json).reset
    except ValidationError:
        return set()
    return {way for way, command in (("clear", reset.clear), ("new", reset.new)) if command is not None}


async def _reset(connection: Connection, tenant_id: UUID, agent_ids: Sequence[UUID], way: str) -> None:
    rows = await shared.agents(connection, tenant_id=tenant_id, ids=agent_ids)
    for row in sorted(rows.values(), key=lambda row: (row.host, row.name)):
        name = f"{row.host}/{row.name}"
        if not row.desired_running:
            raise SeatStopped(
                f"agent {name} is stopped: there is nothing to reset", next_step=f"mosaic fleet start {name}"
            )
        if way in ("clear", "new") and way not in reset_ways(row.spec):
            raise InvalidInput(
                f"agent {name} cannot be reset by /{way}",
                why=f"its runtime, {row.runtime}, has no such command, or it does something else",
                next_step=f"mosaic agent reset {name}",
            )
    await agent_table.reset_seats(connection, tenant_id=tenant_id, agent_ids=agent_ids, way=way)
