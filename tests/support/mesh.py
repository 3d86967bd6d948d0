"""A real mesh for tests: a control plane and host-agents as processes, a register, tmux on private sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import asyncpg
import grpc.aio
from mosaic_cli.context import Context, Contexts, save
from mosaic_controlplane.operator_tokens import operator_token
from mosaic_framework import enrolment, wire
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_framework.resolve import resolve_roster
from mosaic_framework.roster_file import parse_roster
from mosaic_proto.v1 import fleet_pb2, fleet_pb2_grpc, messages_pb2, messages_pb2_grpc, seeding_pb2_grpc

from tests.support.leftovers import end_processes_of
from tests.support.ports import free_port
from tests.support.program import WAIT_SECONDS, Program, eventually


class Host:
    """A host-agent with a tmux server of its own."""

    def __init__(self, mesh: Mesh, name: str, folder: Path, prefix: Sequence[str] = ()) -> None:
        self.mesh, self.name, self.folder = mesh, name, folder
        self.socket_name = f"mosaic-test-{os.getpid()}-{name}"
        home = folder / "home"
        home.mkdir(parents=True)
        (folder / "tmux").mkdir(mode=0o700)
        (folder / "run").mkdir(mode=0o700)
        self.environment = {
            "TMUX_TMPDIR": str(folder / "tmux"),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "HOME": str(folder),
            "SHELL": "/bin/bash",
        }
        self.program = Program(["mosaic-hostagent", "serve"], home, self.environment, prefix)

    @property
    def pki(self) -> Path:
        return Home(self.program.home).pki / "host"

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.socket_name, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        return done.stdout

    def screen(self, session: str) -> str:
        """Everything that a seat's terminal has shown."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-", "-t", f"={session}:")

    def close(self) -> None:
        self.program.kill()
        # The server of this test's own socket; killing it ends the sessions in it.
        self.tmux("kill-server")
        end_processes_of(self.folder)


class Mesh:
    """A control plane over a register, an operator, and hosts."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        listen: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        home = folder / "controlplane"
        home.mkdir()
        self.listen = listen
        # In a network namespace of its own every port is free.
        ports = (free_port(listen) for _ in range(3)) if not prefix else iter((7443, 7442, 7444))
        self.fleet_port, self.enrol_port, self.peer_port = ports
        self.controlplane = Program(
            ["mosaic-controlplane", "serve"],
            home,
            {
                "MOSAIC_DATABASE_URL": database_url,
                "MOSAIC_LISTEN": listen,
                "MOSAIC_FLEET_PORT": str(self.fleet_port),
                "MOSAIC_ENROL_PORT": str(self.enrol_port),
                "MOSAIC_PEER_PORT": str(self.peer_port),
                **(environment or {}),
            },
            prefix,
        )
        self.hosts: dict[str, Host] = {}
        self.operator: StoredIdentity | None = None
        self._channel: grpc.aio.Channel | None = None
        self.roster_version = 0

    @property
    def address(self) -> str:
        """Where hosts and commands reach the control plane."""
        return f"{self.listen}:{self.fleet_port}"

    async def start(self) -> None:
        self.controlplane.start()
        await self.serving()
        self.operator = await self.another_operator("anna", role="admin", folder="operator")

    async def another_operator(self, name: str, *, role: str, folder: str = "") -> StoredIdentity:
        """Log a person in."""
        # Not by the command, whose start costs more than all that it does; test_login_and_join types it.
        with patch.dict(os.environ, self.controlplane.environment):
            made = await operator_token(
                Home(self.controlplane.home), name=name, role=role, tenant_name="default", ttl=timedelta(minutes=15)
            )
        token = JoinToken.parse(made)
        return await asyncio.to_thread(enrolment.enrol, token, self.folder / (folder or f"operator-{name}"))

    async def serving(self) -> None:
        """Wait until the control plane takes calls."""
        run_file = Home(self.controlplane.home).run / "controlplane.json"

        def serves() -> bool:
            process = self.controlplane.process
            if process is None or process.poll() is not None:
                raise AssertionError(f"the control plane ended: {self.controlplane.log.read_text()[-3000:]}")
            with contextlib.suppress(OSError, ValueError):
                return bool(json.loads(run_file.read_text())["pid"] == process.pid)
            return False

        await eventually(serves, "the control plane serves", self.controlplane)

    def write_context(self, home: Home) -> None:
        """Make `home` one from which `mosaic` reaches this mesh as its operator."""
        context = Context("test", (self.address,), str(self.folder / "operator"))
        save(home, Contexts().put(context, make_current=True))

    @property
    def channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            assert self.operator is not None
            self._channel = wire.aio_channel(self.operator, self.address)
        return self._channel

    @property
    def fleet(self) -> fleet_pb2_grpc.FleetServiceAsyncStub:
        return fleet_pb2_grpc.FleetServiceStub(self.channel)

    @property
    def host_service(self) -> fleet_pb2_grpc.HostServiceAsyncStub:
        return fleet_pb2_grpc.HostServiceStub(self.channel)

    @property
    def messages(self) -> messages_pb2_grpc.MessageServiceAsyncStub:
        return messages_pb2_grpc.MessageServiceStub(self.channel)

    async def token(self, name: str, *, ttl_seconds: int = 0) -> str:
        reply = await self.host_service.CreateToken(
            fleet_pb2.CreateHostTokenRequest(request_id=str(new_id()), name=name, ttl_seconds=ttl_seconds),
            wait_for_ready=True,
        )
        return reply.token

    async def join(
        self, name: str, *, prefix: Sequence[str] = (), dials: Sequence[str] = (), started: bool = True
    ) -> Host:
        """Enrol a host; `started`: wait until it is live; `dials`: these replicas, in this order, and not its own."""
        host = Host(self, name, self.folder / f"host-{name}", prefix)
        if dials:
            host.program.environment["MOSAIC_HOSTAGENT_ADDRESSES"] = ",".join(dials)
        self.hosts[name] = host
        await asyncio.to_thread(enrolment.enrol, JoinToken.parse(await self.token(name)), host.pki)
        if started:
            host.program.start()
            await self.until_host(name, fleet_pb2.HOST_STATE_LIVE)
        return host

    async def host_row(self, name: str) -> fleet_pb2.Host:
        reply = await self.host_service.List(fleet_pb2.ListHostsRequest(name=name), wait_for_ready=True)
        return reply.hosts[0]

    async def until_host(
        self, name: str, state: fleet_pb2.HostState.ValueType, *, seconds: float = WAIT_SECONDS
    ) -> None:
        row = fleet_pb2.Host()
        try:
            async with asyncio.timeout(seconds):
                while (row := await self.host_row(name)).state != state:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{name} is {row}\n{self.hosts[name].program.log.read_text()[-3000:]}") from None

    async def register_value(self, query: str, *arguments: object) -> object:
        """Ask the register itself, past every service."""
        connection = await asyncpg.connect(self.controlplane.environment["MOSAIC_DATABASE_URL"])
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def set_host_times(self, name: str, *, beat_interval: str, lost_after: str) -> None:
        """Make a host's clockwork faster than an operator would, so that a test need not wait for a minute."""
        await self.register_value(
            "update fleet.host set beat_interval = $2::text::interval, lost_after = $3::text::interval"
            " where name = $1 returning 1",
            name,
            beat_interval,
            lost_after,
        )

    @property
    def seeding(self) -> seeding_pb2_grpc.SeedingServiceAsyncStub:
        return seeding_pb2_grpc.SeedingServiceStub(self.channel)

    async def apply(
        self,
        agents: dict[str, str],
        *,
        command: dict[str, list[str]] | None = None,
        classes: dict[str, str] | None = None,
        runtime: str = "shell",
        runtimes: dict[str, str] | None = None,
        more: str = "",
        manifest: Manifest | None = None,
    ) -> None:
        """Apply a roster: agent name → host name. `more`: another line of each agent; `manifest`: of all of them."""
        lines = [
            "version: 1",
            "transport: tmux",
            "agents:",
        ]
        for name, host in agents.items():
            lines += [
                f"  - name: {name}",
                f"    runtime: {(runtimes or {}).get(name, runtime)}",
                f"    host: {host}",
                "    working_directory: /tmp",
            ]
            lines.append(f"    socket: {self.hosts[host].socket_name}")
            lines += [f"    {more}"] if more else []
            if classes and name in classes:
                lines.append(f"    class: {classes[name]}")
            if command and name in command:
                lines.append(f"    command: {json.dumps(command[name])}")
        catalog = Catalog(shipped_data())
        roster = parse_roster("\n".join(lines) + "\n", source="roster.yaml", catalog=catalog).roster
        resolved = resolve_roster(roster, catalog=catalog)
        for seat in resolved.seats if manifest is not None else ():
            seat.manifest_json = manifest.as_json()
        reply = await self.fleet.ApplyRoster(
            fleet_pb2.ApplyRosterRequest(
                request_id=str(new_id()),
                document=resolved.document,
                seats=resolved.seats,
                base_version=self.roster_version,
                briefing=resolved.briefing,
            ),
            wait_for_ready=True,
        )
        self.roster_version = reply.version

    async def agents(self) -> dict[str, fleet_pb2.Agent]:
        reply = await self.fleet.ListAgents(fleet_pb2.ListAgentsRequest(), wait_for_ready=True)
        return {agent.name: agent for agent in reply.agents}

    async def until_agent(self, name: str, condition: Callable[[fleet_pb2.Agent], bool]) -> fleet_pb2.Agent:
        seen: fleet_pb2.Agent | None = None
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    seen = (await self.agents()).get(name)
                    if seen is not None and condition(seen):
                        return seen
                    await asyncio.sleep(0.02)
        except TimeoutError:
            logs = "".join(host.program.log.read_text()[-2000:] for host in self.hosts.values())
            raise AssertionError(f"{name} never got there: {seen}\n{logs}") from None

    async def until_available(self, *names: str) -> None:
        for name in names:
            await self.until_agent(name, lambda agent: agent.state == fleet_pb2.AGENT_STATE_AVAILABLE)

    async def send(self, to: str, body: str, *, message_id: str = "") -> str:
        """Send, as a client does that repeats a lost call under one id; returns the id."""
        request = messages_pb2.SendRequest(request_id=message_id or str(new_id()), to=to, body=body)
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    await self.messages.Send(request, wait_for_ready=True)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                else:
                    return request.request_id

    async def send_once(self, to: str, body: str, *, message_id: str) -> None:
        """Send without repeating. Raises ConnectionError when no answer came."""
        request = messages_pb2.SendRequest(request_id=message_id, to=to, body=body)
        try:
            await self.messages.Send(request, wait_for_ready=True, timeout=WAIT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            raise ConnectionError from error

    async def settled(self, host: Host, session: str, file: Path) -> None:
        """Wait until what was submitted has been carried out: `file` is there."""
        await eventually(file.exists, f"{file} is written: {host.screen(session)}", host.program)

    async def sent(self) -> list[messages_pb2.Receipt]:
        """The newest messages of all."""
        return list((await self.messages.List(messages_pb2.ListMessagesRequest(), wait_for_ready=True)).receipts)

    async def receipt(self, message_id: str) -> messages_pb2.Receipt:
        request = messages_pb2.ShowMessageRequest(message_id=message_id)
        return (await self.messages.Show(request, wait_for_ready=True)).receipt

    async def until_step(
        self, message_id: str, *, at_least: messages_pb2.MessageStep.ValueType = messages_pb2.MESSAGE_STEP_SUBMITTED
    ) -> messages_pb2.Receipt:
        """Wait until a message is at `at_least` or at an end."""
        receipt = messages_pb2.Receipt()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while (receipt := await self.receipt(message_id)).step < at_least:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            logs = "".join(host.program.log.read_text()[-2000:] for host in self.hosts.values())
            raise AssertionError(f"stayed at {receipt}\n{logs}") from None
        return receipt

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        for host in self.hosts.values():
            host.close()
        self.controlplane.kill()


@contextlib.asynccontextmanager
async def running_mesh(
    database_url: str,
    *,
    listen: str = "127.0.0.1",
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Mesh]:
    """A mesh without hosts, its control plane serving on `listen`. `prefix` runs it elsewhere."""
    # Short: a tmux socket's path must fit 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mesh-"))
    mesh = Mesh(folder, database_url, listen=listen, prefix=prefix, environment=environment)
    try:
        await mesh.start()
        yield mesh
    finally:
        await mesh.close()
        shutil.rmtree(folder, ignore_errors=True)
