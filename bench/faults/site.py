"""The fleet of one seed: PostgreSQL, three replicas and four hosts, each on a machine of its own in a network that
can fail.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import cast
from unittest import mock

import grpc.aio
from mosaic_cli.context import Context, Contexts, save
from mosaic_controlplane import main as controlplane
from mosaic_controlplane.identity.authority_key import FILE, AuthorityKeyFile
from mosaic_framework import enrolment
from mosaic_framework.catalog import Catalog
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_framework.resolve import resolve_roster
from mosaic_framework.roster_file import parse_roster
from mosaic_proto.v1 import fleet_pb2, fleet_pb2_grpc

from bench.faults.clients import open_channel
from bench.faults.clocks import Clocks
from bench.faults.database import Postgres
from bench.faults.network import Network
from bench.faults.schedule import DATABASE, HOSTS, MACHINES, REPLICAS
from tests.support.mesh import Host, Mesh
from tests.support.program import Program

SEATS_A_HOST = 2
FLEET_PORT, ENROL_PORT = 7443, 7440
PATIENCE_SECONDS = 60.0
COMES_BACK_SECONDS = 0.3  # whoever supervises a program that ended by itself starts it again after a moment
_DISK = "size=16m,mode=0700"


class Kept:
    """A program that is started again when it has ended, as a supervisor does, but not before `down_until`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.down_until = 0.0
        self.ended_by_itself = 0
        self._down_since: float | None = None

    def kill(self, seconds: float) -> None:
        """kill -9, and leave it so for a while."""
        self.program.kill()
        self.down_until = time.monotonic() + seconds

    def look(self) -> None:
        now = time.monotonic()
        if self.program.runs:
            self._down_since = None
            return
        if self._down_since is None:
            self._down_since = now
            if now > self.down_until:
                self.ended_by_itself += 1
                self.down_until = now + COMES_BACK_SECONDS
        if now >= self.down_until:
            self.program.start()


class Site:
    """All of it. Make it with `open`; what it started ends with the seed's namespaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Network(MACHINES)
        self.clocks = Clocks(folder / "clocks", [*REPLICAS, *HOSTS])
        self.database = Postgres(folder / "postgres", self.network.address(DATABASE), self.network.prefix(DATABASE))
        self.addresses = [f"{self.network.address(name)}:{FLEET_PORT}" for name in REPLICAS]
        self.replicas = {name: Kept(self._replica(name)) for name in REPLICAS}
        self.hosts = {name: self._host(name) for name in HOSTS}
        self.agents = {f"{host}-{number}": host for host in HOSTS for number in range(SEATS_A_HOST)}
        self.kept = {**self.replicas, **{name: Kept(host.program) for name, host in self.hosts.items()}}
        self.operator: StoredIdentity
        (folder / "ran").mkdir()

    def _replica(self, name: str) -> Program:
        home = self.folder / name
        home.mkdir(mode=0o700)
        environment = {
            "MOSAIC_DATABASE_URL": self.database.url(),
            "MOSAIC_LISTEN": self.network.address(name),
            "MOSAIC_FLEET_PORT": str(FLEET_PORT),
            "MOSAIC_ENROL_PORT": str(ENROL_PORT),
        }
        return Program(["mosaic-controlplane", "serve"], home, environment, self._prefix(name))

    def _prefix(self, name: str) -> list[str]:
        return [*self.network.prefix(name), *self.clocks.prefix(name)]

    def _host(self, name: str) -> Host:
        host = Host(cast(Mesh, None), name, self.folder / name, self._prefix(name))
        # Its home is a disk of its own that can be filled; its log is elsewhere, so that what it said then can be read.
        subprocess.run(["mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", host.program.home], check=True)
        host.program.log = self.folder / f"{name}.log"
        return host

    def marks(self, agent: str) -> Path:
        """The file that the agent's messages write into."""
        return self.folder / "ran" / agent

    async def open(self) -> None:
        """Start everything, and return when every agent is available."""
        self.database.start()
        key = AuthorityKeyFile.make(Home(self.replicas[REPLICAS[0]].program.home).pki / FILE)
        for name in REPLICAS[1:]:
            copy = Home(self.replicas[name].program.home).pki / FILE
            copy.parent.mkdir(mode=0o700)
            copy.touch(mode=0o600)
            copy.write_bytes(key.path.read_bytes())
        await asyncio.wait_for(self.database.serves(), PATIENCE_SECONDS)
        for replica in self.replicas.values():
            replica.program.start()
        for name in REPLICAS:
            await self.until_serving(name)
        await self._log_in()
        async with open_channel(self.operator, self.addresses[0]) as channel:
            await self._join_hosts(channel)
            for host in self.hosts.values():
                host.program.start()
            await self._apply(channel)
            await self._until_available(channel)

    async def until_serving(self, name: str) -> None:
        """Wait until a replica takes calls."""
        program = self.replicas[name].program
        run_file = Home(program.home).run / "controlplane.json"

        def serves() -> bool:
            try:
                return program.process is not None and json.loads(run_file.read_text())["pid"] == program.process.pid
            except (OSError, ValueError):
                return False

        await until(serves, f"{name} serves", lambda: program.log.read_text()[-2000:])

    async def until_up(self) -> None:
        """Wait until everything has come up that was killed or stopped, however busy this machine is."""
        await asyncio.wait_for(self.database.serves(), PATIENCE_SECONDS)
        for name in REPLICAS:
            await self.until_serving(name)
        for name, host in self.hosts.items():
            await until(lambda program=host.program: _serves(program), f"the host-agent of {name} serves")

    async def _log_in(self) -> None:
        first = self.replicas[REPLICAS[0]].program
        with mock.patch.dict(os.environ, first.environment):
            text = await controlplane.operator_token(
                Home(first.home), name="anna", role="admin", tenant_name="default", ttl=timedelta(minutes=10)
            )
        self.operator = await asyncio.to_thread(enrolment.enrol, JoinToken.parse(text), self.folder / "operator")
        context = Context("test", tuple(self.addresses), str(self.folder / "operator"))
        save(Home(self.folder / "cli"), Contexts().put(context, make_current=True))

    async def _join_hosts(self, channel: grpc.aio.Channel) -> None:
        service: fleet_pb2_grpc.HostServiceAsyncStub = fleet_pb2_grpc.HostServiceStub(channel)
        for number, (name, host) in enumerate(self.hosts.items()):
            reply = await service.CreateToken(fleet_pb2.CreateHostTokenRequest(request_id=str(new_id()), name=name))
            await asyncio.to_thread(enrolment.enrol, JoinToken.parse(reply.token), host.pki)
            # Each dials another replica first, so that every replica holds links: by its own order none of four may.
            first = number % len(self.addresses)
            dials = self.addresses[first:] + self.addresses[:first]
            host.program.environment["MOSAIC_HOSTAGENT_ADDRESSES"] = ",".join(dials)

    async def _apply(self, channel: grpc.aio.Channel) -> None:
        agents = [
            {
                "name": agent,
                "runtime": "shell",
                "host": host,
                "working_directory": "/tmp",
                "socket": self.hosts[host].socket_name,
            }
            for agent, host in self.agents.items()
        ]
        catalog = Catalog.open()
        text = json.dumps({"version": 1, "transport": "tmux", "agents": agents})
        resolved = resolve_roster(parse_roster(text, source="roster.json", catalog=catalog).roster, catalog=catalog)
        service: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(channel)
        await service.ApplyRoster(
            fleet_pb2.ApplyRosterRequest(
                request_id=str(new_id()), document=resolved.document, seats=resolved.seats, base_version=0
            )
        )

    async def _until_available(self, channel: grpc.aio.Channel) -> None:
        service: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(channel)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                agents = (await service.ListAgents(fleet_pb2.ListAgentsRequest())).agents
                if len(agents) == len(self.agents) and all(
                    agent.state == fleet_pb2.AGENT_STATE_AVAILABLE for agent in agents
                ):
                    return
                await asyncio.sleep(0.05)

    async def keep(self) -> None:
        """Start again what ends, until cancelled."""
        while True:
            for kept in self.kept.values():
                kept.look()
            await asyncio.sleep(0.05)

    def terminals(self) -> dict[str, int]:
        """Return what is so: the process in each agent's terminal, as tmux says."""
        found = {}
        for host in self.hosts.values():
            for line in host.tmux("list-panes", "-a", "-F", "#{session_name} #{pane_pid}").splitlines():
                name, pid = line.split()
                if name in self.agents:
                    found[name] = int(pid)
        return found


async def until(condition: Callable[[], bool], what: str, more: Callable[[], str] = lambda: "") -> None:
    """Wait until `condition` holds. Raises TimeoutError that says what did not come."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"never happened: {what}\n{more()}")
        await asyncio.sleep(0.05)


def _serves(program: Program) -> bool:
    """Whether a host-agent has said so in its log."""
    if not program.runs or program.process is None:
        return False
    return f'"pid": {program.process.pid}, "event": "serving"' in program.log.read_text()
