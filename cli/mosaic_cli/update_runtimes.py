"""`mosaic update --runtimes`: the runtimes' own programs, host by host, told as it goes and together at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mosaic_framework.errors import EXIT_UNFINISHED, FleetError, Unreachable
from mosaic_proto.v1 import runtimes_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import Connection, connect
from mosaic_cli.documents import rfc3339
from mosaic_cli.output import Column, Format, Listing, Style

_ENDS = (pb.UPDATE_STATE_DONE, pb.UPDATE_STATE_FAILED)
_BEYOND_DRAIN = 900.0
"""Seconds that an update may take after its seats were available: the host ends the command after 600."""
_RETRY = 1.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says. `timeout`: how long seats may take to become available."""

    host: str = ""
    runtime: str = ""
    relaunch: bool = False
    timeout: float = 300.0
    detach: bool = False
    dry_run: bool = False


def update_runtimes(wish: Wish, form: Format, *, context: str, tenant: str) -> int:
    """Update as wished, show how it went, and return the exit code: 1 when any fell short, 8 when any goes on."""
    with connect(context, tenant=tenant) as connection:
        request = pb.PlanUpdatesRequest(tenant=connection.tenant, host=wish.host, runtime=wish.runtime)
        planned = list(connection.call(connection.runtimes.PlanUpdates, request).updates)
        wanted = [one for one in planned if one.command or wish.runtime]
        if wish.dry_run:
            output.show(_plan(wanted), form)
            output.say("nothing was done")
            return 0
        updates = list(_all(connection, wanted, wish))
    output.show(_listing(updates), form)
    if any(one.state == pb.UPDATE_STATE_FAILED for one in updates):
        return 1
    return EXIT_UNFINISHED if any(one.state not in _ENDS for one in updates) and not wish.detach else 0


def _all(connection: Connection, wanted: Iterable[pb.PlannedUpdate], wish: Wish) -> Iterator[pb.RuntimeUpdate]:
    """Update host by host. A new version that does not come up on one host is not brought to the next."""
    stopped = ""
    for host, plans in groupby(sorted(wanted, key=lambda one: (one.host, one.runtime)), key=lambda one: one.host):
        for plan in plans:
            if stopped:
                problem = f"not tried, since it fell short on {stopped}"
                yield _failed(plan, problem)
                continue
            update = _one(connection, plan, wish)
            yield update
            if _broke_seats(update):
                stopped = host


def _one(connection: Connection, plan: pb.PlannedUpdate, wish: Wish) -> pb.RuntimeUpdate:
    request = pb.UpdateRuntimeRequest(
        tenant=connection.tenant,
        host=plan.host,
        runtime=plan.runtime,
        relaunch=wish.relaunch,
        drain_ms=max(1, round(wish.timeout * 1000)),
    )
    try:
        update: pb.RuntimeUpdate = connection.call(connection.runtimes.UpdateRuntime, request).update
    except Unreachable:
        raise
    except FleetError as error:
        return _failed(plan, f"{error.what}: {error.why}" if error.why else error.what)
    return update if wish.detach else _followed(connection, update, time.monotonic() + wish.timeout + _BEYOND_DRAIN)


def _followed(connection: Connection, update: pb.RuntimeUpdate, deadline: float) -> pb.RuntimeUpdate:
    """Tell how far it is until it has ended, through lost connections, or until `deadline`."""
    began, told = time.monotonic(), ""
    while update.state not in _ENDS and time.monotonic() < deadline:
        request = pb.FollowUpdateRequest(tenant=connection.tenant, id=update.id)
        try:
            for update in connection.stream(connection.runtimes.FollowUpdate, request, until=deadline):
                if (text := _words(update)) != told:
                    told = text
                    output.say(f"  {time.monotonic() - began:5.1f}s  {update.host}/{update.runtime}: {text}")
        except Unreachable as lost:
            output.say(f"  the connection is lost ({lost.why}); the update goes on; trying again")
            time.sleep(_RETRY)  # nothing tells us when a control plane is back
            connection.reconnect()
    return update


def _words(update: pb.RuntimeUpdate) -> str:
    match update.state:
        case pb.UPDATE_STATE_WANTED:
            return "waits for its host"
        case pb.UPDATE_STATE_DRAINING:
            busy = ", ".join(f"{one.name} {one.detail}" for one in update.seats)
            return f"waits until its agents are available: {busy}" if busy else "its agents are available"
        case pb.UPDATE_STATE_UPDATING:
            return f"updating {update.version_before}".rstrip()
        case pb.UPDATE_STATE_RELAUNCHING:
            up = sum(one.well for one in update.seats)
            return f"relaunching on {update.version_after}" + (f", {up} up" if up else "")
        case pb.UPDATE_STATE_DONE:
            return f"{_state(update)}, {_versions(update)}"
        case _:
            return update.problem or "failed"


def _versions(update: pb.RuntimeUpdate) -> str:
    if update.version_before == update.version_after:
        return f"{update.version_after} as before"
    return f"{update.version_before or 'unknown'} → {update.version_after or 'unknown'}"


def _broke_seats(update: pb.RuntimeUpdate) -> bool:
    return update.state == pb.UPDATE_STATE_FAILED and any(not one.well for one in update.seats) and update.relaunch


def _failed(plan: pb.PlannedUpdate, problem: str) -> pb.RuntimeUpdate:
    return pb.RuntimeUpdate(host=plan.host, runtime=plan.runtime, state=pb.UPDATE_STATE_FAILED, problem=problem)


def _state(update: pb.RuntimeUpdate) -> str:
    """Return how far it is; what the command left at the version it was is `unchanged`, and no fault."""
    if update.state == pb.UPDATE_STATE_DONE and update.version_before == update.version_after != "":
        return "unchanged"
    return str(pb.UpdateState.Name(update.state)).removeprefix("UPDATE_STATE_").lower()


def _seats(update: pb.RuntimeUpdate) -> str:
    return f"{sum(one.well for one in update.seats)} of {len(update.seats)}" if update.seats else ""


def _listing(updates: list[pb.RuntimeUpdate]) -> Listing[pb.RuntimeUpdate]:
    columns: list[Column[pb.RuntimeUpdate]] = [
        Column("HOST", lambda one: one.host),
        Column("RUNTIME", lambda one: one.runtime),
        Column("RESULT", _state),
        Column("BEFORE", lambda one: one.version_before),
        Column("AFTER", lambda one: one.version_after),
        Column("SEATS", _seats),
        Column("PROBLEM", lambda one: one.problem),
        Column("ID", lambda one: one.id, wide=True),
    ]
    return Listing(
        "RuntimeUpdateList",
        updates,
        columns,
        name=lambda one: f"{one.host}/{one.runtime}",
        document=_document,
        style=lambda one: Style.WRONG if one.state == pb.UPDATE_STATE_FAILED else Style.PLAIN,
        empty="no agent runs a runtime that can be updated",
    )


def _document(update: pb.RuntimeUpdate) -> dict[str, Any]:
    return {
        "id": update.id or None,
        "host": update.host,
        "runtime": update.runtime,
        "relaunch": update.relaunch,
        "state": _state(update),
        "versionBefore": update.version_before,
        "versionAfter": update.version_after,
        "problem": update.problem,
        "output": update.output,
        "seats": [{"name": one.name, "well": one.well, "detail": one.detail} for one in update.seats],
        "askedBy": update.asked_by,
        "askedAt": rfc3339(update.asked_at),
        "changedAt": rfc3339(update.changed_at),
    }


def _plan(planned: list[pb.PlannedUpdate]) -> Listing[pb.PlannedUpdate]:
    columns: list[Column[pb.PlannedUpdate]] = [
        Column("HOST", lambda one: one.host),
        Column("RUNTIME", lambda one: one.runtime),
        Column("AGENTS", lambda one: ", ".join(one.agents)),
        Column("COMMAND", lambda one: " ".join(one.command)),
    ]
    return Listing(
        "RuntimeUpdatePlan",
        planned,
        columns,
        name=lambda one: f"{one.host}/{one.runtime}",
        document=lambda one: {
            "host": one.host,
            "runtime": one.runtime,
            "agents": list(one.agents),
            "command": list(one.command),
        },
        empty="no agent runs a runtime that can be updated",
    )
