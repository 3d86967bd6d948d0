"""Receipts of messages to peers: as the peer said last, or what is known of one that it has not got (pure)."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_proto.v1 import common_pb2, federation_pb2
from mosaic_proto.v1 import messages_pb2 as pb

from mosaic_controlplane.register.peer_message import OPEN, PeerMessageRow

_STEPS = {
    "waiting": pb.MESSAGE_STEP_QUEUED,
    "offered": pb.MESSAGE_STEP_QUEUED,
    "failed": pb.MESSAGE_STEP_FAILED,
    "expired": pb.MESSAGE_STEP_EXPIRED,
    "cancelled": pb.MESSAGE_STEP_CANCELLED,
    "unknown": pb.MESSAGE_STEP_UNKNOWN,
}


def receipt_of(row: PeerMessageRow) -> pb.Receipt:
    """Return what is known of a message to a peer, by this cluster's names."""
    if row.state == "handed":
        return _ours(row, pb.Receipt.FromString(row.receipt))
    request = pb.SendRequest.FromString(row.request)
    host, _, name = request.to.rpartition("/")
    step = _STEPS[row.state]
    steps = [
        pb.ReceiptStep(
            step=pb.MESSAGE_STEP_QUEUED,
            at=_time(row.made_at),
            evidence=pb.Evidence(source="control-plane", detail=f"kept here for cluster {row.peer}"),
        )
    ]
    still_open = row.state in OPEN
    if not still_open:
        at = row.deadline_at if row.state in ("expired", "unknown") else row.tried_at
        evidence = pb.Evidence(source="control-plane")
        steps.append(pb.ReceiptStep(step=step, at=_time(at), evidence=evidence, reason=row.problem))
    return _ours(
        row,
        pb.Receipt(
            message_id=str(row.message_id),
            recipient=common_pb2.Principal(kind=common_pb2.PRINCIPAL_KIND_AGENT, host=host, name=name),
            step=step,
            reason="" if still_open else row.problem,
            waits_for=(row.problem or f"no answer from cluster {row.peer} yet") if still_open else "",
            steps=steps,
            created_at=_time(row.made_at),
            deadline_at=_time(row.deadline_at),
            mode=request.mode,
            waits_here=still_open,
        ),
    )


def _ours(row: PeerMessageRow, receipt: pb.Receipt) -> pb.Receipt:
    receipt.cluster = row.peer
    receipt.sender.CopyFrom(federation_pb2.OriginatingIdentity.FromString(row.origin).principal)
    receipt.sender.tenant = row.tenant
    receipt.recipient.tenant = ""
    return receipt


def told(receipt: pb.Receipt) -> pb.Receipt:
    """Return a receipt as a peer is told it: of this cluster's only the agent it wrote to, and what came of it."""
    receipt.sender.tenant = receipt.recipient.tenant = receipt.sent_by = ""
    receipt.seat_seq = 0
    return receipt


def _time(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
