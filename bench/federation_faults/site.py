"""The three clusters of one seed, on machines of their own in a network that can fail, paired and with grants."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import peers_pb2 as pb
from mosaic_proto.v1.peers_pb2_grpc import PeerServiceStub

from bench.faults.network import Network
from bench.federation_faults.cluster import Cluster
from bench.federation_faults.layout import CLAIMS, MACHINES, MOST_CLAIMED, PAIRS, REPLICAS, SEES, SIDES

_KEEP_GHOSTS = """
create function fleet.keep_ghosts() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger keep_ghosts before update on fleet.peer_row for each row
  when (old.removed_at is null and new.removed_at is not null) execute function fleet.keep_ghosts()
"""


class Site:
    """All of it. Make it with `open`; what it started ends with the seed's namespaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Network(MACHINES)
        self.clusters = {name: Cluster(name, folder / name, self.network) for name in REPLICAS}
        (folder / "ran").mkdir()

    def marks(self, agent: str) -> Path:
        """The file that the agent's messages write into."""
        return self.folder / "ran" / agent

    async def open(self, *, keeping_ghosts: bool) -> None:
        """Start everything, and return when every pairing stands."""
        await asyncio.gather(*(cluster.open() for cluster in self.clusters.values()))
        for cluster in self.clusters.values():
            await cluster.people()
            if keeping_ghosts:
                connection = await asyncpg.connect(cluster.database.url())
                await connection.execute(_KEEP_GHOSTS)
                await connection.close()
        for one, other in PAIRS:
            await self._pair(one, other)
        for side in SIDES:
            selector, fields = SEES[0]
            await self.grant(side.owner, side.viewer, "see", selector, fields)
            if self.clusters[side.owner].host is not None:
                await self.grant(side.owner, side.viewer, "send", f"host={side.owner}-host")
        for peer, selector in CLAIMS.items():
            await self.grant("b", peer, "claim", selector, most=MOST_CLAIMED[peer])

    async def _pair(self, one: str, other: str) -> None:
        async with self.clusters[other].channel() as channel:
            made = pb.CreatePeerTokenRequest(request_id=str(new_id()), name=one, role="operator")
            token = (await PeerServiceStub(channel).CreateToken(made)).token
        async with self.clusters[one].channel() as channel:
            join = pb.JoinPeerRequest(request_id=str(new_id()), token=token, name=other, role="operator")
            await PeerServiceStub(channel).Join(join)

    async def grant(
        self, owner: str, viewer: str, kind: str, selector: str, fields: tuple[str, ...] = (), *, most: int = 0
    ) -> None:
        """Let a peer do something, beside what it may already. Raises AioRpcError."""
        async with self.clusters[owner].channel() as channel:
            request = pb.GrantRequest(
                request_id=str(new_id()), peer=viewer, kind=kind, selector=selector, fields=fields, max=most
            )
            await PeerServiceStub(channel).Grant(request, timeout=3)

    async def see_otherwise(self, owner: str, viewer: str, selector: str, fields: tuple[str, ...]) -> None:
        """Let a peer see this instead of what it saw. Raises AioRpcError."""
        async with self.clusters[owner].channel() as channel:
            request = pb.UngrantRequest(request_id=str(new_id()), peer=viewer, kind="see")
            await PeerServiceStub(channel).Ungrant(request, timeout=3)
        await self.grant(owner, viewer, "see", selector, fields)

    async def keep(self) -> None:
        """Start again what ends, until cancelled."""
        while True:
            for cluster in self.clusters.values():
                for kept in cluster.kept.values():
                    kept.look()
            await asyncio.sleep(0.05)
