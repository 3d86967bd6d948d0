"""Our side of the exchange of state: one stream to each peer, kept open by whichever replica holds the lock for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from mosaic_framework import __version__, protocol
from mosaic_framework.call_endings import as_ended
from mosaic_framework.errors import FleetError, Unreachable
from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1.federation_pb2_grpc import FederationServiceStub

from mosaic_controlplane.federation.errors import PeerRevoked, PeerUnreachable
from mosaic_controlplane.federation.exchange import own_bundle
from mosaic_controlplane.federation.greeting import IDS_A_FRAME, KINDS
from mosaic_controlplane.federation.intake import Intake
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.federation.pace import BUNDLE_SECONDS, SIGN_SECONDS
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_feed, peer_row
from mosaic_controlplane.register.database import Connection, Database, RegisterUnreachable
from mosaic_controlplane.register.peer import PeerRow
from mosaic_controlplane.register.peer_row import Key
from mosaic_controlplane.register.replica import WakeKey
from mosaic_controlplane.register.singleton import elected

if TYPE_CHECKING:
    from mosaic_proto.v1.federation_pb2_grpc import FederationServiceAsyncStub

SILENCE_SECONDS = 3 * SIGN_SECONDS + 0.5
"""After so long without a frame the way is taken for cut: TCP would take longer to notice than a new dial takes."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Between dials, in seconds: who is back must be seen again within 5 s."""

ELECTION_SECONDS = 1.0

log = structlog.get_logger(__name__)


class PeerSilent(Unreachable):
    """The other cluster has fallen silent."""

    code = "peer-silent"


class Subscriber:
    """Keeps what peers show of theirs."""

    def __init__(self, database: Database, cluster: ClusterIdentity, wakes: Wakes, outgoing: Outgoing) -> None:
        self._database = database
        self._cluster = cluster
        self._wakes = wakes
        self._outgoing = outgoing

    async def follow(self, peer_id: UUID) -> None:
        """Keep a stream to a peer, as long as the pairing stands. One that fails is begun again."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with elected(self._database, f"federation {peer_id}") as connection:
                    while connection is not None:
                        peer = await peer_table.find(connection, peer_id)
                        if peer is None or not peer.stands:
                            return
                        began = asyncio.get_running_loop().time()
                        problem = await self._session(connection, peer)
                        await self._note(connection, peer, problem)
                        lived = asyncio.get_running_loop().time() - began > SILENCE_SECONDS
                        pause = FIRST_PAUSE if lived else min(2 * pause, LONGEST_PAUSE)
                        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # nobody tells when it is back
            except RegisterUnreachable as error:
                log.warning("cannot follow a peer without the register", pairing=str(peer_id), why=error.why)
            await asyncio.sleep(ELECTION_SECONDS)

    async def _session(self, connection: Connection, peer: PeerRow) -> FleetError:
        """Take in a stream until it ends; returns why it did. Raises RegisterUnreachable."""
        try:
            intake = Intake(connection, peer, self._cluster, self._wakes)
            place = await intake.place()
            known = await self._known(connection, peer) if place.cursor else []
            async with self._outgoing.to(peer) as onward:
                stub: FederationServiceAsyncStub = FederationServiceStub(onward.channel)
                call = stub.Exchange(self._says(place.cursor, known), metadata=onward.metadata)
                try:
                    frames: Any = aiter(call)
                    # Closed, or the call and what reads it would hold one another.
                    with as_ended(call):
                        async with aclosing(frames):
                            while (down := await _next(frames)) is not None:
                                await intake.take(down)
                finally:
                    call.cancel()
                return Unreachable(f"cluster {peer.name} ended the stream", why="its control plane is stopping")
        except RegisterUnreachable:
            raise
        except FleetError as error:
            return error

    async def _says(self, cursor: str, known: list[Key]) -> AsyncIterator[pb.ExchangeUp]:
        """Yield what we have, then our own bundle, now and whenever it is another one."""
        yield pb.ExchangeUp(
            hello=pb.ExchangeHello(protocol=protocol.VERSION, version=__version__, cursor=cursor, kinds=KINDS)
        )
        for kind in KINDS:
            ids = [row_id.bytes for row_kind, row_id in known if row_kind == kind]
            for at in range(0, len(ids), IDS_A_FRAME):
                yield pb.ExchangeUp(known=pb.KnownRows(kind=kind, ids=b"".join(ids[at : at + IDS_A_FRAME])))
        yield pb.ExchangeUp(ready=True)
        told: pb.TrustBundle | None = None
        while True:
            async with self._database.connection() as connection:
                bundle = await own_bundle(connection, self._cluster)
            if bundle != told:
                told = bundle
                yield pb.ExchangeUp(bundle=bundle)
            await asyncio.sleep(BUNDLE_SECONDS)  # roots change hours ahead of their use

    async def _known(self, connection: Connection, peer: PeerRow) -> list[Key]:
        known: list[Key] = []
        after: Key = ("", UUID(int=0))
        while page := await peer_row.ids(connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id, after=after):
            known += page
            after = page[-1]
        return known

    async def _note(self, connection: Connection, peer: PeerRow, problem: FleetError) -> None:
        """Write down why nothing is heard; said in the log once for each reason."""
        if isinstance(problem, PeerRevoked):
            return
        said = f"{problem.what}: {problem.why}" if problem.why else problem.what
        if isinstance(problem, PeerUnreachable):  # which says other times and addresses with every dial
            said = "it cannot be reached"
        news = await peer_feed.set_problem(
            connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id, problem=said[:500]
        )
        if news:
            log.warning(
                "a peer cannot be followed", peer=peer.name, code=problem.code, what=problem.what, why=problem.why
            )
            self._wakes.tell(WakeKey.change(peer.tenant_id))


async def _next(frames: AsyncIterator[pb.ExchangeDown]) -> pb.ExchangeDown | None:
    """Return the next frame, None at the end. Raises PeerSilent."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await anext(frames, None)
    except TimeoutError:
        raise PeerSilent(why=f"it has said nothing for {SILENCE_SECONDS:g} s") from None
