"""The fleet as it is shown here: what this cluster owns, and what others show it of theirs, with how old that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mosaic_framework.errors import NotFound
from mosaic_framework.names import nearest

from mosaic_controlplane.mesh.watch import FleetOf, PeerSeen, Row
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_row
from mosaic_controlplane.register.change import Change
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.peer import Feed, PeerRow
from mosaic_controlplane.register.peer_row import SharedRow

EVERY = "*"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which clusters are asked for. `cluster`: empty or `alias`, this one; `*`, all; else the name of a peer."""

    tenant_id: UUID
    cluster: str
    alias: str

    @property
    def own(self) -> bool:
        """Whether this cluster is among them."""
        return self.cluster in ("", EVERY, self.alias)

    @property
    def others(self) -> bool:
        """Whether peers are."""
        return self.cluster not in ("", self.alias)

    async def peers(self, connection: Connection) -> list[PeerSeen]:
        """Return the peers among them; of a name the one that stands, else its tombstone. Raises NotFound."""
        if not self.others:
            return []
        rows = await peer_table.list_of_tenant(connection, tenant_id=self.tenant_id)
        feeds = await peer_table.feeds(connection, tenant_id=self.tenant_id)
        # Those that stand come first, then the newest tombstone.
        by_name: dict[str, PeerRow] = {}
        for row in rows:
            by_name.setdefault(row.name, row)
        chosen = [row for name, row in by_name.items() if self.cluster in (EVERY, name, str(row.peer_id))]
        if not chosen and self.cluster != EVERY:
            near = nearest(self.cluster[:200], [self.alias, *by_name])
            raise NotFound(
                f"there is no cluster {self.cluster[:80]!r}",
                why=f"the nearest names are {', '.join(near)}" if near else "no peer has a name like it",
                next_step="mosaic peer ls",
            )
        return [PeerSeen(row, feeds.get(row.peer_id)) for row in chosen]


@dataclass(slots=True)
class Clusters:
    """What is watched of the clusters chosen, by one watcher, who is told of rows anew when their age turns them."""

    choice: Choice
    _told: dict[UUID, str] = field(default_factory=dict)

    async def all(self, connection: Connection) -> Sequence[Row]:
        """Return our own hosts and agents, then peers, then what they show."""
        peers = await self.choice.peers(connection)
        self._told = {seen.peer.peer_id: health_of(seen.feed) for seen in peers}
        own = await FleetOf(self.choice.tenant_id).all(connection) if self.choice.own else []
        shown = await peer_row.of_peers(connection, tenant_id=self.choice.tenant_id, peers=list(self._told))
        return [*own, *peers, *shown]

    async def changed(self, connection: Connection, changes: Sequence[Change]) -> dict[Change, list[Row]]:
        """Return what has changed of either."""
        rows: dict[Change, list[Row]] = {}
        if self.choice.own:
            rows |= await FleetOf(self.choice.tenant_id).changed(connection, changes)
        if not self.choice.others:
            return rows
        if any(change.kind == "peer" for change in changes):
            rows |= await self._peers(connection, {change.id: change for change in changes if change.kind == "peer"})
        of_id = {change.id: change for change in changes if change.kind == "peer_row"}
        for row in await peer_row.by_ids(connection, tenant_id=self.choice.tenant_id, ids=of_id):
            if self._is_chosen(row):
                rows.setdefault(of_id[row.id], []).append(row)
        return rows

    async def _peers(self, connection: Connection, changes: Mapping[UUID, Change]) -> dict[Change, list[Row]]:
        """Return the peers that changed; and all that one shows when its health has, for that is said of its rows."""
        rows: dict[Change, list[Row]] = {}
        try:
            peers = await self.choice.peers(connection)
        except NotFound:  # a tombstone that was removed while somebody watched
            return rows
        for seen in peers:
            change = changes.get(seen.peer.peer_id)
            if change is None:
                continue
            health = health_of(seen.feed)
            turned = self._told.get(seen.peer.peer_id) != health
            self._told[seen.peer.peer_id] = health
            shown: list[SharedRow] = []
            if turned:
                shown = await peer_row.of_peers(connection, tenant_id=self.choice.tenant_id, peers=[seen.peer.peer_id])
            rows[change] = [seen, *shown]
        return rows

    def _is_chosen(self, row: SharedRow) -> bool:
        return self.choice.cluster in (EVERY, row.cluster, str(row.peer_id))


def health_of(feed: Feed | None) -> str:
    """Return how old what a peer shows is: live, stale, lost; paired while nothing is known; empty of a tombstone."""
    return feed.health if feed is not None else ""
