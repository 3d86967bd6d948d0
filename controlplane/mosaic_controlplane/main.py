"""mosaic-controlplane: wires the parts together and runs them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from mosaic_framework import __version__, wire
from mosaic_framework.errors import EXIT_INTERRUPTED, FleetError, NotFound, PortInUse, told
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home, write_private
from mosaic_proto.v1 import (
    backlog_pb2_grpc,
    enrolment_pb2_grpc,
    fleet_pb2_grpc,
    host_life_pb2_grpc,
    host_link_pb2_grpc,
    messages_pb2_grpc,
    runtimes_pb2_grpc,
    seeding_pb2_grpc,
    signals_pb2_grpc,
    terminal_pb2_grpc,
)

from mosaic_controlplane import config
from mosaic_controlplane.api.backlog import BacklogService
from mosaic_controlplane.api.enrolment import EnrolmentService
from mosaic_controlplane.api.fleet import FleetService
from mosaic_controlplane.api.host_life import HostLifeService
from mosaic_controlplane.api.host_link import HostLinkService
from mosaic_controlplane.api.hosts import HostService
from mosaic_controlplane.api.interceptor import AuthInterceptor
from mosaic_controlplane.api.messages import MessageService
from mosaic_controlplane.api.runtimes import RuntimeService
from mosaic_controlplane.api.seeding import SeedingService
from mosaic_controlplane.api.signals import SignalService
from mosaic_controlplane.api.terminal import HostTerminalService, TerminalService
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.backlog.reaper import Reaper
from mosaic_controlplane.identity.bootstrap import open_cluster
from mosaic_controlplane.identity.tokens import make_token
from mosaic_controlplane.mesh.attach import Attachments
from mosaic_controlplane.mesh.forwarding import Forwarder
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.liveness import Liveness
from mosaic_controlplane.mesh.messages import Messages
from mosaic_controlplane.mesh.views import Views
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import audit, replica, restore, tenant
from mosaic_controlplane.register.card_claim import connect_hot
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.embedded import run_foreground
from mosaic_controlplane.register.migrate import migrate

STOP_SECONDS = 3.0

log = structlog.get_logger(__name__)


def _bind(server: grpc.aio.Server, address: str, port: int, credentials: grpc.ServerCredentials) -> str:
    """Bind and return host:port as bound. Raises PortInUse."""
    host = f"[{address}]" if ":" in address else address
    try:
        bound = server.add_secure_port(f"{host}:{port}", credentials)
    except RuntimeError as error:
        raise PortInUse(f"port {port} on {address} is in use", why="another program listens there") from error
    return f"{host}:{bound}"


def _advertised(bound: str, advertise: str) -> str:
    return f"{advertise}:{bound.rpartition(':')[2]}" if advertise else bound


def _database_url(home: Home, settings: config.Settings) -> str:
    """Return the register's URL: the one set, else the embedded one's. Raises NotFound when neither runs."""
    if settings.database_url:
        return settings.database_url
    file = home.run / "database.json"
    try:
        url = json.loads(file.read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError) as error:
        raise NotFound(
            "the register is not running",
            why=f"MOSAIC_DATABASE_URL is not set and {file} does not say where the embedded one is",
            next_step="mosaic up",
        ) from error
    return str(url)


async def serve(home: Home) -> None:
    """Run a replica until SIGTERM or SIGINT."""
    settings = config.load(home)
    database = await Database.connect(_database_url(home, settings))
    replica_id = new_id()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await _migrate(database)
        cluster = await open_cluster(database, home, alias=settings.cluster)
        leaf = cluster.issue_replica_leaf(replica_id)

        enrol_addresses: list[str] = []
        hot = await connect_hot(database.url)
        stack.push_async_callback(hot.close)
        wakes = Wakes(database, replica_id)
        backlog = Backlog(database, hot, wakes)
        reaper = Reaper(database, backlog.claiming, wakes)
        links = Links(database, wakes, replica_id)

        enrol_server = grpc.aio.server(options=wire.ENROL_SERVER_OPTIONS)
        enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
            EnrolmentService(database, cluster, fleet_addresses=lambda: liveness.replica_addresses), enrol_server
        )
        fleet_server = grpc.aio.server(
            interceptors=[AuthInterceptor(database, cluster, register_away=lambda: liveness.register_away())],
            options=wire.SERVER_OPTIONS,
        )
        forwarder = Forwarder(leaf)
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(
            FleetService(database, cluster, wakes, links, forwarder, replica_id, lambda: liveness.cursor_stall.seconds),
            fleet_server,
        )
        signals_pb2_grpc.add_SignalServiceServicer_to_server(SignalService(database, links, forwarder), fleet_server)
        fleet_pb2_grpc.add_HostServiceServicer_to_server(
            HostService(database, cluster, lambda: enrol_addresses), fleet_server
        )
        host_life_pb2_grpc.add_HostLifeServiceServicer_to_server(HostLifeService(database, wakes), fleet_server)
        messages_pb2_grpc.add_MessageServiceServicer_to_server(
            MessageService(Messages(database, wakes), cluster.register_epoch), fleet_server
        )
        seeding_pb2_grpc.add_SeedingServiceServicer_to_server(SeedingService(database), fleet_server)
        host_link_pb2_grpc.add_HostLinkServiceServicer_to_server(
            HostLinkService(database, wakes, links, replica_id, lambda: liveness.replica_addresses, backlog),
            fleet_server,
        )
        runtimes_pb2_grpc.add_RuntimeServiceServicer_to_server(RuntimeService(database, wakes), fleet_server)
        views = Views(links)
        terminal_pb2_grpc.add_TerminalServiceServicer_to_server(
            TerminalService(database, links, forwarder, views, Attachments(database, views)), fleet_server
        )
        terminal_pb2_grpc.add_HostTerminalServiceServicer_to_server(HostTerminalService(views), fleet_server)
        backlog_pb2_grpc.add_BacklogServiceServicer_to_server(BacklogService(backlog), fleet_server)
        health_servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, fleet_server)

        enrol_bound = _bind(
            enrol_server,
            settings.listen,
            settings.enrol_port,
            wire.enrol_server_credentials(leaf.key_pem, leaf.certificate_pem),
        )
        fleet_bound = _bind(
            fleet_server,
            settings.listen,
            settings.fleet_port,
            wire.fleet_server_credentials(leaf.key_pem, leaf.certificate_pem, leaf.bundle_pem),
        )
        enrol_addresses.append(_advertised(enrol_bound, settings.advertise))
        fleet_address = _advertised(fleet_bound, settings.advertise)
        liveness = Liveness(database, wakes, links, replica_id, fleet_address)

        await liveness.arrive()
        background = [
            asyncio.create_task(wakes.run()),
            asyncio.create_task(liveness.run()),
            asyncio.create_task(links.run()),
            asyncio.create_task(reaper.run()),
        ]
        stack.push_async_callback(_stop, [enrol_server, fleet_server], background, database, replica_id)
        await enrol_server.start()
        await fleet_server.start()
        await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        _write_run_file(home, enrol_addresses[0], fleet_address, replica_id, cluster.trust_domain)
        log.info("serving", fleet=fleet_bound, enrol=enrol_bound, replica=str(replica_id))

        stopped = asyncio.create_task(_stop_asked())
        done, _ = await asyncio.wait([stopped, *background], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        log.info("stopping")
        await health_servicer.enter_graceful_shutdown()


async def _migrate(database: Database) -> None:
    connection = await database.dedicated()
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def _stop_asked() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


async def _stop(
    servers: list[grpc.aio.Server], background: list[asyncio.Task[None]], database: Database, replica_id: UUID
) -> None:
    await asyncio.gather(*(server.stop(STOP_SECONDS) for server in servers))
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    try:
        async with database.connection() as connection:
            await replica.leave(connection, replica_id=replica_id)
    except FleetError as error:
        log.warning("could not leave the register", why=error.why)


def _write_run_file(home: Home, enrol: str, fleet: str, replica_id: UUID, trust_domain: str) -> None:
    facts = {
        "pid": os.getpid(),
        "enrol_address": enrol,
        "fleet_address": fleet,
        "replica_id": str(replica_id),
        "trust_domain": trust_domain,
    }
    write_private(home.run / "controlplane.json", json.dumps(facts).encode())


async def operator_token(home: Home, *, name: str, role: str, tenant_name: str, ttl: timedelta) -> str:
    """Make a login token for an operator, where the register's credentials are. Returns its text."""
    settings = config.load(home)
    try:
        running = json.loads((home.run / "controlplane.json").read_text(encoding="utf-8"))
        addresses = [str(running["enrol_address"])]
    except (OSError, ValueError, KeyError):
        addresses = [f"{settings.advertise or settings.listen}:{settings.enrol_port}"]
    database = await Database.connect(_database_url(home, settings), pool_size=1)
    try:
        cluster = await open_cluster(database, home, alias=settings.cluster)
        async with database.transaction() as connection:
            found = await tenant.find_by_name(connection, tenant_name)
            if found is None:
                raise NotFound(f"there is no tenant {tenant_name!r}")
            token, _expires_at = await make_token(
                connection,
                cluster,
                tenant_id=found.tenant_id,
                tenant=found.name,
                kind="operator",
                name=name,
                role=role,
                made_by="operator-token",
                ttl=ttl,
                enrol_addresses=addresses,
            )
            await audit.record(
                connection,
                tenant_id=found.tenant_id,
                caller_kind="local",
                caller_id=str(os.getuid()),
                caller_name="operator-token",
                peer_address="",
                method="operator-token",
                target=name,
                detail={"role": role},
            )
    finally:
        await database.close()
    return token.format()


async def restored(home: Home) -> restore.Restored:
    """Take up a register that was restored from a backup. Raises ReplicaRuns while a replica runs on it."""
    settings = config.load(home)
    database = await Database.connect(_database_url(home, settings), pool_size=1)
    try:
        await _migrate(database)
        async with database.transaction() as connection:
            done = await restore.take_up(connection, register_epoch=new_id())
            await audit.record(
                connection,
                tenant_id=None,
                caller_kind="local",
                caller_id=str(os.getuid()),
                caller_name="restored",
                peer_address="",
                method="restored",
                target=str(done.register_epoch),
            )
    finally:
        await database.close()
    return done


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mosaic-controlplane", description="The control plane of a Mosaic Fleet cluster."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="serve hosts and operators")
    verbs.add_parser("database", help="run the embedded PostgreSQL in the foreground")
    verbs.add_parser("restored", help="take up a register restored from a backup; run it before the first replica")
    token = verbs.add_parser("operator-token", help="print a one-time login token for an operator")
    token.add_argument("--name", required=True, help="the operator's name")
    token.add_argument("--role", default="admin", choices=["admin", "operator", "viewer"])
    token.add_argument("--tenant", default="default")
    token.add_argument("--ttl", type=int, default=600, help="seconds until it expires (default 600)")
    return parser.parse_args(arguments)


def _configure_log() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def run() -> None:
    """Entry point of the mosaic-controlplane command."""
    options = _parse(sys.argv[1:])
    home = Home.from_environment()
    _configure_log()
    try:
        match options.verb:
            case "serve":
                asyncio.run(serve(home))
            case "database":
                sys.exit(run_foreground(home))
            case "restored":
                done = asyncio.run(restored(home))
                sys.stdout.write(
                    f"register epoch {done.register_epoch}\n"
                    f"{done.hosts} hosts will be told everything anew, {done.messages} messages are asked for again, "
                    f"{done.tokens} join tokens are void\n"
                )
            case "operator-token":
                text = asyncio.run(
                    operator_token(
                        home,
                        name=options.name,
                        role=options.role,
                        tenant_name=options.tenant,
                        ttl=timedelta(seconds=options.ttl),
                    )
                )
                sys.stdout.write(text + "\n")
    except FleetError as error:
        sys.stderr.write("\n".join(told(error)) + "\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    run()
