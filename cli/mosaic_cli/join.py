"""Joining: an operator logs in, or a machine becomes a host, each with a one-time token."""

from __future__ import annotations

import time
from pathlib import Path

from mosaic_framework import units
from mosaic_framework.enrolment import JoinToken, enrol
from mosaic_framework.errors import Conflict
from mosaic_framework.names import check_name
from mosaic_framework.paths import Home, private_folder

from mosaic_cli import context, output
from mosaic_cli.context import Context
from mosaic_cli.machine.local import host_folder, host_identity
from mosaic_cli.machine.services import HOSTAGENT, Plan
from mosaic_cli.machine.start import alone, ensure_supervisor, wait_until_running
from mosaic_cli.machine.systemd import systemctl, systemd_runs_hostagent
from mosaic_cli.machine.tmux import check_tmux
from mosaic_cli.tokens import read_token


def login_operator(token_file: Path | None, *, name: str = "") -> Context:
    """Enrol as the operator the token names, write the context and make it current. Returns it."""
    token = read_token(token_file, kind="operator")
    home = Home.from_environment()
    name = check_name(name or _context_name(token), what="context")
    folder = f"pki/operators/{name}"
    private_folder(home.pki)
    private_folder(home.pki / "operators")
    identity = enrol(token, home.root / folder, tell=output.say)
    known = context.load(home)
    item = Context(name, tuple(identity.fleet_addresses), folder, tenant=identity.tenant)
    context.save(home, known.put(item, make_current=True))
    return item


def _context_name(token: JoinToken) -> str:
    """Return what a context is called by itself: after the cluster's host, and its tenant unless that is the first."""
    host = token.addresses[0].rpartition(":")[0].strip("[]").replace(":", "-")
    return host if token.tenant == context.FIRST_TENANT else f"{token.tenant}-{host}"


def join_host(token_file: Path | None, *, name: str, start: bool, replace: bool, timeout: float) -> None:
    """Make this machine the host the token names, and start its host-agent."""
    home = Home.from_environment()
    private_folder(home.root)
    with alone(home):
        _join(home, token_file, name=name, start=start, replace=replace, timeout=timeout)


def _join(home: Home, token_file: Path | None, *, name: str, start: bool, replace: bool, timeout: float) -> None:
    plan = Plan.load(home)
    if start:
        check_tmux()
    token = read_token(token_file, kind="host")
    present = host_identity(home)
    foreign = present is not None and present.trust_domain != token.trust_domain
    if present is not None and (foreign or present.name != token.name) and not replace:
        raise Conflict(
            f"this machine is host {present.name!r} of cluster {present.cluster!r} already",
            why=f"the token is for host {token.name!r} of {token.trust_domain}",
            next_step="mosaic host join --replace, or join under another MOSAIC_HOME",
        )
    identity = enrol(token, host_folder(home), name=name or None, tell=output.say)
    output.say(f"joined {identity.cluster} as host {identity.name} of tenant {identity.tenant}")
    if not start:
        output.say("start it with: mosaic up")
    if context.LOCAL not in context.load(home).names:
        plan = Plan((HOSTAGENT,))
        plan.save(home)
    if start:
        if systemd_runs_hostagent(home):
            systemctl("restart", units.HOSTAGENT)
            output.say(f"{identity.name} is started by systemd ({units.HOSTAGENT})")
            return
        ensure_supervisor(home)
        wait_until_running(home, plan, deadline=time.monotonic() + timeout, only=(HOSTAGENT,), afresh=HOSTAGENT)
        output.say(f"{identity.name} is linked to {', '.join(identity.fleet_addresses)}")
