"""Rows as another cluster sends them, made into what may be kept of them (pure): it may be newer, or mean no good."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_framework.errors import InvalidInput
from mosaic_framework.names import check_name
from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1 import fleet_pb2

from mosaic_controlplane.federation.sharing import EVERY_AGENT_FIELD, HOST_FIELDS, only

CONTENT_LIMIT = 64 * 1024
_LAST_SECOND = 253_402_300_799  # of the year 9999


class Unreadable(InvalidInput):
    """A row of another cluster cannot be read."""

    code = "peer-row-unreadable"


def identifier_of(row: pb.PeerRow) -> UUID:
    """Return a row's id. Raises Unreadable."""
    try:
        return UUID(bytes=row.id)
    except ValueError:
        raise Unreadable(why="its id has other than 16 bytes") from None


def kept(row: pb.PeerRow, row_id: UUID) -> bytes:
    """Return what is kept of a row of a kind in READERS: fields that are known, of values that can be shown.

    Raises Unreadable.
    """
    if len(row.content) > CONTENT_LIMIT:
        raise Unreadable(why=f"it has {len(row.content):,} bytes; the most is {CONTENT_LIMIT:,}")
    try:
        return READERS[row.kind](row.content, row_id)
    except (DecodeError, InvalidInput) as error:
        raise Unreadable(why=str(error)) from error


def _agent(content: bytes, row_id: UUID) -> bytes:
    agent = only(fleet_pb2.Agent.FromString(content), EVERY_AGENT_FIELD)
    check_name(agent.name, what="agent")
    check_name(agent.host, what="host")
    agent.id = str(row_id)
    agent.removed = False
    if agent.state not in fleet_pb2.AgentState.values():
        agent.state = fleet_pb2.AGENT_STATE_UNKNOWN
    for name in ("state_since", "reported_at", "output_at"):
        _check_time(getattr(agent, name))
    return agent.SerializeToString(deterministic=True)


def _host(content: bytes, row_id: UUID) -> bytes:
    host = only(fleet_pb2.Host.FromString(content), HOST_FIELDS)
    check_name(host.name, what="host")
    host.id = str(row_id)
    host.removed = False
    if host.state not in fleet_pb2.HostState.values():
        host.state = fleet_pb2.HOST_STATE_UNSPECIFIED
    _check_time(host.last_beat_at)
    return host.SerializeToString(deterministic=True)


READERS: dict[str, Callable[[bytes, UUID], bytes]] = {"agent": _agent, "host": _host}
"""Kinds of rows that this release knows."""


def _check_time(at: Timestamp) -> None:
    if not (0 <= at.seconds <= _LAST_SECOND and 0 <= at.nanos < 1_000_000_000):
        raise Unreadable(why="a time in it is none")
