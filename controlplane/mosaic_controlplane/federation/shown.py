"""What one stream has told a peer, so that it is told of what goes, and never of what it was not shown (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from mosaic_proto.v1 import federation_pb2 as pb

_NOT_KNOWN = 0  # in place of the digest of what was told on an earlier stream


class Shown:
    """The rows told, each with its host and a digest of what was told, and the hosts that came with them.

    Costs about 300 bytes a row, whatever the speed of the peer that reads.
    """

    def __init__(self) -> None:
        self._agents: dict[UUID, tuple[UUID, int]] = {}
        self._hosts: dict[UUID, int] = {}
        self._on: dict[UUID, set[UUID]] = {}
        self.unsettled: set[UUID] = set()
        """hosts that may have to be told, or to go, since the first agent on them came or the last one went"""

    @classmethod
    def resumed(cls, places: Mapping[UUID, UUID], hosts: Collection[UUID]) -> Shown:
        """Return what a peer says that it has: agents, by the hosts on which they sit now, and hosts."""
        shown = cls()
        for agent_id, host_id in places.items():
            shown._place(agent_id, host_id, _NOT_KNOWN)
        shown._hosts = dict.fromkeys(hosts, _NOT_KNOWN)
        shown.unsettled = {*hosts, *shown._on}
        return shown

    def agent(self, agent_id: UUID, host_id: UUID | None, content: bytes | None) -> pb.PeerRow | None:
        """Return what to tell of an agent that is now `content` on `host_id`, None: not shared, or gone."""
        before = self._agents.get(agent_id)
        if content is None or host_id is None:
            if before is None:
                return None
            self._leave(agent_id, before[0])
            del self._agents[agent_id]
            return pb.PeerRow(kind="agent", id=agent_id.bytes, gone=True)
        digest = hash(content)
        if before is not None and before[0] != host_id:
            self._leave(agent_id, before[0])
        self._place(agent_id, host_id, digest)
        if before is not None and before[1] == digest:
            return None
        return pb.PeerRow(kind="agent", id=agent_id.bytes, content=content)

    def host(self, host_id: UUID, content: bytes | None) -> pb.PeerRow | None:
        """Return what to tell of a host that is now `content`, None: not shared, or gone."""
        self.unsettled.discard(host_id)
        if content is None:
            known = self._hosts.pop(host_id, None)
            return None if known is None else pb.PeerRow(kind="host", id=host_id.bytes, gone=True)
        digest = hash(content)
        if self._hosts.get(host_id) == digest:
            return None
        self._hosts[host_id] = digest
        return pb.PeerRow(kind="host", id=host_id.bytes, content=content)

    def agents_on(self, host_id: UUID) -> set[UUID]:
        """Return the agents told that sit on a host."""
        return set(self._on.get(host_id, ()))

    def is_occupied(self, host_id: UUID) -> bool:
        """Return whether any agent told sits on a host."""
        return host_id in self._on

    def _place(self, agent_id: UUID, host_id: UUID, digest: int) -> None:
        self._agents[agent_id] = (host_id, digest)
        there = self._on.setdefault(host_id, set())
        if not there:
            self.unsettled.add(host_id)
        there.add(agent_id)

    def _leave(self, agent_id: UUID, host_id: UUID) -> None:
        there = self._on[host_id]
        there.discard(agent_id)
        if not there:
            del self._on[host_id]
            self.unsettled.add(host_id)
