"""Wires what a replica has to do with other clusters: their listener, and the way to them."""

from __future__ import annotations

from collections.abc import Callable

import grpc.aio
from mosaic_framework import wire
from mosaic_proto.v1 import federation_pb2_grpc

from mosaic_controlplane.api.federation import FederationService
from mosaic_controlplane.api.interceptor import AuthInterceptor
from mosaic_controlplane.api.limits import Limits
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.federation.authentication import PeerAuthenticator
from mosaic_controlplane.federation.bundles import PeerBundles
from mosaic_controlplane.federation.claims import PeerClaims
from mosaic_controlplane.federation.outbox import Outbox
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.federation.receiving import PeerMessages
from mosaic_controlplane.federation.sending import PeerSends
from mosaic_controlplane.federation.terminals import PeerTerminals
from mosaic_controlplane.federation.working import PeerWork
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh.messages import Messages
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register.database import Database

MOST_CONNECTIONS = 1_024


class Federating:
    """The parts of a replica that speak with other clusters, and their listener."""

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        wakes: Wakes,
        *,
        messages: Messages,
        backlog: Backlog,
        terminals: PeerTerminals,
        limits: Limits,
        standings: Standings,
        leaf: Callable[[], ServerIdentity],
        register_away: Callable[[], float],
    ) -> None:
        self.authenticator = PeerAuthenticator(database, cluster)
        self.bundles = PeerBundles(database, leaf)
        self.outgoing = Outgoing(database, cluster, leaf)
        self.server = grpc.aio.server(
            interceptors=[
                AuthInterceptor(
                    database,
                    cluster,
                    standings=standings,
                    register_away=register_away,
                    limits=limits,
                    peers=self.authenticator,
                    for_peers=True,
                )
            ],
            options=wire.fleet_server_options(connections=MOST_CONNECTIONS),
        )
        self.sends = PeerSends(database, self.outgoing, wakes, cluster=cluster.alias)
        self.work = PeerWork(database, self.outgoing)
        self.outbox = Outbox(database, wakes, self.sends)
        self.service = FederationService(  # type: ignore[abstract]  # the rest of it is to come
            database,
            messages=PeerMessages(database, messages),
            terminals=terminals,
            claims=PeerClaims(database, backlog, wakes),
            backlog=backlog,
        )
        federation_pb2_grpc.add_FederationServiceServicer_to_server(self.service, self.server)

    def also_at(self, fleet_server: grpc.aio.Server) -> None:
        """Take peers' calls at the fleet listener too, where another replica hands them on."""
        federation_pb2_grpc.add_FederationServiceServicer_to_server(self.service, fleet_server)

    async def run(self) -> None:
        """Do what one replica does at a time for all peers, until cancelled."""
        await self.outbox.run()
