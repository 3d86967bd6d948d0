"""`mosaic up`: check, start, and on the first run become a cluster with one operator and one host."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mosaic_framework import units
from mosaic_framework.enrolment import JoinToken, enrol
from mosaic_framework.errors import FleetError, Unfinished
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.names import NAME_LIMIT
from mosaic_framework.paths import Home, private_folder, write_private
from mosaic_framework.users import user_name
from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import context, output
from mosaic_cli.client import Connection, connect
from mosaic_cli.context import LOCAL, Context
from mosaic_cli.feed import follow
from mosaic_cli.install_controlplane import wanted_units
from mosaic_cli.machine import ports, start, systemd
from mosaic_cli.machine.control import ServiceState, supervisor
from mosaic_cli.machine.leftovers import end_services
from mosaic_cli.machine.local import (
    LocalControlPlane,
    host_folder,
    host_identity,
    local_controlplane,
    refresh_host_addresses,
)
from mosaic_cli.machine.services import CONTROLPLANE, DATABASE, HOSTAGENT, Plan, program
from mosaic_cli.machine.tmux import check_tmux
from mosaic_cli.machine.trust import trusted_both_ways

OPERATOR_FOLDER = f"pki/operators/{LOCAL}"
_LASTS = timedelta(seconds=30)
"""A certificate that ends before then is made anew by `up`, which can make tokens; any other renews itself."""


class NoOperatorToken(FleetError):
    """The control plane gave no token for the operator."""

    code = "no-operator-token"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. A port of None keeps what was said before."""

    enrol_port: int | None = None
    fleet_port: int | None = None
    peer_port: int | None = None
    timeout: float = 90.0

    @property
    def ports(self) -> dict[str, int | None]:
        """The ports by the plan's names for them."""
        return {"enrol_port": self.enrol_port, "fleet_port": self.fleet_port, "peer_port": self.peer_port}


class BringUp:
    """One run of `mosaic up` for one home."""

    def __init__(self, home: Home, options: Options) -> None:
        self._home = home
        self._options = options
        self._started = time.monotonic()
        self._deadline = self._started + options.timeout
        self._told: dict[str, str] = {}

    def run(self) -> None:
        """Bring everything up, or tell why not. Running it again changes nothing."""
        private_folder(self._home.root)
        with start.alone(self._home):
            plan = self._plan()
            self._say(f"tmux {check_tmux()}")
            self._supervise(plan)
            if not plan.has_controlplane:
                self._only_host(plan)
                return
            self._start_controlplane(plan)
            here = local_controlplane(self._home)
            if here is None:
                raise Unfinished("the control plane does not say where it serves", next_step="mosaic status")
            name = host_name()
            self._operator(here, name)
            with connect(LOCAL, home=self._home) as connection:
                self._start_hostagent(plan, afresh=self._host(connection, here, name))
                self._wait_live(connection)
                self._ready(connection, here)

    def _plan(self) -> Plan:
        """Return what to run, with the ports said now, else those said before."""
        plan = Plan.load(self._home)
        said = {key: value for key, value in self._options.ports.items() if value is not None}
        plan = replace(plan, **said) if said else plan  # type: ignore[arg-type]
        plan.save(self._home)
        return plan

    def _supervise(self, plan: Plan) -> None:
        if supervisor(self._home) is None:
            if orphans := end_services(self._home):
                self._say(f"ended what a killed supervisor left: {', '.join(orphans)}")
            if plan.has_controlplane and not systemd.systemd_runs_controlplane(self._home):
                ports.check_ports(self._home, plan)
            start.ensure_supervisor(self._home)
            self._say("supervisor started")
        elif any(port is not None for port in self._options.ports.values()):
            self._say("it runs already; other ports are taken after: mosaic down")

    def _only_host(self, plan: Plan) -> None:
        """Start what a machine needs that is a host of a cluster elsewhere."""
        identity = host_identity(self._home)
        if identity is None:
            raise FleetError("this machine has not joined a cluster", next_step="mosaic host join")
        self._start_hostagent(plan, afresh=False)
        output.say(f"{identity.name} is linked to {', '.join(identity.fleet_addresses)}")

    def _start_controlplane(self, plan: Plan) -> None:
        """Let register and control plane run, whoever keeps them."""
        if not systemd.systemd_runs_controlplane(self._home):
            first = (DATABASE, CONTROLPLANE)
            start.wait_until_running(self._home, plan, deadline=self._deadline, only=first, tell=self._tell)
            return
        for unit in wanted_units(self._home):
            systemd.systemctl("start", unit)
            self._say(f"{unit} running, kept by systemd")

    def _start_hostagent(self, plan: Plan, *, afresh: bool) -> None:
        """Let the host-agent run, whoever keeps it: our supervisor, or systemd after `mosaic fleet install`."""
        if systemd.systemd_runs_hostagent(self._home):
            refresh_host_addresses(self._home)
            systemd.systemctl("restart" if afresh else "start", units.HOSTAGENT)
            self._say(f"hostagent running, kept by systemd ({units.HOSTAGENT})")
            return
        start.wait_until_running(
            self._home,
            plan,
            deadline=self._deadline,
            only=(HOSTAGENT,),
            afresh=HOSTAGENT if afresh else "",
            tell=self._tell,
        )

    def _operator(self, here: LocalControlPlane, name: str) -> None:
        """Become an operator of the cluster here, unless we are; write the context."""
        folder = self._home.root / OPERATOR_FOLDER
        if not _is_good(_identity(folder), here, self._home):
            operator = sanitised(user_name())
            token = JoinToken.parse(operator_token(operator))
            private_folder(self._home.pki)
            private_folder(folder.parent)
            enrol(replace(token, addresses=[here.enrol_address]), folder, tell=self._say)
            self._say(f"logged in as operator {operator}")
        known = context.load(self._home)
        item = Context(LOCAL, (here.fleet_address,), OPERATOR_FOLDER, default_host=name)
        if LOCAL in known.names:
            old = known.get(LOCAL)
            item = replace(item, tenant=old.tenant, default_host=old.default_host or name)
        if LOCAL not in known.names or known.get(LOCAL) != item:
            context.save(self._home, known.put(item, make_current=LOCAL not in known.names))

    def _host(self, connection: Connection, here: LocalControlPlane, name: str) -> bool:
        """Join this machine as a host, unless it has. Returns whether it has just joined."""
        present = host_identity(self._home)
        if _is_good(present, here, self._home):
            return False
        name = present.name if present is not None and present.trust_domain == here.trust_domain else name
        request = pb.CreateHostTokenRequest(tenant=connection.tenant, name=name)
        reply = connection.call(connection.hosts.CreateToken, request)
        token = replace(JoinToken.parse(reply.token), addresses=[here.enrol_address])
        enrol(token, host_folder(self._home), tell=self._say)
        self._say(f"this machine joined as host {name}")
        return True

    def _wait_live(self, connection: Connection) -> None:
        identity = host_identity(self._home)
        name = identity.name if identity is not None else ""
        for fleet, _event in follow(connection, deadline=self._deadline):
            if any(host.name == name and host.state == pb.HOST_STATE_LIVE for host in fleet.hosts.values()):
                return
        raise Unfinished(f"host {name} is not live yet; it goes on", next_step="mosaic status")

    def _ready(self, connection: Connection, here: LocalControlPlane) -> None:
        """Say that all is well, what is worth knowing, and what to do next."""
        reply = connection.list_agents()
        self._say(f"ready: cluster at {here.fleet_address}, context {LOCAL}")
        stopped = sum(1 for agent in reply.agents if not agent.desired_running)
        if stopped:
            output.say(f"{stopped} of {len(reply.agents)} seats are stopped; start them with: mosaic fleet start --all")
        elif not reply.agents:
            output.say("no agent yet; next: mosaic fleet apply --roster roster.yaml")
        if _first_time(self._home, "shared-user"):
            output.say(
                "note: agents run as your own user and can do what you can; "
                "for agents you do not trust, let them join from a user of their own (said once)"
            )

    def _tell(self, state: ServiceState) -> None:
        """Say what a service does now, once."""
        text = f"{state.name} {state.state}"
        if state.state == "paused":
            text = f"{state.name} ended with status {state.last_exit}; starting it again"
        if self._told.get(state.name) != text and state.state in ("starting", "running", "paused"):
            self._told[state.name] = text
            self._say(text)

    def _say(self, text: str) -> None:
        output.say(f"  {time.monotonic() - self._started:5.1f}s  {text}")


def host_name() -> str:
    """Return what this machine is called as a host: its short name, made fit."""
    return sanitised(socket.gethostname().partition(".")[0])


def sanitised(text: str) -> str:
    """Return `text` as a name: other characters become '-'; never empty."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:NAME_LIMIT] or "local"


def operator_token(name: str) -> str:
    """Return a one-time token for an operator, made where the register's credentials are. It passes through a pipe."""
    argv = [program("mosaic-controlplane"), "operator-token", "--name", name]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise NoOperatorToken(
            "the control plane gave no token for the operator",
            why=start.last_words(done.stderr),
            next_step="mosaic status",
        )
    return done.stdout


def _identity(folder: Path) -> StoredIdentity | None:
    return StoredIdentity.load(folder) if (folder / "identity.json").exists() else None


def _is_good(identity: StoredIdentity | None, here: LocalControlPlane, home: Home) -> bool:
    """Whether an identity is of the cluster here, by roots that stand, and lasts for a while."""
    return (
        identity is not None
        and identity.trust_domain == here.trust_domain
        and identity.not_after - _LASTS > datetime.now(UTC)
        and trusted_both_ways(identity, here.fleet_address, private=home.pki)
    )


def _first_time(home: Home, topic: str) -> bool:
    """Whether `topic` was never told in this home; from now on it was."""
    path = home.state / "told.json"
    told = json.loads(path.read_text("utf-8")) if path.exists() else []
    if topic in told:
        return False
    write_private(path, json.dumps([*told, topic]).encode())
    return True
