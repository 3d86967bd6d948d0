"""The file in which a host keeps its last desired state: one line that names the host identity, then the message."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError
from mosaic_proto.v1 import host_link_pb2

from mosaic_framework.errors import FleetError

FILE = "desired.binpb"


class DesiredStateUnusable(FleetError):
    """The desired state on disk cannot be used."""

    code = "desired-state-unusable"


def pack(state: host_link_pb2.DesiredState, *, host_id: str) -> bytes:
    """Return the file's content."""
    return _head(host_id) + state.SerializeToString()


def read_desired(folder: Path, *, host_id: str) -> host_link_pb2.DesiredState | None:
    """Return the state, or None when there is none. Raises DesiredStateUnusable: another identity's, or damaged."""
    path = folder / FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    head = _head(host_id)
    if not content.startswith(head):
        raise DesiredStateUnusable(f"{path} is of another host identity")
    try:
        return host_link_pb2.DesiredState.FromString(content[len(head) :])
    except DecodeError as error:
        raise DesiredStateUnusable(f"{path} is damaged") from error


def _head(host_id: str) -> bytes:
    return f"mosaic-desired 1 {host_id}\n".encode()
