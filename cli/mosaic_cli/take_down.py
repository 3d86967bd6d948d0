"""`mosaic down`: stop the seats, the services and the supervisor, whichever of them still lives, and prove it."""

from __future__ import annotations

import os
import signal
import subprocess

from mosaic_framework import units
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import output
from mosaic_cli.asking import agree
from mosaic_cli.change import ask
from mosaic_cli.client import connect
from mosaic_cli.context import LOCAL
from mosaic_cli.machine import homes, start
from mosaic_cli.machine.control import supervisor
from mosaic_cli.machine.leftovers import Leftover, end_services, marked_processes, recorded_services
from mosaic_cli.machine.local import host_identity, local_controlplane, sessions_may_live
from mosaic_cli.machine.processes import end, wait_gone
from mosaic_cli.machine.services import ALL, CONTROLPLANE, DATABASE, pid_file, program
from mosaic_cli.machine.systemd import systemd_runs_controlplane, systemd_runs_hostagent
from mosaic_cli.waiting import wait_for_seats

_SUPERVISOR_WITHIN = 60.0
"""Seconds for the supervisor to stop its services, each of which has its own bound."""


class StillRunning(FleetError):
    """Something could not be ended."""

    code = "still-running"


class TakeDown:
    """One run of `mosaic down` for one home. Works whatever has died before."""

    def __init__(self, home: Home, *, timeout: float) -> None:
        self._home = home
        self._timeout = timeout

    def run(self, *, yes: bool, dry_run: bool) -> None:
        """Ask, stop everything, and prove that nothing is left. Raises StillRunning when something is."""
        if not self._home.root.exists():
            output.say("nothing runs: there is no Mosaic home here")
            return
        with start.alone(self._home):
            if systemd_runs_hostagent(self._home):
                self._below_systemd(yes=yes, dry_run=dry_run)
                return
            seats = self._running_seats()
            if not self._anything(seats):
                self._forget()
                output.say("nothing runs")
                return
            self._list(seats)
            if dry_run:
                return
            agents = "every agent" if seats is None else _count(len(seats), "agent")
            agree(f"stop {agents} and everything that mosaic runs here", yes=yes)
            if seats:
                self._stop_seats(seats)
            self._stop_services()
            released = self._release()
            self._end_rest(released)
        output.say("nothing of it is left running")

    def _below_systemd(self, *, yes: bool, dry_run: bool) -> None:
        """Stop what is ours. The host-agent and the seats are systemd's, and run on as they do without us."""
        all_of_it = systemd_runs_controlplane(self._home)
        whose = f"{units.HOSTAGENT}, {units.CONTROLPLANE}" if all_of_it else units.HOSTAGENT
        output.say(
            f"not ours: {whose} and the agents are kept by systemd and run on; "
            "end agents with: mosaic fleet stop --all (before this), or take them back with: mosaic fleet uninstall"
        )
        if not (supervisor(self._home) or recorded_services(self._home)):
            self._forget()
            output.say("nothing else runs")
            return
        if dry_run:
            return
        if all_of_it:
            self._stop_services("the supervisor")
            output.say(f"stop those with: systemctl --user stop {units.CONTROLPLANE} {units.REGISTER}")
            return
        agree("stop the control plane and the register that run here", yes=yes)
        self._stop_services("control plane and register")
        output.say("control plane and register are stopped; the host-agent waits for them")

    def _anything(self, seats: list[pb.Agent] | None) -> bool:
        return bool(
            seats
            or supervisor(self._home)
            or recorded_services(self._home)
            or sessions_may_live(self._home)
            or marked_processes(self._home)
        )

    def _running_seats(self) -> list[pb.Agent] | None:
        """Return the seats that run on this machine; None when the control plane cannot tell."""
        identity, here = host_identity(self._home), local_controlplane(self._home)
        if identity is None:
            return []  # it never joined, so nothing was ever placed here
        if here is None or here.trust_domain != identity.trust_domain:
            return None
        try:
            with connect(LOCAL, home=self._home) as connection:
                reply = connection.list_agents()
        except FleetError as error:
            output.say(f"the control plane does not answer ({error.what}); going on without it")
            return None
        return [agent for agent in reply.agents if agent.host == identity.name and agent.pid]

    def _list(self, seats: list[pb.Agent] | None) -> None:
        if seats is None:
            output.say("which agents run cannot be told; their sessions end with the host-agent's")
        for agent in seats or []:
            output.say(f"  running: {agent.host}/{agent.name} (pid {agent.pid}, {agent.command or agent.runtime})")

    def _stop_seats(self, seats: list[pb.Agent]) -> None:
        """Stop them through the control plane, so that register and receipts are told; what fails here ends below."""
        ids = {agent.id for agent in seats}
        try:
            with connect(LOCAL, home=self._home) as connection:
                reply = ask(connection, "stop", [f"{agent.host}/{agent.name}" for agent in seats])
                generations = {item.host: item.generation for item in reply.generations}
                wait_for_seats(connection, lambda agent: agent.id in ids, generations, timeout=self._timeout)
        except FleetError as error:
            output.say(f"not every agent was stopped in order ({error.what}); ending their sessions")

    def _stop_services(self, what: str = "host-agent, control plane and register") -> None:
        """Let the supervisor stop its services; end them ourselves where there is none."""
        running = supervisor(self._home)
        if running is not None:
            output.say(f"stopping {what}")
            running.signal(signal.SIGTERM)
            running.signal(signal.SIGCONT)  # one that was stopped hears it only when it goes on
            if wait_gone([running], _SUPERVISOR_WITHIN):
                output.say("the supervisor does not stop; ending it")
                end([running], grace=0.0)
        orphans = end_services(self._home)
        if orphans:
            output.say(f"ended without a supervisor: {', '.join(orphans)}")
        self._forget()

    def _forget(self) -> None:
        """Remove what killed processes say of themselves."""
        kept = (DATABASE, CONTROLPLANE) if systemd_runs_controlplane(self._home) else ()
        for name in (one for one in ("supervisor", *ALL) if one not in kept):
            pid_file(self._home, name).unlink(missing_ok=True)
            (self._home.run / f"{name}.json").unlink(missing_ok=True)
        homes.unregister(self._home)

    def _release(self) -> bool:
        """Let the host-agent's program end our sessions on the tmux servers it knows. Returns whether it could."""
        try:
            done = subprocess.run(
                [program("mosaic-hostagent"), "release"],
                capture_output=True,
                text=True,
                timeout=self._timeout,
                check=False,
                env=_environment(self._home),
            )
        except (FleetError, OSError, subprocess.TimeoutExpired) as error:
            output.say(f"sessions could not be released: {error}")
            return False
        for line in done.stdout.splitlines():
            output.say(f"  {line}")
        if done.returncode:
            output.say(f"sessions could not be released: {start.last_words(done.stderr)}")
        return done.returncode == 0

    def _end_rest(self, released: bool) -> None:
        """End what carries our mark and is no tmux session of somebody else's, then look again."""
        rest = marked_processes(self._home, wanted=_ours)
        if rest:
            end([item.process for item in rest], grace=5.0)
        left = [item for item in marked_processes(self._home) if _ours(item) or not released]
        if left:
            raise StillRunning(
                f"{_count(len(left), 'process', 'processes')} could not be ended",
                why="; ".join(f"pid {item.process.pid}: {item.command}" for item in left[:3]),
                next_step=f"kill {' '.join(str(item.process.pid) for item in left)}",
            )
        kept = [item for item in marked_processes(self._home) if item.is_tmux]
        for item in kept:
            output.say(f"left alone: tmux server {item.process.pid} holds sessions that are not ours")


def _ours(item: Leftover) -> bool:
    """Whether nobody else can own it: a tmux server that outlived the release holds somebody else's sessions."""
    return not item.is_tmux and not item.in_tmux


def _environment(home: Home) -> dict[str, str]:

    return {**os.environ, "MOSAIC_HOME": str(home.root)}


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
