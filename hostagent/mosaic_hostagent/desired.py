"""The last desired state that the control plane sent, kept on disk so that a restart without it still supervises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog
from mosaic_framework.desired_state import FILE, DesiredStateUnusable, pack, read_desired
from mosaic_framework.errors import FleetError
from mosaic_proto.v1 import host_link_pb2

from mosaic_hostagent.seats import Seat
from mosaic_hostagent.storage import write_state

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that should be on this host, at one generation of it."""

    generation: int
    seats: dict[str, Seat]

    @classmethod
    def from_wire(cls, state: host_link_pb2.DesiredState) -> Desired:
        """Return what the control plane sent. A seat that this host can make no sense of is left out, and told."""
        seats = {}
        for wanted in state.seats:
            try:
                seats[wanted.agent_id] = Seat.from_wire(wanted, state.briefing)
            except FleetError as error:
                log.error("a seat was refused", agent=wanted.agent_id, why=error.why)
        return cls(state.generation, seats)


class DesiredFile:
    """`state/desired.binpb`, of one host identity."""

    def __init__(self, folder: Path, *, host_id: str) -> None:
        self._folder = folder
        self._host_id = host_id

    def save(self, state: host_link_pb2.DesiredState) -> None:
        """Replace the file; on disk when this returns. Raises StateUnwritable."""
        write_state(self._folder / FILE, pack(state, host_id=self._host_id))

    def load(self) -> host_link_pb2.DesiredState | None:
        """Return the last state, or None when there is none of this identity. Damage is told, and counts as none."""
        try:
            return read_desired(self._folder, host_id=self._host_id)
        except DesiredStateUnusable as error:
            log.error("the desired state on disk is not used", why=error.what)
            return None
