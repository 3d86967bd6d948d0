"""`mosaic fleet diff`: what `apply` would do, host by host, and the register's roster brought back into the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import EXIT_CONFLICT, EXIT_FAILED, NotFound
from mosaic_framework.paths import Home, write_private
from mosaic_framework.resolve import resolve_roster
from mosaic_framework.roster_edit import edit_roster
from mosaic_framework.roster_file import dump_roster, load_roster, parse_roster
from mosaic_framework.roster_model import Roster
from mosaic_framework.roster_write import plan_writing, roster_target, write_roster
from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import diffs, output
from mosaic_cli.apply import known_version, memory_path, preview
from mosaic_cli.asking import agree
from mosaic_cli.client import Connection, connect
from mosaic_cli.output import Column, Format, Listing, Style, Thing

_STYLES = {"added": Style.PLAIN, "changed": Style.ATTENTION, "removed": Style.WRONG}
_ROSTER_WIDE = ("connector", "floor", "profile", "tenant", "version", "transport")
_NOT_IN_THE_ROSTER = ("its contract, or its runtime's manifest",)
_NOTHING: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Difference:
    """What applying would do to one seat; an empty `name`: to what holds for all. `fields`: what differs."""

    host: str
    name: str
    change: str
    fields: tuple[str, ...] = ()


def show_difference(path: Path | None, form: Format, *, context: str, tenant: str) -> None:
    """Show what applying the file would do. Ends with 0: nothing; 1: this; 6: another roster was applied meanwhile."""
    home = Home.from_environment()
    catalog = Catalog.open(home)
    file = load_roster(_existing(home, path), catalog=catalog)
    with connect(context, tenant=tenant or file.roster.named_tenant, home=home) as connection:
        host = connection.context.default_host
        resolved = resolve_roster(file.roster, catalog=catalog, default_host=host)
        now = _newest(connection)
        base = known_version(memory_path(home, connection), now)
        changes, texts = preview(connection, resolved, host)
        seats = [change for change in changes if change.change != "unchanged"]
    before, after = _document(now.document), _document(resolved.document)
    found = roster_wide(before, after)
    if before and texts:
        found.append(Difference("", "", "changed", tuple(texts)))
    for seat in seats:
        fields = changed_fields(_agent(before, seat.host, seat.name, host), _agent(after, seat.host, seat.name, host))
        shared = changed_fields(*(({key: one.get(key) for key in _SHARED}) for one in (before, after)))
        what = fields or shared or _NOT_IN_THE_ROSTER
        found.append(Difference(seat.host, seat.name, seat.change, what if seat.change == "changed" else ()))
    output.show(_listing(found, now.version, base), form)
    if base != now.version:
        output.say(
            f"another roster has been applied: version {now.version} by {now.applied_by}, not {base or 'none'}; "
            "take it over: mosaic fleet diff --pull"
        )
        raise typer.Exit(EXIT_CONFLICT)
    if found:
        raise typer.Exit(EXIT_FAILED)


def pull(path: Path | None, *, dry_run: bool, yes: bool, context: str, tenant: str) -> Thing:
    """Bring the register's roster into the file, comments kept, and take it for what the next apply starts from.

    Raises NotFound: none has been applied yet. What is replaced is kept as a backup.
    """
    home = Home.from_environment()
    catalog = Catalog.open(home)
    target = roster_target(home, path)
    text = load_roster(target, catalog=catalog).text if target.exists() else None
    if not tenant and text is not None:
        tenant = parse_roster(text, source=str(target), catalog=catalog).roster.named_tenant
    with connect(context, tenant=tenant, home=home) as connection:
        now = _newest(connection)
        memory = memory_path(home, connection)
    if not now.version:
        raise NotFound(f"no roster has been applied in tenant {connection.tenant}", next_step="mosaic fleet apply")
    wanted = parse_roster(now.document, source=f"roster version {now.version}", catalog=catalog).roster
    after = _pulled(text, wanted, target, catalog)
    writing = plan_writing(home, target, after)
    for line in diffs.render(writing.diff()).splitlines():
        output.say(line)
    if dry_run:
        output.say("nothing was done")
    elif writing.kind == "changed":
        agree(f"replace {target} by version {now.version} of the register", yes=yes)
    backup = None if dry_run else write_roster(home, writing, force=True)
    if not dry_run:
        write_private(memory, json.dumps({"version": now.version}).encode())
    body = {
        "file": str(target),
        "change": writing.kind,
        "dryRun": dry_run,
        "version": now.version,
        "backup": str(backup) if backup else None,
    }
    lines = [
        ("roster", f"{target} ({writing.kind})"),
        ("version", f"{now.version}, applied by {now.applied_by}"),
        ("backup", str(backup) if backup else ""),
    ]
    return Thing("RosterPull", str(target), body, lines)


_SHARED = ("tmux", "defaults", "runtimes")


def roster_wide(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """Return what differs outside of the seats (pure). A register without a roster differs in nothing but its seats."""
    if not before:
        return []
    fields = changed_fields(*({key: one.get(key) for key in _ROSTER_WIDE} for one in (before, after)))
    return [Difference("", "", "changed", fields)] if fields else []


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    """Return "key: old → new" for every key that differs (pure)."""
    keys = [*before, *(key for key in after if key not in before)]
    return tuple(
        f"{key}: {_short(before.get(key))} → {_short(after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    )


def _short(value: Any) -> str:
    text = "unset" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _existing(home: Home, path: Path | None) -> Path:
    target = roster_target(home, path)
    if not target.exists():
        raise NotFound(
            f"there is no roster at {target}",
            next_step="mosaic fleet init, or take over the register's: mosaic fleet diff --pull",
        )
    return target


def _pulled(text: str | None, wanted: Roster, target: Path, catalog: Catalog) -> str:
    if text is not None:
        return edit_roster(text, wanted, source=str(target), catalog=catalog)
    if target.suffix == ".json":
        return json.dumps(wanted.as_written(), ensure_ascii=False, indent=2) + "\n"
    return dump_roster(wanted)


def _newest(connection: Connection) -> pb.GetRosterReply:
    reply: pb.GetRosterReply = connection.call(
        connection.fleet.GetRoster, pb.GetRosterRequest(tenant=connection.tenant)
    )
    return reply


def _document(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _agent(document: dict[str, Any], host: str, name: str, default_host: str) -> dict[str, Any]:
    agents = document.get("agents", [])
    return next((one for one in agents if (one.get("host") or default_host, one["name"]) == (host, name)), _NOTHING)


def _listing(found: Sequence[Difference], version: int, base: int) -> Listing[Difference]:
    columns: list[Column[Difference]] = [
        Column("HOST", lambda one: one.host),
        Column("AGENT", lambda one: one.name or "(all)"),
        Column("CHANGE", lambda one: one.change),
        Column("WHAT", lambda one: ", ".join(one.fields)),
    ]
    return Listing(
        "RosterDifferenceList",
        sorted(found, key=lambda one: (one.host, one.name)),
        columns,
        name=lambda one: f"{one.host}/{one.name}" if one.name else "roster",
        document=lambda one: {"host": one.host, "name": one.name, "change": one.change, "fields": list(one.fields)},
        style=lambda one: _STYLES.get(one.change, Style.PLAIN),
        extra={"version": version, "base": base},
        empty="the register has this roster; there is nothing to apply",
    )
