"""The one background process of a home: it starts database, control plane and host-agent, and keeps them running.

Run as `python -m mosaic_cli.supervisor`, detached by `mosaic up`. SIGTERM stops the services in reverse order. On its
unix socket it tells, a JSON object a line, how they are: once on connecting, then at every change; a line `look` makes
it look again for what services wait for, `restart NAME` restarts a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from mosaic_framework.paths import Home, private_folder, write_private

from mosaic_cli.keep_login import keep_login
from mosaic_cli.machine import homes
from mosaic_cli.machine.keeper import Keeper
from mosaic_cli.machine.leftovers import end_services
from mosaic_cli.machine.local import refresh_host_addresses
from mosaic_cli.machine.processes import Process, record
from mosaic_cli.machine.services import CONTROLPLANE, HOSTAGENT, Plan, Service, pid_file, services
from mosaic_cli.machine.systemd import systemd_runs_controlplane, systemd_runs_hostagent

log = structlog.get_logger()
ALREADY_RUNNING = 75


class Supervisor:
    """All services of one home."""

    def __init__(self, home: Home, plan: Plan) -> None:
        self._home = home
        self._me = Process.running(os.getpid())
        self._listeners: set[asyncio.Queue[str]] = set()
        self._look_again = asyncio.Event()
        self._stop = asyncio.Event()
        self._keepers = [
            Keeper(service, pid_file(home, service.name), self._changed) for service in services(home, plan)
        ]
        self._by_name = {keeper.service.name: keeper for keeper in self._keepers}

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._look_again.set)
        path = self._home.sockets() / "supervisor.sock"
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, path=str(path))
        path.chmod(0o600)
        self._announce(path)
        tasks = [asyncio.create_task(keeper.run(self._gate(keeper.service))) for keeper in self._keepers]
        log.info("supervisor started", home=str(self._home.root), services=list(self._by_name))
        login = asyncio.create_task(keep_login(self._home))
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        if stopping not in done:
            log.error("a keeper ended by itself", faults=[repr(task.exception()) for task in done if task.exception()])
        log.info("supervisor stops")
        for keeper in reversed(self._keepers):
            await keeper.stop()
        for task in (*tasks, stopping, login):
            task.cancel()
        await asyncio.gather(*tasks, stopping, login, return_exceptions=True)
        server.close()
        path.unlink(missing_ok=True)
        homes.unregister(self._home)

    def _announce(self, socket: Path) -> None:
        """Say where we are: to `mosaic` of this home, and to those of other homes."""
        assert self._me is not None
        record(pid_file(self._home, "supervisor"), self._me)
        content = {"pid": self._me.pid, "socket": str(socket)}
        write_private(self._home.run / "supervisor.json", json.dumps(content).encode())
        homes.register(self._home, self._me)

    def _gate(self, service: Service) -> Any:
        """Return what resolves when `service` may start: what it needs is ready, what it requires exists."""

        async def may_start() -> None:
            waited = False
            while not self._may_run(service):
                waited = True
                self._look_again.clear()
                if not self._may_run(service):
                    await self._look_again.wait()
            for name in service.needs:
                if name in self._by_name and self._may_run(self._by_name[name].service):
                    await self._by_name[name].ready.wait()
            if service.name == CONTROLPLANE and waited:
                self._pin_ports(self._by_name[CONTROLPLANE])  # where systemd had it
            if service.name == HOSTAGENT:
                refresh_host_addresses(self._home)

        return may_start

    def _may_run(self, service: Service) -> bool:
        """Whether what it requires is there, and nobody else runs it: systemd may have been given it."""
        if service.requires is not None and not service.requires.exists():
            return False
        if service.name == HOSTAGENT:
            return not systemd_runs_hostagent(self._home)
        return not systemd_runs_controlplane(self._home)

    def _changed(self) -> None:
        controlplane = self._by_name.get(CONTROLPLANE)
        if controlplane is not None and controlplane.health.state == "running":
            self._pin_ports(controlplane)
        line = self.describe()
        for listener in self._listeners:
            listener.put_nowait(line)

    def _pin_ports(self, controlplane: Keeper) -> None:
        """Let a restarted control plane come back where it was, even when the system chose its ports."""
        with contextlib.suppress(OSError, ValueError, KeyError):  # the file of a control plane that has just ended
            found = json.loads(controlplane.service.ready_file.read_text("utf-8"))
            enrol, fleet = (found[key].rpartition(":")[2] for key in ("enrol_address", "fleet_address"))
            peer = found.get("peer_address", "").rpartition(":")[2]
            controlplane.environment |= {"MOSAIC_ENROL_PORT": enrol, "MOSAIC_FLEET_PORT": fleet}
            controlplane.environment |= {"MOSAIC_PEER_PORT": peer} if peer else {}
            assert self._me is not None
            ports = tuple(int(port) for port in (enrol, fleet, peer) if port)
            homes.register(self._home, self._me, ports)

    def describe(self) -> str:
        """Return how everything is, as one line of JSON."""
        state = {"pid": os.getpid(), "services": [asdict(keeper.health) for keeper in self._keepers]}
        return json.dumps(state) + "\n"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One listener on the socket."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(queue)
        queue.put_nowait(self.describe())
        commands = asyncio.create_task(self._commands(reader))
        try:
            while not commands.done():
                taken = asyncio.ensure_future(queue.get())
                await asyncio.wait({taken, commands}, return_when=asyncio.FIRST_COMPLETED)
                if taken.done():
                    writer.write(taken.result().encode())
                    await writer.drain()
                else:
                    taken.cancel()
        except ConnectionError:
            pass  # the listener went away, which is its right
        finally:
            self._listeners.discard(queue)
            commands.cancel()
            writer.close()

    async def _commands(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            match line.decode("ascii", "replace").split():
                case ["look"]:
                    self._look_again.set()
                case ["restart", name] if name in self._by_name:
                    self._by_name[name].restart()


def main() -> int:
    """Take the home's lock, end what an earlier supervisor left behind, and supervise."""
    home = Home.from_environment()
    private_folder(home.run)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    lock = os.open(home.run / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ALREADY_RUNNING
    orphans = end_services(home)
    if orphans:
        log.warning("services of an earlier supervisor ended", services=orphans)
    asyncio.run(Supervisor(home, Plan.load(home)).run())
    pid_file(home, "supervisor").unlink(missing_ok=True)
    (home.run / "supervisor.json").unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
