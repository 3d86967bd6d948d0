"""Sending a message: one id from the command line to the pane, told step by step, never sent twice."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace

import typer
from google.protobuf.duration_pb2 import Duration
from mosaic_framework import steps
from mosaic_framework.errors import EXIT_INTERRUPTED, FleetError, InvalidInput, Unfinished, Unreachable
from mosaic_framework.ids import new_id
from mosaic_framework.names import nearest
from mosaic_proto.v1 import messages_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import Connection, ConnectionLost, NoAnswer, answer_within, connect
from mosaic_cli.failures import UsageError
from mosaic_cli.output import Format
from mosaic_cli.receipts import (
    LADDER,
    ended_badly,
    reached,
    receipt_thing,
    recipient,
    step_line,
    step_line_document,
    step_of,
)

_PAUSE_FIRST, _PAUSE_MOST = 0.1, 2.0
_LATE = 2.0  # seconds in which the host can say that the deadline has passed


class NotDelivered(FleetError):
    """The message was not delivered."""

    code = "not-delivered"


class DeliveryUnknown(FleetError):
    """Nobody can say whether the message arrived."""

    code = "delivery-unknown"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to send and how long to follow it. Times in seconds; `deadline` 0 is the server's own."""

    to: str
    body: str
    message_id: str = ""
    verify: int = 0
    deadline: float = 0.0
    mode: int = pb.DELIVERY_MODE_UNSPECIFIED
    sender: str = ""
    """in whose name; empty: the caller's own"""
    reply_to: str = ""
    timeout: float = 60.0
    detach: bool = False
    allow_secrets: bool = False
    queue: bool = False
    """to an agent of a peer that is away: let it wait at our own control plane"""


def check_step(name: str) -> int:
    """Return a step of the ladder by name (0 for none), else a usage error with the nearest."""
    if not name:
        return 0
    word = name.lower().replace("-", "_")
    if word not in LADDER:
        close = nearest(word, LADDER)
        raise UsageError(
            f"there is no step {name!r}",
            why=f"the nearest is {close[0]}" if close else "",
            next_step=f"one of: {' '.join(LADDER)}",
        )
    return int(pb.MessageStep.Value(f"MESSAGE_STEP_{word.upper()}"))


def mode_of(*, when_idle: bool, interrupt: bool) -> int:
    """Return the mode that the options ask for. Raises UsageError for both."""
    if when_idle and interrupt:
        raise UsageError("say --when-idle or --interrupt, not both")
    if when_idle:
        return pb.DELIVERY_MODE_WHEN_IDLE
    return pb.DELIVERY_MODE_INTERRUPT if interrupt else pb.DELIVERY_MODE_UNSPECIFIED


def interruption(to: str, *, timeout: float, detach: bool) -> Wish:
    """Return the wish that an agent be interrupted, within `timeout` seconds or not at all."""
    return Wish(
        to=to,
        body="",
        message_id=str(new_id()),
        verify=pb.MESSAGE_STEP_SUBMITTED,
        deadline=max(1.0, timeout),
        mode=pb.DELIVERY_MODE_INTERRUPT_ONLY,
        timeout=timeout + _LATE,
        detach=detach,
    )


def check_id(text: str) -> str:
    """Return an id as it is written on the wire, a new one for none."""
    if not text:
        return str(new_id())
    try:
        found = uuid.UUID(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is no message id", why="an id is a UUID", next_step="mosaic message ls") from None
    return str(found)


def send_request(connection: Connection, wish: Wish) -> pb.SendRequest:
    """Return what is asked of the control plane."""
    request = pb.SendRequest(
        request_id=wish.message_id,
        tenant=connection.tenant,
        to=wish.to,
        body=wish.body,
        reply_to=wish.reply_to,
        mode=wish.mode,  # type: ignore[arg-type]
        allow_secrets=wish.allow_secrets,
        queue_here=wish.queue,
    )
    setattr(request, "from", wish.sender)  # a word of Python's own
    if wish.deadline:
        request.deadline.CopyFrom(Duration(nanos=0, seconds=max(int(wish.deadline), 1)))
    return request


def goal_of(wish: Wish, receipt: pb.Receipt) -> int:
    """Return the step to wait for: the one asked for, else the strongest that the recipient's runtime can say."""
    if wish.verify:
        return wish.verify
    return int(pb.MESSAGE_STEP_SUBMITTED if receipt.strongest_step_is_submitted else pb.MESSAGE_STEP_ACCEPTED)


def run(wish: Wish, *, form: Format, context: str, tenant: str) -> None:
    """Send, follow and show. Raises Unfinished, NotDelivered, DeliveryUnknown, or what a call raises."""
    until = time.monotonic() + wish.timeout
    with connect(context, tenant=tenant) as connection:
        sender = _Sender(connection, wish, until, as_lines=form is Format.JSON)
        try:
            receipt = sender.send()
            if not wish.detach:
                receipt = sender.follow(receipt)
        except KeyboardInterrupt:
            output.say(f"interrupted; what was sent goes on: mosaic message show {wish.message_id}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    thing = receipt_thing(receipt)
    if form is Format.JSON:
        output.show_line(thing.kind, thing.body)
        _raise_bad_end(receipt)
        return
    # The steps were told as they happened; a person need not read them twice.
    output.show(replace(thing, text="") if form is Format.TABLE else thing, form)
    _raise_bad_end(receipt)


class _Sender:
    """One send: what was told already, and how long is left."""

    def __init__(self, connection: Connection, wish: Wish, until: float, *, as_lines: bool) -> None:
        self._connection = connection
        self._wish = wish
        self._until = until
        self._as_lines = as_lines
        self._told: set[int] = set()
        self._waits_for = ""
        self._lost = False
        self._pause = _PAUSE_FIRST

    def send(self) -> pb.Receipt:
        """Queue the message. Once a call may have arrived, a lost reply is asked for again under the same id."""
        request = send_request(self._connection, self._wish)
        first = True
        while True:
            steps.reached("cli.before-send")
            try:
                reply = self._connection.call(
                    self._connection.messages.Send, request, timeout=answer_within(self._wish.to)
                )
            except Unreachable as error:
                # A peer that was given it and did not answer is as a connection that was lost.
                if first and not isinstance(error, ConnectionLost) and "in_doubt" not in error.details:
                    if isinstance(error, NoAnswer):
                        raise _unsure(self._wish, error) from error
                    raise
                first = False
                if time.monotonic() >= self._until:
                    raise _unsure(self._wish, error) from error
                self._wait(error)
                continue
            steps.reached("cli.sent")
            receipt: pb.Receipt = reply.receipt
            output.say(f"message {receipt.message_id} to {recipient(receipt)}")
            if receipt.stripped:
                output.say(f"left out of the text, for no terminal can take it: {receipt.stripped}")
            self._tell(receipt)
            return receipt

    def follow(self, receipt: pb.Receipt) -> pb.Receipt:
        """Follow until the step wished for, through lost connections. Raises Unfinished."""
        while not reached(receipt, goal := goal_of(self._wish, receipt)) and not ended_badly(receipt):
            if time.monotonic() >= self._until:
                raise self._unfinished(receipt, goal)
            request = pb.FollowRequest(tenant=self._connection.tenant, message_id=receipt.message_id, until=goal)  # type: ignore[arg-type]
            try:
                for newer in self._connection.stream(self._connection.messages.Follow, request, until=self._until):
                    steps.reached("cli.following")
                    receipt, self._lost, self._pause = newer, False, _PAUSE_FIRST
                    self._tell(receipt)
                    if reached(receipt, goal_of(self._wish, receipt)) or ended_badly(receipt):
                        break
                else:
                    raise ConnectionLost("the stream ended", why="the control plane is stopping")
            except Unreachable as error:
                if time.monotonic() < self._until:
                    self._wait(error)
        return receipt

    def _tell(self, receipt: pb.Receipt) -> None:
        for step in receipt.steps:
            if step.step not in self._told:
                self._told.add(step.step)
                output.say(step_line(receipt, step))
                if self._as_lines:
                    output.show_line("ReceiptStep", step_line_document(receipt, step))
        if receipt.waits_for != self._waits_for:
            self._waits_for = receipt.waits_for
            if receipt.waits_for:
                output.say(f"          waits: {receipt.waits_for}")

    def _wait(self, error: Unreachable) -> None:
        """Tell a loss once, pause (nothing tells us when a control plane is back), dial again."""
        if not self._lost:
            output.say(f"the connection is lost ({error.why}); going on under the same id")
        self._lost = True
        time.sleep(min(self._pause, max(self._until - time.monotonic(), 0.0)))
        self._pause = min(self._pause * 2, _PAUSE_MOST)
        self._connection.reconnect()

    def _unfinished(self, receipt: pb.Receipt, goal: int) -> Unfinished:
        step = pb.MessageStep.Name(goal).removeprefix("MESSAGE_STEP_").lower()  # type: ignore[arg-type]
        return Unfinished(
            f"the message is {step_of(receipt)}, not yet {step}, after {self._wish.timeout:g} s; it goes on",
            why=receipt.reason or receipt.waits_for or f"{recipient(receipt)} has not got that far",
            next_step=f"mosaic message show {receipt.message_id}",
            details={"message_id": receipt.message_id, "step": step_of(receipt)},
        )


def _unsure(wish: Wish, error: Unreachable) -> Unreachable:
    return Unreachable(
        "it is not known whether the message was queued",
        why=error.why,
        next_step=f"repeat it safely: mosaic agent send {wish.to} --id {wish.message_id} … (same text)",
        details={"message_id": wish.message_id},
    )


def _raise_bad_end(receipt: pb.Receipt) -> None:
    if not ended_badly(receipt):
        return
    next_step = f"mosaic message show {receipt.message_id}"
    details = {"message_id": receipt.message_id, "step": step_of(receipt)}
    if receipt.step == pb.MESSAGE_STEP_UNKNOWN:
        raise DeliveryUnknown(
            f"nobody can say whether {recipient(receipt)} got the message",
            why=receipt.reason or "its host stopped between typing and recording; it is never typed again",
            next_step=f"look: mosaic agent tail {recipient(receipt)}",
            details=details,
        )
    raise NotDelivered(
        f"the message to {recipient(receipt)} was not delivered: {step_of(receipt)}",
        why=receipt.reason,
        next_step=next_step,
        details=details,
    )
