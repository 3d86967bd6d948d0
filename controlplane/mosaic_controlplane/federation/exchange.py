"""The owner's side of the exchange of state: a snapshot of what a peer may see, then every change of it, in order.

Only the agents and hosts of this cluster are read here: what other clusters show us lies in tables of its own, which
nothing here knows. What a peer may see is asked for again with every page, in the same breath as the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mosaic_framework import __version__, pki
from mosaic_framework.errors import InvalidInput
from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1 import fleet_pb2, peers_pb2

from mosaic_controlplane.federation import bundles
from mosaic_controlplane.federation.errors import UnknownPeer
from mosaic_controlplane.federation.greeting import Greeting, any_of, greeted, listening
from mosaic_controlplane.federation.pace import Pace
from mosaic_controlplane.federation.sharing import Sharing
from mosaic_controlplane.federation.shown import Shown
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.renewal import identity_of
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import change as change_table
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_grant, replica, shared
from mosaic_controlplane.register.agent import AgentRow
from mosaic_controlplane.register.change import Cursor
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.host import HostRow
from mosaic_controlplane.register.peer_grant import GrantRow
from mosaic_controlplane.register.replica import WakeKey

CHANGES_A_PAGE = 2_000
ROWS_A_FRAME = 500  # some 30 ms of this replica's one thread, and under 4 MiB with the longest texts that are shown
BYTES_A_FRAME = 1024 * 1024
_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Encoders:
    """How rows look on the wire."""

    agent: Callable[[AgentRow], fleet_pb2.Agent]
    host: Callable[[HostRow], fleet_pb2.Host]


class Exchange:
    """Serves peers' streams."""

    def __init__(
        self, database: Database, cluster: ClusterIdentity, wakes: Wakes, standings: Standings, encoders: Encoders
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._wakes = wakes
        self._standings = standings
        self._encoders = encoders

    async def serve(self, caller: Caller, ups: AsyncIterator[pb.ExchangeUp]) -> AsyncIterator[pb.ExchangeDown]:
        """Yield what a peer may see, until it goes. Raises InvalidInput, ProtocolMismatch, BadPairing."""
        since = self._standings.changes
        greeting = await greeted(ups, name=caller.name)
        stream = Stream(self._database, self._cluster, caller, greeting, self._encoders)
        failed = asyncio.Event()
        with self._standings.watching(identity_of(caller), since=since) as told:
            async with (
                listening(ups, stream.take_bundle, failed) as listener,
                self._wakes.watching(WakeKey.change(caller.tenant_id)) as woken,
            ):
                while True:
                    woken.clear()
                    told.clear()
                    async for down in stream.news():
                        yield down
                    if failed.is_set():
                        await listener
                    if not stream.hurried:
                        await any_of(woken, told, failed, seconds=stream.wait)


class Stream:
    """One peer's stream: where it is, and what it has told."""

    def __init__(
        self, database: Database, cluster: ClusterIdentity, caller: Caller, greeting: Greeting, encoders: Encoders
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._tenant_id = caller.tenant_id
        self._peer_id = caller.id
        self._kinds = greeting.kinds
        self._encoders = encoders
        self._greeting: Greeting | None = greeting
        self._cursor: Cursor | None = None
        self._sharing = Sharing()
        self._shown = Shown()
        self._host_states: dict[UUID, str] = {}
        self._told_grants: pb.GrantsHeld | None = None
        self._told_bundle: pb.TrustBundle | None = None
        self._pace = Pace(asyncio.get_running_loop().time)
        self.hurried = False
        """there is more to tell at once"""
        self.wait = 0.0
        """the seconds after which there may be something to tell, without a word from anybody"""

    async def take_bundle(self, told: pb.TrustBundle) -> None:
        """Keep the peer's own roots and addresses. Raises BadPairing, InvalidInput, UnknownPeer."""
        async with self._database.transaction() as connection:
            peer = await peer_table.find(connection, self._peer_id)
            if peer is None or not peer.stands:
                raise UnknownPeer
            await bundles.take(connection, peer, told, ours=self._cluster)

    async def news(self) -> AsyncIterator[pb.ExchangeDown]:
        """Yield what there is to tell now. Nothing is held of the register while the peer reads."""
        self.hurried = False
        async with self._database.connection() as connection:
            at = await replica.database_time(connection)
            grants = await peer_grant.active(connection, tenant_id=self._tenant_id, peer_id=self._peer_id)
            bundle = await own_bundle(connection, self._cluster) if self._pace.bundle_is_due() else self._told_bundle
        if bundle is not None and bundle != self._told_bundle:
            self._told_bundle = bundle
            yield self._say(pb.ExchangeDown(bundle=bundle))
        held = pb.GrantsHeld(grants=[_as_held(grant) for grant in grants])
        if held != self._told_grants:
            self._told_grants = held
            yield self._say(pb.ExchangeDown(grants=held))
        sharing, before, self._sharing = Sharing.of(grants), self._sharing, Sharing.of(grants)
        if self._greeting is not None:
            reason = await self._resume(self._greeting)
            self._greeting = None
        else:
            reason = "" if sharing.digest == before.digest else "what is granted has changed"
        try:
            if reason:
                raise _BeginAnew(reason)
            async for down in self._snapshot() if self._cursor is None else self._changes():
                yield self._say(down)
        except _BeginAnew as begin:
            self._cursor, self.hurried = None, True
            yield self._say(pb.ExchangeDown(reset=pb.ExchangeReset(reason=str(begin))))
        self.wait = min(self._pace.next_sign(), *(_seconds(grant.expires_at, at) for grant in grants), 60.0)

    def _say(self, down: pb.ExchangeDown) -> pb.ExchangeDown:
        self._pace.said()
        return down

    async def _resume(self, greeting: Greeting) -> str:
        """Go on where the peer is, if that can be: else return why not, or nothing when it begins."""
        if not greeting.cursor:
            return ""
        place, _, digest = greeting.cursor.partition("/")
        try:
            cursor = Cursor.parse(place)
        except InvalidInput:
            return "the cursor is not one of ours"
        if cursor.register_epoch != self._cluster.register_epoch:
            return "the register was restored from a backup, or is another one"
        if digest != self._sharing.digest:
            return "what is granted has changed"
        agents = greeting.known.get("agent", set())
        async with self._database.connection() as connection:
            places = await shared.places(connection, tenant_id=self._tenant_id, ids=agents)
        if len(places) < len(agents):
            return "rows are known there that are not of this register"
        self._shown = Shown.resumed(places, greeting.known.get("host", set()))
        self._cursor = cursor
        return ""

    async def _snapshot(self) -> AsyncIterator[pb.ExchangeDown]:
        """Yield all there is, a page at a time: what changes meanwhile is told after it, since its cursor is older."""
        self._shown, self._host_states = Shown(), {}
        async with self._database.connection() as connection:
            cursor, _ = await self._position(connection)
        begin = pb.SnapshotBegin(register_epoch=str(self._cluster.register_epoch), version=__version__)
        yield pb.ExchangeDown(begin=begin)
        for page_of, tell in ((shared.agent_page, self._agents), (shared.host_page, self._hosts)):
            after: UUID | None = _NOBODY
            while after is not None:
                async with self._database.connection() as connection:
                    ids = await page_of(connection, tenant_id=self._tenant_id, after=after, limit=ROWS_A_FRAME)
                after = ids[-1] if ids else None
                for frame in await self._told(tell, ids):
                    yield frame
        self._cursor, self.hurried = cursor, True
        yield pb.ExchangeDown(end=pb.SnapshotEnd(), cursor=self._text(cursor))

    async def _changes(self) -> AsyncIterator[pb.ExchangeDown]:
        """Yield a page of changes, else a bookmark when one is due and true."""
        assert self._cursor is not None
        async with self._database.connection() as connection:
            position, held_back = await self._position(connection)
            changes = await change_table.after(
                connection, tenant_id=self._tenant_id, cursor=self._cursor, limit=CHANGES_A_PAGE
            )
            # Asked after the reading: what was forgotten before it is then known to be.
            if self._cursor.xid <= await change_table.forgotten_up_to(connection):
                raise _BeginAnew("the cursor is older than what the register keeps")
        agents = dict.fromkeys(change.id for change in changes if change.kind == "agent")
        hosts = dict.fromkeys(change.id for change in changes if change.kind == "host")
        cursor = self._cursor
        if changes:
            cursor = cursor.at(changes[-1].xid, changes[-1].seq)
        elif (position.xid, position.seq) > (cursor.xid, cursor.seq):
            cursor = cursor.at(position.xid, position.seq)
        frames: list[pb.ExchangeDown] = []
        async for frame in self._told_of(list(agents), list(hosts)):
            if frames:
                yield frames.pop()
            frames.append(frame)
        self._cursor = cursor
        if frames:
            frames[0].cursor = self._text(cursor)
            yield frames[0]
        self.hurried = len(changes) == CHANGES_A_PAGE
        self._pace.looked(held_back=held_back, oldest_open=position.xid)
        if not self.hurried and self._pace.bookmark_is_due():
            async with self._database.connection() as connection:
                at = await replica.database_time(connection)
            bookmark = pb.PeerBookmark()
            bookmark.at.FromDatetime(at)
            self._pace.bookmarked()
            yield pb.ExchangeDown(bookmark=bookmark, cursor=self._text(cursor))
        elif self._pace.sign_is_due():
            yield pb.ExchangeDown()

    async def _told_of(self, agents: list[UUID], hosts: list[UUID]) -> AsyncIterator[pb.ExchangeDown]:
        """Yield what is new of agents and hosts: of hosts after their agents, with which they come and go."""
        if hosts:
            async with self._database.connection() as connection:
                found = await shared.hosts(connection, tenant_id=self._tenant_id, ids=hosts)
            for host_id, row in found.items():
                # What is shown of an agent depends on whether its host is heard of.
                if self._host_states.get(host_id) != row.state:
                    agents.extend(self._shown.agents_on(host_id))
        for ids in _pages(dict.fromkeys(agents)):
            for frame in await self._told(self._agents, ids):
                yield frame
        for ids in _pages({*hosts, *self._shown.unsettled}):
            for frame in await self._told(self._hosts, ids):
                yield frame

    async def _told(
        self, tell: Callable[[Connection, Sequence[UUID]], Awaitable[list[pb.PeerRow]]], ids: Sequence[UUID]
    ) -> list[pb.ExchangeDown]:
        """Return what is new of some rows, as few frames of kinds that the peer knows as fit. Raises _BeginAnew.

        A peer may take minutes to read what came before: what it may see is asked for again.
        """
        async with self._database.connection() as connection:
            grants = await peer_grant.active(
                connection, tenant_id=self._tenant_id, peer_id=self._peer_id, kinds=("see",)
            )
            if Sharing.of(grants).digest != self._sharing.digest:
                raise _BeginAnew("what is granted has changed")
            rows = await tell(connection, ids)
        return in_frames(row for row in rows if row.kind in self._kinds)

    async def _agents(self, connection: Connection, ids: Sequence[UUID]) -> list[pb.PeerRow]:
        rows = await shared.agents(connection, tenant_id=self._tenant_id, ids=ids)
        told = []
        for agent_id in ids:
            row, content = rows.get(agent_id), None
            if row is not None and (agent := self._sharing.agent(self._encoders.agent(row))) is not None:
                content = agent.SerializeToString(deterministic=True)
            told.append(self._shown.agent(agent_id, row.host_id if row else None, content))
        return [one for one in told if one is not None]

    async def _hosts(self, connection: Connection, ids: Sequence[UUID]) -> list[pb.PeerRow]:
        rows = await shared.hosts(connection, tenant_id=self._tenant_id, ids=ids)
        told = []
        for host_id in ids:
            row, content = rows.get(host_id), None
            if row is not None:
                self._host_states[host_id] = row.state
                occupied = self._shown.is_occupied(host_id)
                host = self._sharing.host(self._encoders.host(row), with_agents=occupied)
                content = None if host is None else host.SerializeToString(deterministic=True)
            told.append(self._shown.host(host_id, content))
        return [one for one in told if one is not None]

    async def _position(self, connection: Connection) -> tuple[Cursor, bool]:
        return await change_table.position(
            connection, tenant_id=self._tenant_id, register_epoch=self._cluster.register_epoch
        )

    def _text(self, cursor: Cursor) -> str:
        return f"{cursor}/{self._sharing.digest}"


class _BeginAnew(Exception):
    """What was told cannot be gone on from: its argument says why."""


def in_frames(rows: Iterable[pb.PeerRow]) -> list[pb.ExchangeDown]:
    """Return as few frames of rows as fit what a message may have (pure)."""
    frames: list[pb.ExchangeDown] = []
    size = BYTES_A_FRAME
    for row in rows:
        size += len(row.content) + 32
        if size > BYTES_A_FRAME:
            frames.append(pb.ExchangeDown(rows=pb.PeerRows()))
            size = len(row.content) + 32
        frames[-1].rows.rows.append(row)
    return frames


def _pages(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    ordered = list(ids)
    for at in range(0, len(ordered), ROWS_A_FRAME):
        yield ordered[at : at + ROWS_A_FRAME]


async def own_bundle(connection: Connection, cluster: ClusterIdentity) -> pb.TrustBundle:
    """Return this cluster's roots, and where other clusters reach it."""
    doors = await replica.doors(connection)
    return pb.TrustBundle(
        authority_der=[pki.certificate_to_der(root) for root in cluster.roots],
        addresses=doors.peer,
        enrol_addresses=doors.enrol,
    )


def _as_held(grant: GrantRow) -> peers_pb2.PeerGrant:
    """Return a grant as its holder hears of it: not by whom it was made."""
    told = peers_pb2.PeerGrant(
        id=str(grant.grant_id), kind=grant.kind, selector=grant.selector, fields=grant.fields, max=grant.most
    )
    told.expires_at.FromDatetime(grant.expires_at)
    told.made_at.FromDatetime(grant.made_at)
    return told


def _seconds(until: datetime, now: datetime) -> float:
    return max(0.05, (until - now).total_seconds() + 0.01)
