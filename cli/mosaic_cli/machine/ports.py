"""Whether the ports of the control plane are free, and who holds those that are not."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.errors import InvalidInput, PortInUse
from mosaic_framework.paths import Home

from mosaic_cli.machine import homes
from mosaic_cli.machine.services import Plan

ENROL_PORT, FLEET_PORT = 7440, 7443


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port the control plane will listen on, and the flag of `mosaic up` that sets another."""

    port: int
    flag: str
    address: str = "127.0.0.1"


def wanted_ports(home: Home, plan: Plan) -> list[Wanted]:
    """Return the ports to check. A control plane with settings of its own checks them itself."""
    own_settings = (home.root / "controlplane.yaml").exists()
    address = os.environ.get("MOSAIC_LISTEN", "127.0.0.1")
    found = []
    for chosen, variable, default, flag in (
        (plan.enrol_port, "MOSAIC_ENROL_PORT", ENROL_PORT, "--enrol-port"),
        (plan.fleet_port, "MOSAIC_FLEET_PORT", FLEET_PORT, "--fleet-port"),
        (plan.peer_port, "MOSAIC_PEER_PORT", None, "--peer-port"),
    ):
        said = os.environ.get(variable, "")
        port = chosen if chosen is not None else int(said) if said.isdecimal() else None if own_settings else default
        if port:
            found.append(Wanted(port, flag, address))
    return found


def check_ports(home: Home, plan: Plan) -> None:
    """Raise PortInUse for the first port that is not free, naming who holds it and what to do.

    Raises InvalidInput when both listeners are to take the same port.
    """
    both = wanted_ports(home, plan)
    if len(both) > len({wanted.port for wanted in both}):
        raise InvalidInput(
            f"enrolment and fleet cannot share port {both[0].port}",
            why="each listens on a port of its own",
            next_step=f"mosaic up {both[0].flag} 0 takes a free one",
        )
    for wanted in both:
        if not is_free(wanted.address, wanted.port):
            raise _in_use(home, wanted)


def is_free(address: str, port: int) -> bool:
    """Whether nothing listens on the port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Lets us bind beside connections that are closing, not beside one that listens.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _in_use(home: Home, wanted: Wanted) -> PortInUse:
    other = homes.holder_of(wanted.port, besides=home)
    details = {"port": str(wanted.port)}
    if other is not None:
        return PortInUse(
            f"another Mosaic of yours runs on port {wanted.port}",
            why=f"its home is {other.home}, its supervisor is pid {other.process.pid}",
            next_step=f"MOSAIC_HOME={other.home} mosaic down, or: mosaic up --enrol-port 0 --fleet-port 0",
            details=details | {"home": str(other.home)},
        )
    return PortInUse(
        f"port {wanted.port} is in use",
        why=_holder(wanted.port),
        next_step=f"mosaic up {wanted.flag} 0 takes a free one",
        details=details,
    )


def _holder(port: int) -> str:
    """Return who listens on a port, as far as this user may see it."""
    import psutil

    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                command = psutil.Process(connection.pid).cmdline()
                # Of an interpreted program the second word is what a person knows it by.
                words = [Path(word).name for word in command[:2]]
                name = words[-1] if words and words[0].startswith("python") else "".join(words[:1]) or "a process"
                return f"{name} (pid {connection.pid}) listens there"
    except psutil.Error:
        pass  # another user's process: said below
    return "a process of another user listens there"
