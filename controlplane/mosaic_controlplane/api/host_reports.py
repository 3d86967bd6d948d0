"""What a host tells, as the register keeps it: each text bounded, so that no host can fill it."""

from __future__ import annotations

from mosaic_proto.v1 import host_link_pb2 as pb
from mosaic_proto.v1 import runtimes_pb2

from mosaic_controlplane.api import encode
from mosaic_controlplane.register.runtime_update import Progress

_TEXT_LIMIT = 500  # characters; a fleet of 1,000 agents is listed in one reply of 4 MiB
_OUTPUT_LIMIT = 8192
_UNMANAGED_LIMIT = 100
_SEATS_LIMIT = 1000


def bounded(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return what the register can keep of a host's text: NUL, which it cannot, would come again with every retry."""
    return text[:limit].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def decode_unmanaged(told: pb.Unmanaged) -> bytes:
    """Return the sessions as the register keeps them, each text bounded and the first hundred of them."""
    kept = pb.Unmanaged()
    for one in told.sessions[:_UNMANAGED_LIMIT]:
        added = kept.sessions.add(
            socket_name=bounded(one.socket_name, 64),
            name=bounded(one.name, 128),
            pid=one.pid,
            command=bounded(one.command, 64),
        )
        added.created_at.CopyFrom(one.created_at)
    return kept.SerializeToString(deterministic=True)


def decode_progress(told: runtimes_pb2.UpdateProgress) -> Progress | None:
    """Return how far an update is; None for a state that we do not know. Its texts are bounded."""
    if told.state not in runtimes_pb2.UpdateState.values() or told.state <= runtimes_pb2.UPDATE_STATE_WANTED:
        return None
    seats = runtimes_pb2.RuntimeUpdate()
    for one in told.seats[:_SEATS_LIMIT]:
        seats.seats.add(name=bounded(one.name, 128), well=one.well, detail=bounded(one.detail))
    return Progress(
        update_id=encode.identifier(told.id, what="update id"),
        state=runtimes_pb2.UpdateState.Name(told.state).removeprefix("UPDATE_STATE_").lower(),
        version_before=bounded(told.version_before, 64),
        version_after=bounded(told.version_after, 64),
        problem=bounded(told.problem),
        output=bounded(told.output, _OUTPUT_LIMIT),
        seats=seats.SerializeToString(deterministic=True),
    )
