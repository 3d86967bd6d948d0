"""The ladder of a message, and what a person reads of a receipt (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaic_proto.v1 import common_pb2
from mosaic_proto.v1 import messages_pb2 as pb

from mosaic_cli.documents import mode_word, moment, receipt_document, seconds_between, step_document, word
from mosaic_cli.output import Column, Listing, Style, Thing
from mosaic_cli.text import age, local_time

LADDER = ("queued", "dispatched", "typed", "submitted", "accepted", "turn_started", "turn_ended")
ENDS = (
    pb.MESSAGE_STEP_UNKNOWN,
    pb.MESSAGE_STEP_FAILED,
    pb.MESSAGE_STEP_EXPIRED,
    pb.MESSAGE_STEP_CANCELLED,
)


def step_of(receipt: pb.Receipt) -> str:
    """Return the newest step as a word."""
    return word(pb.MessageStep, receipt.step)


def ended_badly(receipt: pb.Receipt) -> bool:
    """Whether the message is at an end that is no delivery."""
    return receipt.step in ENDS


def reached(receipt: pb.Receipt, step: int) -> bool:
    """Whether the message is at `step` of the ladder or beyond."""
    return not ended_badly(receipt) and receipt.step >= step


def address(principal: common_pb2.Principal) -> str:
    """Return a sender or recipient as people write it."""
    return f"{principal.host}/{principal.name}" if principal.host else principal.name


def recipient(receipt: pb.Receipt) -> str:
    """Return to whom a message goes, as people write it: of another cluster cluster/host/agent."""
    return "/".join(part for part in (receipt.cluster, address(receipt.recipient)) if part)


def step_line(receipt: pb.Receipt, step: pb.ReceiptStep) -> str:
    """Return one step: the seconds since the message was made, the step, its evidence."""
    elapsed = seconds_between(step.at, receipt.created_at)
    clock = f"{elapsed:7.3f}s" if elapsed is not None else "       ?"
    evidence = ": ".join(part for part in (step.evidence.source, step.evidence.detail) if part)
    told = " - ".join(part for part in (evidence, step.reason) if part)
    return f"{clock}  {word(pb.MessageStep, step.step):<12}  {told}".rstrip()


def receipt_thing(receipt: pb.Receipt, *, body: str | None = None, extra: dict[str, Any] | None = None) -> Thing:
    """Return a receipt ready to be shown; with the message's body when it is given."""
    lines = [
        ("message", receipt.message_id),
        ("from", address(receipt.sender)),
        ("to", recipient(receipt)),
        ("is", "here; its cluster has not got it yet" if receipt.waits_here else ""),
        ("step", step_of(receipt)),
        ("reason", receipt.reason),
        ("waits for", receipt.waits_for),
        ("mode", mode_word(receipt.mode) if receipt.mode else ""),
        ("sent by", receipt.sent_by),
        ("left out", receipt.stripped),
        ("cancel", "asked for" if receipt.cancel_asked else ""),
        ("sent", local_time(moment(receipt.created_at))),
        ("deadline", local_time(moment(receipt.deadline_at)) if body is not None else ""),
    ]
    text = "\n".join(step_line(receipt, step) for step in receipt.steps)
    if body is not None:
        text += f"\n\n{body}"
    document = receipt_document(receipt) | ({"body": body} if body is not None else {}) | (extra or {})
    return Thing("Message" if body is not None else "Receipt", receipt.message_id, document, lines, text)


def step_line_document(receipt: pb.Receipt, step: pb.ReceiptStep) -> dict[str, Any]:
    """Return one step as a line of `-o json`."""
    return {"id": receipt.message_id, **step_document(step)}


def message_listing(receipts: Sequence[pb.Receipt], now: Any) -> Listing[pb.Receipt]:
    """Return messages, newest first, ready to be shown."""
    columns: list[Column[pb.Receipt]] = [
        Column("ID", lambda receipt: receipt.message_id),
        Column("AGE", lambda receipt: age(seconds_between(now, receipt.created_at))),
        Column("FROM", lambda receipt: address(receipt.sender)),
        Column("TO", recipient),
        Column("STEP", step_of),
        Column("TOOK", lambda receipt: age(_took(receipt))),
        Column("REASON", lambda receipt: receipt.reason or receipt.waits_for),
        Column("SEQ", lambda receipt: str(receipt.seat_seq or ""), wide=True),
    ]
    return Listing(
        "MessageList",
        receipts,
        columns,
        name=lambda receipt: receipt.message_id,
        document=receipt_document,
        style=_style,
        empty="no message yet; send one with: mosaic agent send AGENT -m TEXT",
    )


def _took(receipt: pb.Receipt) -> float | None:
    return seconds_between(receipt.steps[-1].at, receipt.created_at) if receipt.steps else None


def _style(receipt: pb.Receipt) -> Style:
    if receipt.step in (pb.MESSAGE_STEP_UNKNOWN, pb.MESSAGE_STEP_FAILED):
        return Style.WRONG
    return Style.GREY if receipt.step in (pb.MESSAGE_STEP_EXPIRED, pb.MESSAGE_STEP_CANCELLED) else Style.PLAIN
