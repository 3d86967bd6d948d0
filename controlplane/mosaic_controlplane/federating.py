"""Wires what a replica has to do with other clusters: their listener, the way to them, and the services about them."""

from __future__ import annotations

from collections.abc import Callable

import grpc.aio
from mosaic_framework import wire
from mosaic_proto.v1 import federation_pb2_grpc, peers_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.admission import Admission
from mosaic_controlplane.api.federation import FederationService
from mosaic_controlplane.api.interceptor import AuthInterceptor
from mosaic_controlplane.api.limits import Limits
from mosaic_controlplane.api.pairing import PairingService
from mosaic_controlplane.api.peers import PeerService
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.federation.authentication import PeerAuthenticator
from mosaic_controlplane.federation.bundles import PeerBundles
from mosaic_controlplane.federation.claims import PeerClaims
from mosaic_controlplane.federation.duty import Duty
from mosaic_controlplane.federation.exchange import Encoders, Exchange
from mosaic_controlplane.federation.joining import Joining
from mosaic_controlplane.federation.outbox import Outbox
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.federation.pairing import Pairing
from mosaic_controlplane.federation.peers import Peers
from mosaic_controlplane.federation.receiving import PeerMessages
from mosaic_controlplane.federation.sending import PeerSends
from mosaic_controlplane.federation.subscriber import Subscriber
from mosaic_controlplane.federation.terminals import PeerTerminals
from mosaic_controlplane.federation.working import PeerWork
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh.messages import Messages
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.metrics import Metrics
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.replica import Doors

MOST_CONNECTIONS = 1_024


class Federating:
    """The parts of a replica that speak with other clusters, and their listener.

    `peer_address` and `enrol_address` (host:port, as others dial them) are set once they are bound.
    """

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
        self.peer_address = ""
        self.enrol_address = ""
        self._database = database
        self._cluster = cluster
        self.authenticator = PeerAuthenticator(database, cluster)
        self.bundles = PeerBundles(database, leaf)
        self.outgoing = Outgoing(database, cluster, leaf)
        self._peers = Peers(database, self.outgoing)
        self._joining = Joining(database, cluster, leaf, self.doors)
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
        self._duty = Duty(
            database,
            wakes,
            Subscriber(database, cluster, wakes, self.outgoing),
            changed=self.bundles.changed,
            beside=Outbox(database, wakes, self.sends).run,
        )
        self._federation = FederationService(
            database,
            Exchange(database, cluster, wakes, standings, Encoders(encode.agent, encode.host)),
            messages=PeerMessages(database, messages),
            terminals=terminals,
            claims=PeerClaims(database, backlog, wakes),
            backlog=backlog,
        )
        federation_pb2_grpc.add_FederationServiceServicer_to_server(self._federation, self.server)

    def doors(self) -> Doors:
        """Return where others reach this replica."""
        return Doors((self.peer_address,) if self.peer_address else (), (self.enrol_address,))

    def at_enrolment(self, enrol_server: grpc.aio.Server, admission: Admission, metrics: Metrics) -> None:
        """Let other clusters pair at the enrolment listener."""
        pairing = Pairing(self._database, self._cluster, self.doors)
        federation_pb2_grpc.add_PairingServiceServicer_to_server(
            PairingService(self._database, pairing, admission, metrics), enrol_server
        )

    def at_fleet(self, fleet_server: grpc.aio.Server) -> None:
        """Serve people at the fleet listener; and peers' calls that another replica hands on."""
        peers_pb2_grpc.add_PeerServiceServicer_to_server(
            PeerService(self._database, self._cluster, self._peers, self._joining, self.doors), fleet_server
        )
        federation_pb2_grpc.add_FederationServiceServicer_to_server(self._federation, fleet_server)

    async def run(self) -> None:
        """Do what one replica does at a time for all peers, until cancelled."""
        await self._duty.run()
