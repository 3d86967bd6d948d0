"""What a peer's stream brings, kept in the register: with every batch the cursor after it, in one transaction."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog
from mosaic_proto.v1 import federation_pb2 as pb

from mosaic_controlplane.federation import bundles
from mosaic_controlplane.federation.arrivals import READERS, Unreadable, identifier_of, kept
from mosaic_controlplane.federation.errors import PeerRevoked
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import peer_feed, peer_row
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.peer import PeerRow
from mosaic_controlplane.register.peer_feed import FeedPlace
from mosaic_controlplane.register.peer_row import Key
from mosaic_controlplane.register.replica import WakeKey

MOST_ROWS = 4_000
MOST_BYTES = 8 * 1024 * 1024
"""What is held of a batch before it is kept without its end: rows only get newer, so that does no harm."""

LONGEST_CURSOR = 1_000

IDLE_SECONDS = 3.0  # the connection that holds a singleton's lock says something at least every 10 s

log = structlog.get_logger(__name__)


class Intake:
    """Takes in one peer's stream, on the connection that holds the lock for it."""

    def __init__(self, connection: Connection, peer: PeerRow, ours: ClusterIdentity, wakes: Wakes) -> None:
        self._connection = connection
        self._peer = peer
        self._ours = ours
        self._wakes = wakes
        self._rows: dict[Key, bytes | None] = {}
        self._size = 0
        self._snapshot: pb.SnapshotBegin | None = None
        self._skipped: dict[str, int] = {}
        self._skipped_more = False
        self._used_at = 0.0

    async def place(self) -> FeedPlace:
        """Return where the stream goes on. Raises PeerRevoked."""
        async with self._connection.transaction():
            place = await self._hold()
        self._skipped = place.skipped
        return place

    async def take(self, down: pb.ExchangeDown) -> None:
        """Take in one frame; what this release does not know is passed over.

        Raises PeerRevoked, BadPairing, and Unreadable for text that the register cannot hold.
        """
        if "\0" in down.cursor + down.begin.version or len(down.cursor) > LONGEST_CURSOR:
            raise Unreadable(
                "what another cluster says of its stream cannot be kept", why="no register holds such text"
            )
        match down.WhichOneof("down"):
            case "begin":
                self._forget()
                self._snapshot = down.begin
                await peer_row.begin_arriving(self._connection)
            case "rows":
                for row in down.rows.rows:
                    self._note(row)
                if down.cursor or len(self._rows) >= MOST_ROWS or self._size >= MOST_BYTES:
                    await self._keep(down.cursor)
            case "end" if self._snapshot is not None:
                await self._keep_snapshot(self._snapshot, down.cursor)
            case "bookmark" if self._snapshot is None:
                await self._keep(down.cursor, bookmark=True)
            case "reset":
                self._forget()
                log.info("a peer begins anew", peer=self._peer.name, why=down.reset.reason)
            case "bundle":
                async with self._connection.transaction():
                    await self._hold()
                    if await bundles.take(self._connection, self._peer, down.bundle, ours=self._ours):
                        log.info("a peer has other roots or addresses", peer=self._peer.name)
            case "grants":
                async with self._connection.transaction():
                    await self._hold()
                    content = down.grants.SerializeToString()
                    await peer_feed.set_granted(self._connection, **self._of, granted=content)
                self._tell()
            case _:
                await self._stay()

    @property
    def _of(self) -> dict[str, UUID]:
        return {"tenant_id": self._peer.tenant_id, "peer_id": self._peer.peer_id}

    async def _hold(self) -> FeedPlace:
        self._used_at = asyncio.get_running_loop().time()
        place = await peer_feed.hold(self._connection, **self._of)
        if place is None:
            raise PeerRevoked(f"the pairing with cluster {self._peer.name} is over")
        return place

    def _note(self, row: pb.PeerRow) -> None:
        """Put a row into the batch; of a row that comes twice the newer counts."""
        try:
            if row.kind not in READERS:
                self._skip(row.kind[:40] or "unnamed", "this release does not know such rows")
                return
            row_id = identifier_of(row)
            content = None if row.gone else kept(row, row_id)
        except Unreadable as error:
            self._skip(f"{row.kind} (unreadable)", error.why)
            return
        self._rows[(row.kind, row_id)] = content
        self._size += len(content or b"") + 32

    def _skip(self, kind: str, why: str) -> None:
        kind = kind.replace("\0", "?")
        if kind not in self._skipped:
            if len(self._skipped) >= 32:
                kind = "others"
            log.warning("rows of a peer are skipped", peer=self._peer.name, kind=kind, why=why)
        self._skipped[kind] = self._skipped.get(kind, 0) + 1
        self._skipped_more = True

    async def _keep(self, cursor: str, *, bookmark: bool = False) -> None:
        rows, gone = self._batch()
        async with self._connection.transaction():
            await self._hold()
            if self._snapshot is not None:
                await peer_row.arrive(self._connection, rows)
            else:
                await peer_row.put(self._connection, **self._of, rows=rows)
                await peer_row.drop(self._connection, **self._of, keys=gone)
                if cursor:
                    await peer_feed.advance(self._connection, **self._of, cursor=cursor)
                if bookmark:
                    await peer_feed.heard(self._connection, **self._of)
            await self._keep_skipped()
        if self._snapshot is None:
            self._tell()

    async def _keep_snapshot(self, snapshot: pb.SnapshotBegin, cursor: str) -> None:
        """Let the snapshot be all that is known, at once: nobody sees half of it, or less than there was."""
        rows, _ = self._batch()
        async with self._connection.transaction():
            await self._hold()
            await peer_row.arrive(self._connection, rows)
            await peer_row.take_arrived(self._connection, **self._of)
            await peer_feed.anew(
                self._connection,
                **self._of,
                cursor=cursor,
                register_epoch=_epoch(snapshot),
                version=snapshot.version[:40],
            )
            await self._keep_skipped()
        self._snapshot = None
        await peer_row.begin_arriving(self._connection)
        self._tell()

    async def _keep_skipped(self) -> None:
        if self._skipped_more:
            await peer_feed.set_skipped(self._connection, **self._of, skipped=self._skipped)
            self._skipped_more = False

    def _batch(self) -> tuple[list[tuple[str, UUID, bytes]], list[Key]]:
        rows, self._rows, self._size = self._rows, {}, 0
        puts = [(kind, row_id, content) for (kind, row_id), content in rows.items() if content is not None]
        return puts, [key for key, content in rows.items() if content is None]

    def _forget(self) -> None:
        self._rows, self._size, self._snapshot = {}, 0, None

    def _tell(self) -> None:
        self._wakes.tell(WakeKey.change(self._peer.tenant_id))

    async def _stay(self) -> None:
        """Say something to the register, so that it does not take this stream's holder for dead."""
        if asyncio.get_running_loop().time() - self._used_at > IDLE_SECONDS:
            async with self._connection.transaction():
                await self._hold()


def _epoch(snapshot: pb.SnapshotBegin) -> UUID:
    try:
        return UUID(snapshot.register_epoch)
    except ValueError:
        raise Unreadable("a snapshot of another cluster names no register") from None
