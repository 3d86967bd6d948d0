"""`mosaic fleet apply`: a roster file becomes the desired one, by compare-and-set, and its seats come up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_framework.briefing import text_title
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import RosterChanged
from mosaic_framework.paths import Home, write_private
from mosaic_framework.resolve import Resolved, resolve_roster
from mosaic_framework.roster_file import load_roster, roster_path
from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import output
from mosaic_cli.asking import agree
from mosaic_cli.client import Connection, connect
from mosaic_cli.output import Column, Listing, Style
from mosaic_cli.waiting import wait_for_seats

_STYLES = {"added": Style.PLAIN, "changed": Style.ATTENTION, "removed": Style.WRONG, "unchanged": Style.GREY}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for. `base` None: the version last applied from here."""

    path: Path | None
    base: int | None = None
    dry_run: bool = False
    yes: bool = False
    detach: bool = False
    timeout: float = 60.0
    force: bool = False
    """also move agents off a host that cannot be reached"""


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one seat: added, changed, removed or unchanged."""

    host: str
    name: str
    change: str


def apply_roster(wish: Wish, *, context: str, tenant: str) -> Listing[Change]:
    """Apply, wait unless detached, and return what changed.

    Raises RosterInvalid before anything is sent, RosterChanged when somebody else applied another meanwhile,
    SeatsHaveProblems or Unfinished while waiting.
    """
    home = Home.from_environment()
    catalog = Catalog.open(home)
    file = load_roster(wish.path or roster_path(home), catalog=catalog)
    for warning in file.warnings:
        output.say(f"warning: {warning}")
    with connect(context, tenant=tenant or file.roster.named_tenant, home=home) as connection:
        default_host = connection.context.default_host
        resolved = resolve_roster(file.roster, catalog=catalog, default_host=default_host)
        for sentence in resolved.warnings:
            output.say(f"warning: {sentence}")
        memory = memory_path(home, connection)
        now = connection.call(connection.fleet.GetRoster, pb.GetRosterRequest(tenant=connection.tenant))
        base = _base(wish, memory, now)
        changes = difference(now.document, resolved, default_host)
        removed = [change for change in changes if change.change == "removed"]
        if base != now.version:
            raise _conflict(base, now, changes)
        if wish.dry_run:
            changes, texts = preview(connection, resolved, default_host)
            if base and texts:
                output.say(f"all agents would be told anew of {', '.join(texts)}")
            output.say(f"would become version {now.version + 1}; nothing was done")
            return _listing(changes, now.version)
        if removed:
            agree(f"stop and remove {', '.join(change.name for change in removed)}", yes=wish.yes)
        request = pb.ApplyRosterRequest(
            tenant=connection.tenant,
            document=resolved.document,
            seats=resolved.seats,
            base_version=base,
            default_host=default_host,
            briefing=resolved.briefing,
            force_moves=wish.force,
        )
        reply = connection.call(connection.fleet.ApplyRoster, request)
        write_private(memory, json.dumps({"version": reply.version}).encode())
        output.say(f"roster version {reply.version} applied: {_summary(reply.changes)}")
        if base and reply.briefing_changes:
            titles = ", ".join(map(text_title, reply.briefing_changes))
            output.say(f"all agents are told anew of {titles}: each at its next start (mosaic fleet restart)")
        # Texts for all agents alone bring nothing about now that could be waited for.
        if not wish.detach and (reply.generations or not reply.briefing_changes):
            _wait(connection, reply, wish.timeout)
        return _listing([Change(item.host, item.name, item.change) for item in reply.changes], reply.version)


def preview(connection: Connection, resolved: Resolved, default_host: str) -> tuple[list[Change], list[str]]:
    """Return what the control plane would do to each seat, and the texts told to all that would be other ones.

    It also knows the contracts and manifests applied before.
    """
    request = pb.ApplyRosterRequest(
        tenant=connection.tenant,
        document=resolved.document,
        seats=resolved.seats,
        default_host=default_host,
        briefing=resolved.briefing,
    )
    reply = connection.call(connection.fleet.PreviewRoster, request)
    changes = [Change(item.host, item.name, item.change) for item in reply.changes]
    return changes, [text_title(name) for name in reply.briefing_changes]


def difference(document: str, resolved: Resolved, default_host: str) -> list[Change]:
    """Return what turns the applied document into the new one, seat by seat (pure)."""
    before = _agents(document, default_host)
    after = _agents(resolved.document, default_host)
    changes = []
    for place, agent in after.items():
        kind = "added" if place not in before else "unchanged" if before[place] == agent else "changed"
        changes.append(Change(*place, kind))
    changes += [Change(*place, "removed") for place in before if place not in after]
    return changes


def _agents(document: str, default_host: str) -> dict[tuple[str, str], Any]:
    """Return the agents of a normalised roster by (host, name), each with what all agents share."""
    content = json.loads(document) if document else {}
    shared = {key: content.get(key) for key in ("tmux", "defaults", "runtimes")}
    return {
        (agent.get("host") or default_host, agent["name"]): {**agent, "shared": shared}
        for agent in content.get("agents", [])
    }


def memory_path(home: Home, connection: Connection) -> Path:
    """Return where the roster version last applied or pulled here is kept, by cluster and tenant."""
    return home.state / "rosters" / f"{connection.trust_domain}-{connection.tenant}.json"


def _base(wish: Wish, memory: Path, now: pb.GetRosterReply) -> int:
    return wish.base if wish.base is not None else known_version(memory, now)


def known_version(memory: Path, now: pb.GetRosterReply) -> int:
    """Return the version the file here started from. With none known, only a register without a roster fits."""
    if memory.exists():
        known = int(json.loads(memory.read_text("utf-8"))["version"])
        # A register made anew starts again at 0; an old memory of it must not stand in the way.
        return known if now.version else 0
    return 0


def _conflict(base: int, now: pb.GetRosterReply, changes: Sequence[Change]) -> RosterChanged:
    differing = [change for change in changes if change.change != "unchanged"]
    shown = ", ".join(f"{change.name} {change.change}" for change in differing[:6]) or "no seat differs"
    return RosterChanged(
        f"another roster has been applied: version {now.version} by {now.applied_by}, not {base or 'none'}",
        why=f"against it, yours means: {shown}",
        next_step=f"look at it, then: mosaic fleet apply --base {now.version}",
        details={"version": str(now.version), "base": str(base), "difference": shown},
    )


def _wait(connection: Connection, reply: pb.ApplyRosterReply, timeout: float) -> None:
    wanted = {(item.host, item.name) for item in reply.changes if item.change != "removed"}
    generations = {item.host: item.generation for item in reply.generations}
    output.say(f"waiting for {len(wanted)} seat{'s' if len(wanted) != 1 else ''}")
    wait_for_seats(connection, lambda agent: (agent.host, agent.name) in wanted, generations, timeout=timeout)


def _summary(changes: Iterable[pb.SeatChange]) -> str:
    counts: dict[str, int] = {}
    for item in changes:
        counts[item.change] = counts.get(item.change, 0) + 1
    return ", ".join(f"{number} {change}" for change, number in sorted(counts.items())) or "no seat"


def _listing(changes: Sequence[Change], version: int) -> Listing[Change]:
    columns: list[Column[Change]] = [
        Column("HOST", lambda change: change.host),
        Column("AGENT", lambda change: change.name),
        Column("CHANGE", lambda change: change.change),
    ]
    return Listing(
        "RosterChangeList",
        sorted(changes, key=lambda change: (change.host, change.name)),
        columns,
        name=lambda change: f"{change.host}/{change.name}",
        document=lambda change: {"host": change.host, "name": change.name, "change": change.change},
        style=lambda change: _STYLES.get(change.change, Style.PLAIN),
        extra={"version": version},
        empty="no seat",
    )
