"""One cluster of a seed: a register of its own, one or two replicas, an operator, and a real host where it has one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import cast
from unittest import mock

import asyncpg
import grpc.aio
from mosaic_controlplane import main as controlplane
from mosaic_controlplane.identity.authority_key import FILE, AuthorityKeyFile
from mosaic_controlplane.register.postgres_binaries import wheel_binaries
from mosaic_controlplane.register.postgres_cluster import DATABASE, ROLE, SUPERUSER
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
from bench.faults.database import Postgres
from bench.faults.network import Network
from bench.faults.site import PATIENCE_SECONDS, Kept, until
from bench.federation_faults.history import PutBack
from bench.federation_faults.layout import DATABASES, HOSTS, REPLICAS, SEATS
from tests.support.controlplane import controlplane as beside
from tests.support.mesh import Host, Mesh
from tests.support.program import Program

FLEET_PORT, ENROL_PORT, PEER_PORT = 7443, 7442, 7444
_NOT_YET = 3600.0
_ARRIVING = "arriving"


class Cluster:
    """Make it with `open`; what it started ends with the seed's namespaces."""

    def __init__(self, name: str, folder: Path, network: Network) -> None:
        self.name, self.folder = name, folder
        folder.mkdir(mode=0o711)
        machine = DATABASES[name]
        self.database = Postgres(folder / "postgres", network.address(machine), network.prefix(machine))
        self.addresses = [f"{network.address(replica)}:{FLEET_PORT}" for replica in REPLICAS[name]]
        self.replicas = {replica: Kept(self._replica(replica, network)) for replica in REPLICAS[name]}
        self.host = self._host(HOSTS[name], network) if name in HOSTS else None
        self.kept = dict(self.replicas)
        if self.host is not None:
            self.kept[self.host.name] = Kept(self.host.program)
        self.operator: StoredIdentity

    def _replica(self, name: str, network: Network) -> Program:
        home = self.folder / name
        home.mkdir(mode=0o700)
        environment = {
            "MOSAIC_DATABASE_URL": self.database.url(),
            "MOSAIC_CLUSTER": self.name,
            "MOSAIC_LISTEN": network.address(name),
            "MOSAIC_FLEET_PORT": str(FLEET_PORT),
            "MOSAIC_ENROL_PORT": str(ENROL_PORT),
            "MOSAIC_PEER_PORT": str(PEER_PORT),
        }
        return Program(["mosaic-controlplane", "serve"], home, environment, network.prefix(name))

    def _host(self, name: str, network: Network) -> Host:
        return Host(cast(Mesh, None), name, self.folder / name, network.prefix(name))

    @property
    def seats(self) -> tuple[str, ...]:
        return SEATS[self.host.name] if self.host is not None else ()

    async def open(self) -> None:
        """Start everything, and return when its agents are available."""
        self.database.start()
        first, *others = self.replicas.values()
        key = AuthorityKeyFile.make(Home(first.program.home).pki / FILE)
        for other in others:
            copy = Home(other.program.home).pki / FILE
            copy.parent.mkdir(mode=0o700)
            copy.touch(mode=0o600)
            copy.write_bytes(key.path.read_bytes())
        await asyncio.wait_for(self.database.serves(), PATIENCE_SECONDS)
        for replica in self.replicas.values():
            replica.program.start()
        for name in self.replicas:
            await self._until_serving(name)

    async def people(self) -> None:
        """Log its operator in, and let its host join."""
        first = next(iter(self.replicas.values())).program
        with mock.patch.dict("os.environ", first.environment):
            text = await controlplane.operator_token(
                Home(first.home), name="anna", role="admin", tenant_name="default", ttl=timedelta(minutes=10)
            )
        self.operator = await asyncio.to_thread(enrolment.enrol, JoinToken.parse(text), self.folder / "operator")
        if self.host is None:
            return
        async with self.channel() as channel:
            service: fleet_pb2_grpc.HostServiceAsyncStub = fleet_pb2_grpc.HostServiceStub(channel)
            reply = await service.CreateToken(
                fleet_pb2.CreateHostTokenRequest(request_id=str(new_id()), name=self.host.name)
            )
            await asyncio.to_thread(enrolment.enrol, JoinToken.parse(reply.token), self.host.pki)
            self.host.program.start()
            await self._apply(channel, self.host)

    def channel(self) -> grpc.aio.Channel:
        """Open a channel to its first replica, as its operator."""
        return open_channel(self.operator, self.addresses[0])

    async def _apply(self, channel: grpc.aio.Channel, host: Host) -> None:
        agents = [
            {
                "name": agent,
                "runtime": "shell",
                "host": host.name,
                "working_directory": "/tmp",
                "socket": host.socket_name,
                "class": "builder",
            }
            for agent in self.seats
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
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                found = (await service.ListAgents(fleet_pb2.ListAgentsRequest())).agents
                if found and all(agent.state == fleet_pb2.AGENT_STATE_AVAILABLE for agent in found):
                    return
                await asyncio.sleep(0.05)

    async def _until_serving(self, name: str) -> None:
        program = self.replicas[name].program
        run_file = Home(program.home).run / "controlplane.json"

        def serves() -> bool:
            try:
                return program.runs and json.loads(run_file.read_text())["pid"] == program.process.pid  # type: ignore[union-attr]
            except (OSError, ValueError):
                return False

        await until(serves, f"{name} serves", lambda: program.log.read_text()[-2000:])

    async def until_up(self) -> None:
        """Wait until everything has come up that was killed or stopped, however busy this machine is."""
        await asyncio.wait_for(self.database.serves(), PATIENCE_SECONDS)
        for name in self.replicas:
            await self._until_serving(name)

    async def copy(self) -> Path | None:
        """Dump the register, as it is now; None when it does not answer."""
        file = self.folder / f"copy-{time.monotonic_ns()}"
        command = [wheel_binaries() / "pg_dump", "--format=custom", f"--file={file}", self.database.url(SUPERUSER)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        return file if done.returncode == 0 else None

    async def put_back(self, file: Path, *, copied: float) -> PutBack:
        """Put the register back to a copy, as an operator does: with no replica running, and told so."""
        for replica in self.replicas.values():
            await asyncio.to_thread(replica.kill, _NOT_YET)
        stopped = time.monotonic()
        try:
            await asyncio.wait_for(self.database.serves(), PATIENCE_SECONDS)
            await self._replace_database(file)
            connection = await asyncpg.connect(self.database.url())
            await connection.execute("update fleet.replica set seen_at = seen_at - interval '1 minute'")
            await connection.close()
            program = next(iter(self.replicas.values())).program
            done = await asyncio.to_thread(
                beside, "restored", home=program.home, environment={**program.environment, "MOSAIC_LISTEN": "127.0.0.1"}
            )
            if done.returncode:
                raise RuntimeError(f"`restored` of {self.name} failed: {done.stderr}")
        finally:
            for replica in self.replicas.values():
                replica.down_until = 0.0
        return PutBack(self.name, copied, stopped)

    async def _replace_database(self, file: Path) -> None:
        """Nobody else gets to the new one before it is whole."""
        server = self.database.url(SUPERUSER).rpartition("/")[0]
        maintenance = await asyncpg.connect(f"{server}/postgres")
        try:
            await maintenance.execute(f'create database "{_ARRIVING}" owner "{ROLE}"')
            restore = [wheel_binaries() / "pg_restore", "--exit-on-error", f"--dbname={server}/{_ARRIVING}", file]
            done = await asyncio.to_thread(subprocess.run, restore, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"pg_restore of {self.name} failed: {done.stderr}")
            await maintenance.execute(f'drop database "{DATABASE}" with (force)')
            await maintenance.execute(f'alter database "{_ARRIVING}" rename to "{DATABASE}"')
        finally:
            await maintenance.close()
