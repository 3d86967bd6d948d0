"""The change stream: a snapshot, then every change after it, each once and in order, from any cursor still kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from mosaic_controlplane.mesh.wakes import RESCAN_SECONDS, Wakes, wait_for_wake
from mosaic_controlplane.register import agent as agent_table
from mosaic_controlplane.register import change as change_table
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import message as message_table
from mosaic_controlplane.register import peer_message, shared
from mosaic_controlplane.register.agent import AgentRow
from mosaic_controlplane.register.change import Change, Cursor
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.host import HostRow
from mosaic_controlplane.register.message import MessageRow
from mosaic_controlplane.register.peer import Feed, PeerRow
from mosaic_controlplane.register.peer_message import PeerMessageRow
from mosaic_controlplane.register.peer_row import SharedRow
from mosaic_controlplane.register.replica import WakeKey

HELD_BACK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class PeerSeen:
    """Another cluster, and what is known of it beside the pairing; nothing of a tombstone."""

    peer: PeerRow
    feed: Feed | None


Row = AgentRow | HostRow | MessageRow | PeerMessageRow | SharedRow | PeerSeen


@dataclass(frozen=True, slots=True)
class Complete:
    """Everything up to the cursor has been sent."""

    snapshot: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """The cursor cannot be resumed from: a new snapshot follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Watched:
    """One thing to tell a watcher, and the cursor after it; None inside a snapshot, which is resumed whole."""

    what: Row | Complete | Restart
    cursor: Cursor | None


class Subject(Protocol):
    """What is watched of a tenant, by one watcher."""

    async def all(self, connection: Connection) -> Sequence[Row]:
        """Return everything as it is."""

    async def changed(self, connection: Connection, changes: Sequence[Change]) -> dict[Change, list[Row]]:
        """Return what has changed, as it is now; nothing of a change that is not watched."""


@dataclass(frozen=True, slots=True)
class FleetOf:
    """The hosts and agents of a tenant."""

    tenant_id: UUID

    async def all(self, connection: Connection) -> Sequence[Row]:
        """Return hosts, then agents."""
        hosts = await host_table.list_hosts(connection, tenant_id=self.tenant_id)
        return [*hosts, *await agent_table.shown(connection, tenant_id=self.tenant_id)]

    async def changed(self, connection: Connection, changes: Sequence[Change]) -> dict[Change, list[Row]]:
        """Return hosts and agents."""
        ids = {kind: [change.id for change in changes if change.kind == kind] for kind in ("agent", "host")}
        agents = await shared.agents(connection, tenant_id=self.tenant_id, ids=ids["agent"])
        hosts = await shared.hosts(connection, tenant_id=self.tenant_id, ids=ids["host"])
        rows: dict[str, Mapping[UUID, Row]] = {"agent": agents, "host": hosts}
        return {change: [rows[change.kind][change.id]] for change in changes if change.id in rows.get(change.kind, ())}


@dataclass(frozen=True, slots=True)
class MessagesOf:
    """The messages of a tenant, those to peers too, or those to one `recipient`; to begin with, the `newest` so many.

    `at_peer`: those to one agent of a peer (the pairing's id, host/agent).
    """

    tenant_id: UUID
    recipient: UUID | None
    newest: int
    at_peer: tuple[UUID, str] | None = None

    async def all(self, connection: Connection) -> Sequence[Row]:
        """Return messages, oldest first."""
        own: Sequence[MessageRow] = ()
        if self.at_peer is None:
            recipients = None if self.recipient is None else [self.recipient]
            own = await message_table.receipts(
                connection, tenant_id=self.tenant_id, recipients=recipients, limit=self.newest
            )
        at_peers: Sequence[PeerMessageRow] = ()
        if self.recipient is None:
            peer_id, address = self.at_peer or (None, "")
            at_peers = await peer_message.newest(
                connection, tenant_id=self.tenant_id, limit=self.newest, peer_id=peer_id, address=address
            )
        made = [(one.created_at, one) for one in own] + [(one.made_at, one) for one in at_peers]
        return [one for _, one in sorted(made, key=lambda entry: entry[0])[-self.newest :]]

    async def changed(self, connection: Connection, changes: Sequence[Change]) -> dict[Change, list[Row]]:
        """Return messages."""
        rows: dict[Change, list[Row]] = {}
        for change in changes:
            if change.kind != "message":
                continue
            found = await message_table.receipts(connection, tenant_id=self.tenant_id, message_id=change.id, limit=1)
            if found and self.at_peer is None and self.recipient in (None, found[0].recipient_id):
                rows[change] = [found[0]]
            if found or self.recipient is not None:
                continue
            there = await peer_message.find(connection, tenant_id=self.tenant_id, message_id=change.id)
            if there is not None and self.at_peer in (None, (there.peer_id, there.address)):
                rows[change] = [there]
        return rows


async def watch(
    database: Database,
    wakes: Wakes,
    *,
    tenant_id: UUID,
    register_epoch: UUID,
    resume: Cursor | None,
    subject: Subject | None = None,
) -> AsyncIterator[Watched]:
    """Yield a tenant's agents and hosts (or `subject`) as they are, then as they change; never ends by itself."""
    subject = subject or FleetOf(tenant_id)
    async with wakes.watching(WakeKey.change(tenant_id)) as wake:
        cursor, resumed = resume, resume is not None
        pause = HELD_BACK_SECONDS
        if cursor is not None and cursor.register_epoch != register_epoch:
            yield Watched(Restart("the register was restored from a backup, or is another one"), None)
            cursor = None
        while True:
            if cursor is None:
                async with (
                    database.connection() as connection,
                    connection.transaction(isolation="repeatable_read", readonly=True),
                ):
                    cursor, _ = await change_table.position(
                        connection, tenant_id=tenant_id, register_epoch=register_epoch
                    )
                    seen = await change_table.snapshot(connection)
                    cursor = replace(cursor, seen=seen).at(cursor.xid, cursor.seq)
                    rows = await subject.all(connection)
                for row in rows:
                    yield Watched(row, None)
                yield Watched(Complete(snapshot=True), cursor)
                resumed = False
            async with database.connection() as connection:
                position, held_back = await change_table.position(
                    connection, tenant_id=tenant_id, register_epoch=register_epoch
                )
                changes = await change_table.after(connection, tenant_id=tenant_id, cursor=cursor)
                # Asked after the reading: what was forgotten before it is then known to be.
                gap = resumed and cursor.xid <= await change_table.forgotten_up_to(connection)
                newest = newest_of_each(changes)
                found = await subject.changed(connection, newest)
            resumed = False
            if gap:
                yield Watched(Restart("the cursor is older than what the register keeps"), None)
                cursor = None
                continue
            for change in newest:
                rows = found.get(change, [])
                for row in rows:
                    # The cursor goes past the change with the last of its rows.
                    yield Watched(row, cursor.at(change.xid, change.seq) if row is rows[-1] else None)
            if changes:
                cursor = cursor.at(changes[-1].xid, changes[-1].seq)
                yield Watched(Complete(snapshot=False), cursor)
                continue
            if (position.xid, position.seq) > (cursor.xid, cursor.seq):
                cursor = cursor.at(position.xid, position.seq)
            pause = min(2 * pause, RESCAN_SECONDS) if held_back else HELD_BACK_SECONDS
            await wait_for_wake(wake, pause if held_back else RESCAN_SECONDS)


def newest_of_each(changes: list[Change]) -> list[Change]:
    """Return the last change of each thing, in order (pure): rows are sent as they are now, so once is enough."""
    last = {(change.kind, change.id): change for change in changes}
    return sorted(last.values(), key=lambda change: (change.xid, change.seq))
