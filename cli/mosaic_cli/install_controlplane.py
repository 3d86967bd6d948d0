"""The control plane's part of `mosaic fleet install`: register and control plane as systemd user units, and back."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mosaic_framework import units
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import Unfinished
from mosaic_framework.paths import Home

from mosaic_cli.machine import systemd
from mosaic_cli.machine.control import control
from mosaic_cli.machine.local import local_controlplane
from mosaic_cli.machine.processes import recorded, wait_gone
from mosaic_cli.machine.services import CONTROLPLANE, DATABASE, Plan, pid_file, program, services
from mosaic_cli.machine.start import wait_until_running

_HANDED_OVER_WITHIN = 60.0
_KEPT = (
    "MOSAIC_DATABASE_URL",
    "MOSAIC_LISTEN",
    "MOSAIC_ADVERTISE",
    "MOSAIC_CLUSTER",
    "MOSAIC_METRICS_PORT",
    "MOSAIC_LOG_LEVEL",
    "MOSAIC_LEAF_LIFETIME",
)
_KEPT_PREFIX = "MOSAIC_LIMIT_"
"""Settings of the control plane that the shell in which `fleet install` was run had; its file is 0600."""


def wanted_units(home: Home) -> list[str]:
    """Return the units of this machine's control plane, in the order in which they start; none where it has none."""
    names = [service.name for service in services(home, Plan.load(home))]
    known = {DATABASE: units.REGISTER, CONTROLPLANE: units.CONTROLPLANE}
    return [known[name] for name in names if name in known]


def texts(home: Home) -> dict[Path, str]:
    """Return the files to write: path → text."""
    wanted = wanted_units(home)
    if not wanted:
        return {}
    made = units.controlplane_texts(home, controlplane=program("mosaic-controlplane"), catalog=Catalog.open())
    found = {units.unit_folder(os.environ) / name: made[name] for name in wanted}
    found[units.controlplane_file(home)] = units.environment_text(_variables(home))
    return found


def _variables(home: Home) -> dict[str, str]:
    """Return what the control plane is told: the shell's settings, and the ports at which hosts already know it."""
    kept = [*_KEPT, *sorted(name for name in os.environ if name.startswith(_KEPT_PREFIX))]
    variables = {name: os.environ[name] for name in kept if os.environ.get(name)}
    plan, here = Plan.load(home), local_controlplane(home)
    for name, said, address in (
        ("MOSAIC_ENROL_PORT", plan.enrol_port, here.enrol_address if here else ""),
        ("MOSAIC_FLEET_PORT", plan.fleet_port, here.fleet_address if here else ""),
        ("MOSAIC_PEER_PORT", plan.peer_port, here.peer_address if here else ""),
    ):
        port = address.rpartition(":")[2] or (str(said) if said else os.environ.get(name, ""))
        if port:
            variables[name] = port
    return variables


def hand_over(home: Home) -> None:
    """End what the supervisor runs of it, control plane first, and let it not be started again there."""
    for name in (CONTROLPLANE, DATABASE):
        process = recorded(pid_file(home, name))
        with control(home) as connection:
            if connection is not None:
                connection.restart(name)  # it ends, and then waits until it is ours again
        if process is not None and wait_gone([process], _HANDED_OVER_WITHIN):
            raise Unfinished(
                f"the {name} (pid {process.pid}) does not end", next_step=f"kill {process.pid}, then install again"
            )


def wait_taken_back(home: Home) -> None:
    """Wait until the supervisor runs what systemd has let go of."""
    plan = Plan.load(home)
    wanted = {units.REGISTER: DATABASE, units.CONTROLPLANE: CONTROLPLANE}
    only = tuple(wanted[unit] for unit in wanted_units(home))
    wait_until_running(home, plan, deadline=time.monotonic() + _HANDED_OVER_WITHIN, only=only)


def start(home: Home, changed: set[str]) -> list[str]:
    """Enable and start the units, those anew whose files were `changed`; returns their names."""
    wanted = wanted_units(home)
    for unit in wanted:
        if not units.is_enabled(unit, os.environ):
            systemd.systemctl("enable", unit)
        anew = unit in changed or (unit == units.CONTROLPLANE and units.controlplane_file(home).name in changed)
        systemd.systemctl("restart" if anew else "start", unit)
    return wanted
