"""Messages as they make their steps: the newest to begin with, then each step, through lost connections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mosaic_proto.v1 import messages_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import connect
from mosaic_cli.documents import now, receipt_document
from mosaic_cli.feed import resumed
from mosaic_cli.output import Format
from mosaic_cli.receipts import ENDS, message_listing


@dataclass(slots=True)
class Shown:
    """The newest `limit` messages; `cursor` is where a new stream goes on."""

    limit: int
    open_only: bool
    receipts: dict[str, pb.Receipt] = field(default_factory=dict)
    cursor: str = ""
    begun: bool = False

    def take(self, event: pb.WatchMessagesEvent) -> bool:
        """Apply one event. Returns whether there is something new to show; of the beginning, when it is complete."""
        kind = event.WhichOneof("event")
        self.cursor = event.cursor or self.cursor
        if kind == "reset":
            self.receipts.clear()
            self.cursor, self.begun = "", False
        elif kind == "receipt":
            if self.receipts.get(event.receipt.message_id) == event.receipt:
                return False  # a step that was told with the one before it
            self.receipts[event.receipt.message_id] = event.receipt
            if len(self.receipts) > self.limit:
                del self.receipts[min(self.receipts.values(), key=_made).message_id]
            return self.begun
        elif event.complete:
            self.begun = True
            return True
        return False

    def newest_first(self) -> list[pb.Receipt]:
        """Return what is to be shown."""
        found = sorted(self.receipts.values(), key=_made, reverse=True)
        return [one for one in found if not self.open_only or is_open(one)]


def _made(receipt: pb.Receipt) -> tuple[int, int]:
    return receipt.created_at.seconds, receipt.created_at.nanos


def is_open(receipt: pb.Receipt) -> bool:
    """Whether a message is not at an end."""
    return receipt.step not in (*ENDS, pb.MESSAGE_STEP_TURN_ENDED)


def watch_messages(*, agent: str, open_only: bool, limit: int, form: Format, context: str, tenant: str) -> None:
    """Show messages and each step until interrupted: JSON as one object a line with its cursor, else the list anew."""
    with connect(context, tenant=tenant) as connection:
        shown = Shown(limit, open_only)

        def start() -> Iterator[pb.WatchMessagesEvent]:
            request = pb.WatchMessagesRequest(tenant=connection.tenant, agent=agent, limit=limit, cursor=shown.cursor)
            return connection.stream(connection.messages.Watch, request)

        on_loss = lambda error: output.say(f"the connection is lost ({error.why}); trying again")  # noqa: E731
        for event in resumed(connection, start, on_loss=on_loss):
            if event.WhichOneof("event") == "reset" and form is Format.JSON:
                output.show_line("Reset", {"reason": event.reset})
            if not shown.take(event):
                continue
            if form is not Format.JSON:
                output.show_anew(message_listing(shown.newest_first(), now()), form)
                continue
            changed = event.WhichOneof("event") == "receipt"
            for receipt in [event.receipt] if changed else shown.newest_first()[::-1]:
                # One that comes to its end is told, though it is not open any more.
                output.show_line("Receipt", receipt_document(receipt) | {"cursor": event.cursor})
