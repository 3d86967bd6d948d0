"""mosaic-controlplane: wires the parts together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from datetime import timedelta
from uuid import UUID

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2_grpc
from mosaic_framework import health, logs, open_files, pki, wire
from mosaic_framework.errors import EXIT_INTERRUPTED, FleetError, told
from mosaic_framework.ids import new_id
from mosaic_framework.notify import say_stopping
from mosaic_framework.paths import Home
from mosaic_framework.watchdog import keep_watchdog
from mosaic_proto.v1 import (
    backlog_pb2_grpc,
    enrolment_pb2_grpc,
    fleet_pb2_grpc,
    host_life_pb2_grpc,
    host_link_pb2_grpc,
    identity_pb2_grpc,
    messages_pb2_grpc,
    people_pb2_grpc,
    runtimes_pb2_grpc,
    seeding_pb2_grpc,
    signals_pb2_grpc,
    terminal_pb2_grpc,
)

from mosaic_controlplane import arguments, authority_verbs, backups, collecting, config, listening
from mosaic_controlplane.api.admission import Admission
from mosaic_controlplane.api.audit import AuditService
from mosaic_controlplane.api.backlog import BacklogService
from mosaic_controlplane.api.decoding import TolerantInterceptor
from mosaic_controlplane.api.enrolment import EnrolmentService
from mosaic_controlplane.api.fleet import FleetService
from mosaic_controlplane.api.health import HealthService
from mosaic_controlplane.api.host_life import HostLifeService
from mosaic_controlplane.api.host_link import HostLinkService
from mosaic_controlplane.api.hosts import HostService
from mosaic_controlplane.api.identities import IdentityService
from mosaic_controlplane.api.interceptor import AuthInterceptor
from mosaic_controlplane.api.limits import Limits
from mosaic_controlplane.api.messages import MessageService
from mosaic_controlplane.api.people import OperatorService
from mosaic_controlplane.api.runtimes import RuntimeService
from mosaic_controlplane.api.seeding import SeedingService
from mosaic_controlplane.api.signals import SignalService
from mosaic_controlplane.api.tenants import TenantService
from mosaic_controlplane.api.terminal import HostTerminalService, TerminalService
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.backlog.reaper import Reaper
from mosaic_controlplane.federating import Federating
from mosaic_controlplane.federation.terminals import PeerTerminals
from mosaic_controlplane.identity.bootstrap import open_cluster, roots_changed
from mosaic_controlplane.identity.presented import Presented
from mosaic_controlplane.identity.replica_leaf import ReplicaLeaf
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh.attach import Attachments
from mosaic_controlplane.mesh.forwarding import Forwarder
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.liveness import Liveness
from mosaic_controlplane.mesh.messages import Messages
from mosaic_controlplane.mesh.views import Views
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.metrics import Metrics
from mosaic_controlplane.observing import PROGRAM, Observing
from mosaic_controlplane.operator_tokens import database_url, operator_token
from mosaic_controlplane.register import replica
from mosaic_controlplane.register.card_claim import connect_hot
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.embedded import run_foreground

STOP_SECONDS = 3.0
KEPT_FILES = 1_024  # for the register, enrolment, logs; the rest may be connections of the fleet

log = structlog.get_logger(__name__)


async def serve(home: Home) -> None:
    """Run a replica until SIGTERM or SIGINT."""
    settings = config.load(home)
    logs.set_up(settings.log_level)
    open_files_limit = open_files.raise_limit()
    database = await Database.connect(database_url(home, settings))
    replica_id = new_id()
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await backups.migrate_whole(database)
        lifetime = timedelta(seconds=settings.leaf_lifetime)
        cluster = await open_cluster(database, home, alias=settings.cluster, leaf_lifetime=lifetime)
        replica_leaf = ReplicaLeaf(cluster, replica_id)
        standings = Standings(database)
        presented = Presented(cluster)

        enrol_addresses: list[str] = []
        hot = await connect_hot(database.url)
        stack.push_async_callback(hot.close)
        wakes = Wakes(database, replica_id)
        backlog = Backlog(database, hot, wakes)
        reaper = Reaper(database, backlog.claiming, wakes)
        links = Links(database, wakes, replica_id)
        limits = Limits(settings, metrics)
        forwarder = Forwarder(lambda: replica_leaf.current)
        views = Views(links)
        messages = Messages(database, wakes, queue_limit=settings.limit_queue)
        federating = Federating(
            database,
            cluster,
            wakes,
            messages=messages,
            backlog=backlog,
            terminals=PeerTerminals(database, links, forwarder, views, standings),
            limits=limits,
            standings=standings,
            leaf=lambda: replica_leaf.current,
            register_away=lambda: liveness.register_away(),
        )

        enrol_server = grpc.aio.server(interceptors=[TolerantInterceptor()], options=wire.ENROL_SERVER_OPTIONS)
        admission = Admission(settings)
        federating.at_enrolment(enrol_server, admission, metrics)
        enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
            EnrolmentService(
                database,
                cluster,
                fleet_addresses=lambda: liveness.replica_addresses,
                settings=settings,
                metrics=metrics,
                admission=admission,
            ),
            enrol_server,
        )
        fleet_server = grpc.aio.server(
            interceptors=[
                AuthInterceptor(
                    database,
                    cluster,
                    standings=standings,
                    presented=presented,
                    register_away=lambda: liveness.register_away(),
                    limits=limits,
                    peers=federating.authenticator,
                )
            ],
            options=wire.fleet_server_options(
                connections=min(settings.limit_connections, max(16, open_files_limit - KEPT_FILES))
            ),
        )
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(
            FleetService(
                database,
                cluster,
                wakes,
                links,
                forwarder,
                replica_id,
                lambda: liveness.cursor_stall.seconds,
                federating.outgoing,
            ),
            fleet_server,
        )
        signals_pb2_grpc.add_SignalServiceServicer_to_server(SignalService(database, links, forwarder), fleet_server)
        fleet_pb2_grpc.add_HostServiceServicer_to_server(
            HostService(database, cluster, lambda: enrol_addresses), fleet_server
        )
        host_life_pb2_grpc.add_HostLifeServiceServicer_to_server(HostLifeService(database, wakes), fleet_server)
        people_pb2_grpc.add_OperatorServiceServicer_to_server(
            OperatorService(database, cluster, lambda: enrol_addresses), fleet_server
        )
        people_pb2_grpc.add_TenantServiceServicer_to_server(
            TenantService(database, cluster, lambda: enrol_addresses), fleet_server
        )
        people_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(database), fleet_server)
        messages_pb2_grpc.add_MessageServiceServicer_to_server(
            MessageService(database, messages, federating.sends, cluster.register_epoch), fleet_server
        )
        seeding_pb2_grpc.add_SeedingServiceServicer_to_server(SeedingService(database), fleet_server)
        host_link_pb2_grpc.add_HostLinkServiceServicer_to_server(
            HostLinkService(database, wakes, links, replica_id, lambda: liveness.replica_addresses, backlog),
            fleet_server,
        )
        runtimes_pb2_grpc.add_RuntimeServiceServicer_to_server(RuntimeService(database, wakes), fleet_server)
        terminal_pb2_grpc.add_TerminalServiceServicer_to_server(
            TerminalService(database, links, forwarder, views, Attachments(database, views), federating.outgoing),
            fleet_server,
        )
        terminal_pb2_grpc.add_HostTerminalServiceServicer_to_server(HostTerminalService(views), fleet_server)
        backlog_pb2_grpc.add_BacklogServiceServicer_to_server(BacklogService(backlog, federating.work), fleet_server)
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(
            IdentityService(database, cluster, presented, wakes, lambda: liveness.replica_addresses), fleet_server
        )
        federating.at_fleet(fleet_server)
        health_servicer = HealthService()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, fleet_server)

        enrol_bound = listening.bind(
            enrol_server,
            settings.listen,
            settings.enrol_port,
            wire.rotating_server_credentials(lambda: replica_leaf.current, for_joiners=True),
        )
        fleet_bound = listening.bind(
            fleet_server,
            settings.listen,
            settings.fleet_port,
            wire.rotating_server_credentials(lambda: replica_leaf.current, for_joiners=False),
        )
        enrol_addresses.append(listening.advertised(enrol_bound, settings.advertise))
        fleet_address = listening.advertised(fleet_bound, settings.advertise)
        federating.enrol_address = enrol_addresses[0]
        servers = [enrol_server, fleet_server]
        if settings.peer_port_wanted is not None:
            await federating.bundles.read()
            credentials = wire.rotating_server_credentials(lambda: federating.bundles.current, for_joiners=False)
            peer_bound = listening.bind(federating.server, settings.listen, settings.peer_port_wanted, credentials)
            federating.peer_address = listening.advertised(peer_bound, settings.advertise)
            servers.append(federating.server)
        liveness = Liveness(
            database,
            wakes,
            links,
            replica_id,
            fleet_address,
            peer_address=federating.peer_address,
            enrol_address=federating.enrol_address,
        )
        observing = Observing(database, metrics, health_servicer, register_away=liveness.register_away)
        metrics.follow(
            links=lambda: len(links),
            beats=lambda: links.beats_waiting,
            down=lambda: links.waiting()[0],
            up=lambda: links.waiting()[1],
            views=lambda: len(views),
            waiters=lambda: wakes.waiters,
            wakes=lambda: wakes.to_tell,
            pool=database.pool_use,
            away=liveness.register_away,
            stall=lambda: liveness.cursor_stall.seconds,
            pulse=observing.pulse,
        )
        observing.start(home, settings)
        stack.callback(observing.close)

        links.bundle_digest = lambda: pki.bundle_digest(replica_leaf.current.bundle_pem)

        async def read_roots() -> None:
            await federating.bundles.read()
            if await roots_changed(database, cluster, home):
                replica_leaf.roots_changed()
                standings.wake_everybody()

        standings.on_look = read_roots
        await liveness.arrive()
        background = [
            asyncio.create_task(wakes.run()),
            asyncio.create_task(liveness.run()),
            asyncio.create_task(liveness.let_hosts_go()),
            asyncio.create_task(links.run()),
            asyncio.create_task(reaper.run()),
            asyncio.create_task(observing.run()),
            asyncio.create_task(standings.run()),
            asyncio.create_task(replica_leaf.run()),
            asyncio.create_task(federating.run()),
            asyncio.create_task(collecting.run()),
        ]
        stack.push_async_callback(_stop, servers, background, database, replica_id)
        for server in servers:
            await server.start()
        await observing.serving()
        collecting.look_rarely()
        listening.write_run_file(
            home, enrol_addresses[0], fleet_address, federating.peer_address, replica_id, cluster.trust_domain
        )
        watchdog = asyncio.create_task(keep_watchdog(os.environ))
        stack.callback(watchdog.cancel)
        log.info("serving", fleet=fleet_bound, enrol=enrol_bound, peer=federating.peer_address, replica=str(replica_id))

        stopped = asyncio.create_task(_stop_asked())
        done, _ = await asyncio.wait([stopped, *background], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        say_stopping()
        log.info("stopping")
        await observing.stopping()


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


def run() -> None:
    """Entry point of the mosaic-controlplane command."""
    options = arguments.parse(sys.argv[1:])
    home = Home.from_environment()
    logs.set_up("info")
    try:
        match options.verb:
            case "serve":
                asyncio.run(serve(home))
            case "health":
                sys.exit(health.tell(home, PROGRAM))
            case "database":
                sys.exit(run_foreground(home))
            case "restored":
                done = asyncio.run(backups.take_up(home))
                sys.stdout.write(f"register epoch {done.register_epoch}\n{done.told}\n")
            case "backup":
                lines = asyncio.run(backups.make(home, options.folder.absolute(), with_key=options.with_key))
                sys.stdout.write("".join(f"{line}\n" for line in lines))
            case "restore":
                asked = backups.put_back(
                    home, options.folder.absolute(), replace=options.replace, dry_run=options.dry_run
                )
                sys.stdout.write("".join(f"{line}\n" for line in asyncio.run(asked)))
            case "authority":
                settings = config.load(home)
                url = database_url(home, settings)
                step = authority_verbs.run(options.step, home, url=url, alias=settings.cluster, force=options.force)
                sys.stdout.write(asyncio.run(step))
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
