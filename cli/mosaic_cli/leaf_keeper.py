"""Keeps the leaf of a login young while a command runs, and what the command has open along with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from mosaic_framework.errors import FleetError, Unreachable
from mosaic_framework.identity_files import StoredIdentity

from mosaic_cli import output

if TYPE_CHECKING:
    from mosaic_proto.v1 import identity_pb2 as pb

_ANSWER_WITHIN = 3.0
_LONGEST_WAIT = 60.0  # a machine that was suspended finds its leaf old when it wakes up


@dataclass(frozen=True, slots=True)
class Open:
    """A channel, and the certificate (PEM) that it was opened with."""

    channel: grpc.Channel
    certificate_pem: bytes


class LeafKeeper:
    """Renews at half of the leaf's life, in a thread. `opened`: what the command uses now; `took` hears of a new leaf.

    What goes wrong is told once: the command goes on as long as the present leaf does.
    """

    def __init__(
        self,
        folder: Path,
        identity: StoredIdentity,
        *,
        opened: Callable[[], Open],
        took: Callable[[StoredIdentity], None],
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._opened = opened
        self._took = took
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leaf-keeper", daemon=True)
        self._told = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a renewal that is under way is waited for, so that its leaf is not lost."""
        self._stopped.set()
        self._thread.join(_ANSWER_WITHIN + 0.5)

    def _run(self) -> None:
        pause = 0.0
        while True:
            due_in = pause or _seconds_until(self._identity.renew_at)
            if due_in > 0 and self._stopped.wait(min(due_in, _LONGEST_WAIT)):
                return
            if not self._identity.due():
                pause = 0.0
                continue
            try:
                self._renew()
                pause = 0.0
            except (FleetError, OSError, ValueError) as error:  # ValueError: gRPC's word for a channel closed meanwhile
                pause = self._failed(error)
            if self._stopped.is_set():
                return

    def _renew(self) -> None:
        from mosaic_framework import renewal

        fresh = renewal.renewed(self._folder, self._identity, self._ask)
        if fresh.identity_id != self._identity.identity_id:
            self._stopped.set()  # somebody else has logged in there meanwhile: this command is of the one before
            return
        self._identity = fresh
        self._took(fresh)
        opened = self._opened()
        if not self._stopped.is_set() and opened.certificate_pem != fresh.certificate_pem:
            self._present(opened, fresh)

    def _ask(self, request: pb.RenewLeafRequest) -> pb.RenewLeafReply:
        from mosaic_framework import wire
        from mosaic_proto.v1.identity_pb2_grpc import IdentityServiceStub

        try:
            return IdentityServiceStub(self._opened().channel).Renew(request, timeout=_ANSWER_WITHIN)
        except grpc.RpcError as error:
            raise wire.error_from_rpc(error) from error

    def _present(self, opened: Open, fresh: StoredIdentity) -> None:
        from mosaic_framework import renewal, wire
        from mosaic_proto.v1.identity_pb2_grpc import IdentityServiceStub

        request = renewal.presentation(opened.certificate_pem, fresh)
        try:
            IdentityServiceStub(opened.channel).Present(request, timeout=_ANSWER_WITHIN)
        except grpc.RpcError as error:
            raise wire.error_from_rpc(error) from error

    def _failed(self, error: Exception) -> float:
        """Tell of a failure once, and return for how long to wait. Who cannot be reached is told by the command."""
        from mosaic_framework import renewal

        # One of gRPC's own words, without a kind of ours: a control plane of before there was renewal.
        expected = isinstance(error, Unreachable) or type(error) is FleetError
        if not self._told and isinstance(error, FleetError) and not expected:
            self._told = True
            until = f"{self._identity.not_after.astimezone():%Y-%m-%d %H:%M}"
            output.say(f"the login of {self._identity.name} cannot be renewed: {error.what}; it is good until {until}")
        return renewal.pause_after_failure(self._identity)


def _seconds_until(moment: datetime | None) -> float:
    return (moment - datetime.now(UTC)).total_seconds() if moment is not None else 0.0
