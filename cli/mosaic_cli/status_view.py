"""What runs on this machine, by pid files, the supervisor's socket and a TCP connection; the cluster is not asked."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

from mosaic_framework import units
from mosaic_framework.paths import Home

from mosaic_cli.machine.control import states_now, supervisor
from mosaic_cli.machine.leftovers import recorded_services
from mosaic_cli.machine.local import host_identity, local_controlplane
from mosaic_cli.machine.services import CONTROLPLANE, DATABASE, HOSTAGENT, Plan, Service, services
from mosaic_cli.machine.systemd import systemctl, systemd_runs_controlplane, systemd_runs_hostagent
from mosaic_cli.output import Column, Listing, Style
from mosaic_cli.text import age

_TCP_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """One process that should run here. `state` is the supervisor's word, `orphaned` without one, or `down`."""

    name: str
    state: str
    pid: int | None
    seconds: float | None
    restarts: int
    where: str
    log: str

    @property
    def well(self) -> bool:
        """Whether it does what it should."""
        return self.state == "running"


def status_listing(home: Home) -> tuple[Listing[Line], bool, str]:
    """Return what runs, whether all is well, and a note on what to do if not."""
    plan = Plan.load(home)
    known = {state.name: state for state in states_now(home)}
    orphans = recorded_services(home)
    now = time.time()
    watcher = supervisor(home)
    wanted = services(home, plan)
    lines: list[Line] = []
    if watcher is not None or not all(_unit_of(home, service.name) for service in wanted):
        state = "running" if known else "down" if watcher is None else "silent"
        pid = watcher.pid if watcher else None
        lines.append(Line("supervisor", state, pid, None, 0, str(home.root), str(home.logs / "supervisor.log")))
    for service in wanted:
        found, orphan = known.get(service.name), orphans.get(service.name)
        where, answers = _where(home, service.name)
        if unit := _unit_of(home, service.name):
            lines.append(_unit_line(service, unit, where))
        elif found is not None:
            state = "silent" if found.state == "running" and not answers else found.state
            lines.append(
                Line(service.name, state, found.pid, now - found.since, found.restarts, where, str(service.log))
            )
        elif orphan is not None:
            lines.append(Line(service.name, "orphaned", orphan.pid, None, 0, where, str(service.log)))
        else:
            lines.append(Line(service.name, "down", None, None, 0, "", str(service.log)))
    well = all(line.well for line in lines)
    return _listing(lines, well), well, _note(lines, well)


def _unit_of(home: Home, name: str) -> str:
    """Return the unit that a service is; empty where the supervisor keeps it."""
    if name == HOSTAGENT:
        return units.HOSTAGENT if systemd_runs_hostagent(home) else ""
    known = {DATABASE: units.REGISTER, CONTROLPLANE: units.CONTROLPLANE}
    return known[name] if systemd_runs_controlplane(home) else ""


def _unit_line(service: Service, unit: str, where: str) -> Line:
    """Return the line of a service that systemd runs."""
    shown = systemctl("show", "--property=ActiveState,MainPID,NRestarts", unit)
    found = dict(line.partition("=")[::2] for line in shown.splitlines())
    state = "running" if found.get("ActiveState") == "active" else found.get("ActiveState", "unknown")
    pid, restarts = int(found.get("MainPID") or 0), int(found.get("NRestarts") or 0)
    log = f"journalctl --user -u {unit}"
    return Line(service.name, state, pid or None, None, restarts, f"{where} (kept by systemd)".strip(), log)


def _where(home: Home, name: str) -> tuple[str, bool]:
    """Return what a service serves or is linked to, and whether it answers as far as that can be told."""
    if name == CONTROLPLANE:
        here = local_controlplane(home)
        return ("", True) if here is None else (here.fleet_address, _answers(here.fleet_address))
    if name == HOSTAGENT:
        identity = host_identity(home)
        return (f"host {identity.name}" if identity else "has not joined", True)
    return "", True


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_TCP_WITHIN):
            return True
    except OSError:
        return False


def _note(lines: list[Line], well: bool) -> str:
    if well:
        return ""
    if all(line.state == "down" for line in lines):
        return "nothing runs; start it with: mosaic up"
    watcher = lines[0]
    if watcher.name == "supervisor" and watcher.state == "silent":
        return (
            f"the supervisor (pid {watcher.pid}) runs and does not answer: it hangs, or was stopped; "
            "end it and what it keeps with: mosaic down; then: mosaic up"
        )
    sick = next(line for line in lines if not line.well)
    return f"{sick.name} is {sick.state}; its log: {sick.log}; then: mosaic up"


def _listing(lines: list[Line], well: bool) -> Listing[Line]:
    columns: list[Column[Line]] = [
        Column("NAME", lambda line: line.name),
        Column("STATE", lambda line: line.state),
        Column("PID", lambda line: str(line.pid or "")),
        Column("FOR", lambda line: age(line.seconds)),
        Column("RESTARTS", lambda line: str(line.restarts)),
        Column("WHERE", lambda line: line.where),
        Column("LOG", lambda line: line.log),
    ]
    return Listing(
        "ServiceList",
        lines,
        columns,
        name=lambda line: line.name,
        document=_document,
        style=lambda line: Style.PLAIN if line.well else Style.WRONG,
        extra={"well": well},
    )


def _document(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "state": line.state,
        "pid": line.pid,
        "seconds": round(line.seconds, 1) if line.seconds is not None else None,
        "restarts": line.restarts,
        "where": line.where,
        "log": line.log,
    }
