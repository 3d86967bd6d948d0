"""`mosaic fleet install` and `uninstall`: seats as systemd user units, or back to the built-in supervision."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_framework import units
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import Conflict, FleetError, Unfinished
from mosaic_framework.paths import Home, write_private

from mosaic_cli import install_controlplane, output, seat_programs
from mosaic_cli.machine import systemd
from mosaic_cli.machine.control import control
from mosaic_cli.machine.local import host_identity
from mosaic_cli.machine.processes import recorded, wait_gone
from mosaic_cli.machine.services import HOSTAGENT, pid_file, program
from mosaic_cli.machine.start import alone
from mosaic_cli.output import Column, Listing

_KEPT_VARIABLES = ("PATH", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TMUX_TMPDIR", "XDG_CONFIG_HOME")
"""What agents and the host-agent take from the shell in which `fleet install` was run."""
_PROGRAMS = (units.HOSTAGENT, units.CONTROLPLANE, units.REGISTER)
_HANDED_OVER_WITHIN = 30.0


class SystemdMissing(FleetError):
    """Seats cannot be units on this machine."""

    code = "systemd-missing"
    hint = "mosaic fleet install --supervision built-in"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was looked at. `change`: written, refreshed, removed, unchanged, or what could not be done."""

    name: str
    change: str
    path: str = ""


def install(home: Home, *, supervision: str, dry_run: bool) -> Listing[Item]:
    """Let systemd keep this machine's seats, or us; empty `supervision`: systemd where it works. Idempotent."""
    identity = host_identity(home)
    if identity is None:
        raise FleetError("this machine is no host of a cluster yet", next_step="mosaic up, or: mosaic host join")
    wanted = not dry_run and supervision != units.BUILT_IN
    reason = systemd.bring_up() if wanted else systemd.why_not()
    if reason and not supervision and units.read_supervision(home) == units.SYSTEMD:
        raise SystemdMissing(
            "systemd keeps the seats, and cannot be reached from here",
            why=reason,
            next_step="log in as this user (a `su` without `-l` has no XDG_RUNTIME_DIR), then install again",
        )
    if supervision == units.SYSTEMD and reason:
        raise SystemdMissing(why=reason)
    with alone(home):
        if supervision == units.BUILT_IN or (not supervision and reason):
            if not supervision:
                output.say(f"systemd cannot be used ({reason}); the host-agent keeps the seats itself")
            output.say("seats of the built-in supervision come back after a reboot with: mosaic up")
            return _listing(_to_built_in(home, dry_run=dry_run))
        items = _to_systemd(home, dry_run=dry_run)
        found = [] if dry_run else seat_programs.record(home, identity)
        return _listing(items + [Item(f"agent {one.name}", one.problem or f"runs {one.program}") for one in found])


def uninstall(home: Home, *, dry_run: bool) -> Listing[Item]:
    """Give the seats back to the built-in supervision, running on, and remove our units. Idempotent."""
    with alone(home):
        items = _to_built_in(home, dry_run=dry_run)
        undone = [] if dry_run else seat_programs.undo(home)
        return _listing(items + [Item(one.file.name, "taken back", str(one.file)) for one in undone if one.undone])


def _to_systemd(home: Home, *, dry_run: bool) -> list[Item]:
    _check_other_home(home)
    texts = {
        units.unit_folder(os.environ) / name: text
        for name, text in units.unit_texts(
            home, python=sys.executable, hostagent=program("mosaic-hostagent"), catalog=Catalog.open()
        ).items()
    }
    variables = {name: os.environ[name] for name in _KEPT_VARIABLES if os.environ.get(name)}
    texts[units.environment_file(home)] = units.environment_text({**variables, "MOSAIC_HOME": str(home.root)})
    texts |= install_controlplane.texts(home)
    items = [Item(path.name, _drift(path, text), str(path)) for path, text in texts.items()]
    if dry_run:
        return items
    changed = [item for item in items if item.change != "unchanged"]
    for item in changed:
        path = Path(item.path)
        if path.is_relative_to(home.root):
            write_private(path, texts[path].encode())
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], "utf-8")
    if changed:
        systemd.systemctl("daemon-reload")
    if not units.is_enabled(units.HOSTAGENT, os.environ):
        systemd.systemctl("enable", units.HOSTAGENT)
    _hand_over(home)
    for unit in install_controlplane.start(home, {item.name for item in changed}):
        items.append(Item(unit, systemd.state_of(unit)))  # noqa: PERF401  each is told when it is up
    refreshed = any(item.name in (units.HOSTAGENT, units.environment_file(home).name) for item in changed)
    systemd.systemctl("restart" if refreshed else "start", units.HOSTAGENT)
    items.append(Item(units.HOSTAGENT, systemd.state_of(units.HOSTAGENT)))
    problem = systemd.let_linger()
    items.append(Item("linger", "not enabled" if problem else "enabled"))
    if problem:
        output.say(f"seats do not start at boot before somebody logs in: {problem}")
    return items


def _hand_over(home: Home) -> None:
    """End the built-in host-agent, and let it not be started again; the seats run on and are adopted."""
    controlplane = bool(install_controlplane.wanted_units(home))
    units.write_supervision(home, units.SYSTEMD, controlplane=controlplane)
    if controlplane:
        install_controlplane.hand_over(home)
    process = recorded(pid_file(home, HOSTAGENT))
    with control(home) as connection:
        if connection is not None:
            connection.restart(HOSTAGENT)  # it ends, and then waits until it is ours again
    if process is not None and wait_gone([process], _HANDED_OVER_WITHIN):
        raise Unfinished(
            f"the host-agent (pid {process.pid}) does not end", next_step=f"kill {process.pid}, then install again"
        )


def _to_built_in(home: Home, *, dry_run: bool) -> list[Item]:
    folder = units.unit_folder(os.environ)
    files = [
        folder / name
        for name in (*_PROGRAMS, units.AGENT_TEMPLATE, units.HOLDER_TEMPLATE)
        if units.home_of(folder / name) == home.root
    ]
    items = [Item(path.name, "removed", str(path)) for path in files]
    if dry_run:
        return items
    was_systemd, had_controlplane = units.read_supervision(home) == units.SYSTEMD, units.runs_controlplane(home)
    if files:
        items = _let_go({path.name for path in files}) + items
    units.write_supervision(home, units.BUILT_IN)
    if files:
        for path in files:
            path.unlink()
        systemd.systemctl("daemon-reload")
    made = (units.environment_file(home), units.controlplane_file(home))
    for path in (*home.state.glob("seats/*"), *home.state.glob("holders/*"), *made):
        path.unlink(missing_ok=True)
    with control(home) as connection:
        if connection is not None:
            connection.look()
            if had_controlplane:
                install_controlplane.wait_taken_back(home)
        elif was_systemd:
            output.say("the host-agent does not run now; start it with: mosaic up")
    return items


def _let_go(installed: set[str]) -> list[Item]:
    """Stop and disable our units. Agents and their tmux server run on: their waiters are told to leave them alone."""
    items: list[Item] = []
    problems: list[FleetError] = []

    def attempt(unit: str, *steps: tuple[str, ...]) -> None:
        try:
            for step in steps:
                systemd.systemctl(*step, unit)
        except FleetError as error:
            problems.append(error)
            items.append(Item(unit, f"{error.what}: {error.why}"))
        else:
            items.append(Item(unit, "let go"))

    for unit in _PROGRAMS:
        if unit in installed:
            attempt(unit, ("disable",), ("stop",))
    for template in (units.AGENT_TEMPLATE, units.HOLDER_TEMPLATE):
        loaded = systemd.loaded_units(template)
        for unit in sorted({*loaded, *units.enabled_units(template, os.environ)}):
            leave = ("kill", "--kill-whom=main", "--signal=SIGUSR1")
            steps = [leave] if systemd.state_of(unit) in ("active", "activating") else []
            attempt(unit, *steps, ("disable",), ("stop",))
    if problems:
        first = problems[0]
        raise FleetError(
            f"{len(problems)} units could not be let go; the others were",
            why=f"{first.what}: {first.why}",
            next_step="systemctl --user list-units 'mosaic-*', then uninstall again",
            details={item.name: item.change for item in items},
        )
    return items


def _check_other_home(home: Home) -> None:
    other = units.home_of(units.unit_folder(os.environ) / units.HOSTAGENT)
    if other is not None and other != home.root:
        raise Conflict(
            f"the units of this user belong to another Mosaic home: {other}",
            why="one home of a user can have its seats under systemd",
            next_step=f"MOSAIC_HOME={other} mosaic fleet uninstall, or: mosaic fleet install --supervision built-in",
        )


def _drift(path: Path, text: str) -> str:
    try:
        return "unchanged" if path.read_text("utf-8") == text else "refreshed"
    except FileNotFoundError:
        return "written"


def _listing(items: list[Item]) -> Listing[Item]:
    columns: list[Column[Item]] = [
        Column("NAME", lambda item: item.name),
        Column("CHANGE", lambda item: item.change),
        Column("FILE", lambda item: item.path),
    ]
    return Listing(
        "Installation", items, columns, name=lambda item: item.name, document=_document, empty="nothing is installed"
    )


def _document(item: Item) -> dict[str, Any]:
    return {"name": item.name, "change": item.change, "path": item.path}
