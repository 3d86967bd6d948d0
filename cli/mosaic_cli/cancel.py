"""Taking a message back: at once while no host has it, else through the host that has it."""

from __future__ import annotations

import time

from mosaic_framework.errors import Conflict, Unfinished
from mosaic_proto.v1 import messages_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import ELSEWHERE_WITHIN, connect
from mosaic_cli.output import Format
from mosaic_cli.receipts import receipt_thing, step_of


class NotTakenBack(Conflict):
    """The message could not be taken back."""

    code = "not-taken-back"


def run(message_id: str, *, timeout: float, detach: bool, form: Format, context: str, tenant: str) -> None:
    """Cancel, wait for the end, and show the receipt. Raises NotTakenBack, Unfinished, or what a call raises."""
    until = time.monotonic() + timeout
    with connect(context, tenant=tenant) as connection:
        request = pb.CancelMessageRequest(tenant=connection.tenant, message_id=message_id)
        receipt: pb.Receipt = connection.call(connection.messages.Cancel, request, timeout=ELSEWHERE_WITHIN).receipt
        if receipt.step != pb.MESSAGE_STEP_CANCELLED and not detach:
            output.say("its host has it already, and is asked to take it back")
            # Any step past the queue settles it: it was taken back, or it was typed before.
            follow = pb.FollowRequest(
                tenant=connection.tenant, message_id=receipt.message_id, until=pb.MESSAGE_STEP_TYPED
            )
            for newer in connection.stream(connection.messages.Follow, follow, until=until):
                receipt = newer
                if receipt.step not in (pb.MESSAGE_STEP_QUEUED, pb.MESSAGE_STEP_DISPATCHED):
                    break
    output.show(receipt_thing(receipt), form)
    if detach or receipt.step == pb.MESSAGE_STEP_CANCELLED:
        return
    details = {"message_id": receipt.message_id, "step": step_of(receipt)}
    next_step = f"mosaic message show {receipt.message_id}"
    if receipt.step in (pb.MESSAGE_STEP_QUEUED, pb.MESSAGE_STEP_DISPATCHED):
        raise Unfinished(
            f"the host has not answered after {timeout:g} s; it takes the message back when it hears of it, if it can",
            next_step=next_step,
            details=details,
        )
    raise NotTakenBack(
        f"it was too late: the message is {step_of(receipt)}", why=receipt.reason, next_step=next_step, details=details
    )
