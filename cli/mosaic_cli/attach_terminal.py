"""mosaic agent attach: this keyboard on a terminal elsewhere, as long as the lease holds. Ctrl-] leaves."""

from __future__ import annotations

import queue
import select
import time
from collections.abc import Callable, Iterator

import grpc
from mosaic_framework.errors import Unreachable
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_cli import local_terminal, output
from mosaic_cli.client import Connection, connect
from mosaic_cli.local_terminal import LocalTerminal
from mosaic_cli.screen_drawing import bar_text, draw
from mosaic_cli.terminal_frames import NewestPicture

DETACH = b"\x1d"
RENEW_SECONDS = 5.0
_WAITING = 256  # pieces of at most 4 KiB that the network has not taken yet


def attach_terminal(address: str, *, take: bool, context: str, tenant: str) -> None:
    """Drive a terminal until the person detaches. Raises TerminalDriven, LeaseLost, or what a call raises.

    A connection that is lost ends it: keys are never kept for later.
    """
    local_terminal.check()
    with connect(context, tenant=tenant) as connection:
        attachment = _Attachment(connection, address, take)
        picture = NewestPicture(attachment.frames)
        picture.start()
        if attachment.former:
            output.say(f"taken over from {attachment.former}")
        try:
            with local_terminal.lent(picture.poke) as terminal:
                _drive(address, attachment, picture, terminal)
        finally:
            attachment.detach()
        if picture.error is not None:
            raise picture.error
    output.say(f"detached from {address}; it runs on")


def _drive(address: str, attachment: _Attachment, picture: NewestPicture, terminal: LocalTerminal) -> None:
    assert terminal.keyboard is not None
    renewed = time.monotonic()
    while not picture.ended:
        rows, status = picture.now()
        size = terminal.size
        bar = bar_text(address, status, size, lost="", how="Ctrl-] detaches")
        terminal.show(*draw(rows, status, size, bar), size)
        left = max(0.0, renewed + RENEW_SECONDS - time.monotonic())
        ready, _, _ = select.select([picture.wake, terminal.keyboard], [], [], left)
        picture.drain()
        if terminal.keyboard in ready:
            keys, leaves, _ = terminal.keys().partition(DETACH)
            if keys:
                attachment.put(pb.AttachInput(keys=keys))
            if leaves or not keys:
                return
        if time.monotonic() - renewed >= RENEW_SECONDS:
            renewed = time.monotonic()
            attachment.put(pb.AttachInput(renew=pb.RenewLease()))


class _Attachment:
    """The call. `former`: from whom the lease was taken over."""

    def __init__(self, connection: Connection, address: str, take: bool) -> None:
        self._connection = connection
        self._inputs: queue.Queue[pb.AttachInput | None] = queue.Queue(_WAITING)
        self._ask = pb.AttachAsk(tenant=connection.tenant, address=address, take=take)
        self._leaving = False
        self.former = ""

    def put(self, given: pb.AttachInput) -> None:
        """Send; blocks, as a slow terminal does, while the network takes nothing."""
        self._inputs.put(given)

    def detach(self) -> None:
        """Give the lease back. Returns when the control plane has heard, or a moment later."""
        self._leaving = True
        self._inputs.put(None)

    def frames(self, _on_loss: Callable[[Unreachable], None]) -> Iterator[pb.TerminalFrame]:
        """Yield pictures until the attachment ends."""
        call = self._connection.terminals.Attach(self._given())
        try:
            for out in call:
                if out.WhichOneof("output") == "frame":
                    yield out.frame
                elif out.lease.former:
                    self.former = out.lease.former
        except grpc.RpcError as error:
            if not self._leaving:
                raise self._connection.failure(error, "") from error
        finally:
            call.cancel()

    def _given(self) -> Iterator[pb.AttachInput]:
        yield pb.AttachInput(ask=self._ask)
        while (given := self._inputs.get()) is not None:
            yield given
