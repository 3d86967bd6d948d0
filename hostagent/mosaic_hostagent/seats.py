"""What a seat is: what is wanted of it, and what is seen of it in tmux (pure)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from mosaic_framework.names import check_name
from mosaic_framework.seeding import KEEPS_PERSONA, takes_seed
from mosaic_proto.v1 import fleet_pb2, host_link_pb2, seeding_pb2

DEFAULT_HOLDER = "_holder"
ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A tmux server: its socket name, empty for the user's default one, and our holder session on it."""

    socket_name: str
    holder: str


@dataclass(frozen=True, slots=True)
class Seat:
    """What the register wants of one seat."""

    agent_id: str
    generation: int
    running: bool
    restart: int
    spec: fleet_pb2.SeatSpec
    launch_digest: str
    """sha256 of everything that decides what runs: a running seat of another digest has drifted"""
    briefing: seeding_pb2.Briefing
    """what all seats of the tenant are told"""
    reset: int = 0
    """rises with every reset asked for: a running session of a lower one is reset"""
    reset_way: str = ""
    """how: clear, new, restart, or the runtime's own"""

    @classmethod
    def from_wire(cls, desired: host_link_pb2.DesiredSeat, briefing: seeding_pb2.Briefing) -> Seat:
        """Return the seat of a DesiredSeat. Raises InvalidInput for a hostile name."""
        check_name(desired.spec.name, what="agent")
        return cls(
            agent_id=desired.agent_id,
            generation=desired.generation,
            running=desired.running,
            restart=desired.restart,
            spec=desired.spec,
            launch_digest=_launch_digest(desired.spec, briefing),
            briefing=briefing,
            reset=desired.reset,
            reset_way=desired.reset_way,
        )

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.spec.name

    @property
    def on_demand(self) -> bool:
        """Whether the seat waits to be asked for: it is not started by itself, nor again when it ends."""
        return self.spec.lifecycle == ON_DEMAND

    @property
    def server(self) -> ServerKey:
        """The tmux server on which it belongs."""
        return ServerKey(self.spec.tmux_socket_name, self.spec.tmux_holder_session or DEFAULT_HOLDER)


@dataclass(frozen=True, slots=True)
class Session:
    """A tmux session of ours, as seen. `exit_status` is None while the program lives or when nobody knows it.

    A program that a signal ended has 128 + the signal's number, as a shell would say.
    """

    server: ServerKey
    session_id: str
    name: str
    pane_id: str
    pid: int
    alive: bool
    exit_status: int | None
    agent_id: str
    run_id: str
    generation: int
    restart: int
    launch_digest: str
    model: str = ""
    """the model that its launch was given; "" also for a session of an older host-agent"""
    reset: int = 0
    """the newest reset asked for that it has seen"""

    @property
    def began_ms(self) -> int:
        """When its run was launched, by the wall clock: its id says so."""
        return began_ms(self.run_id)


def began_ms(run_id: str) -> int:
    """Return the milliseconds since 1970 at which a run's id was made."""
    return UUID(run_id).int >> 80


def _launch_digest(spec: fleet_pb2.SeatSpec, briefing: seeding_pb2.Briefing) -> str:
    """Peers are left out: that one came or went is no reason to start the others anew."""
    relevant = fleet_pb2.SeatSpec()
    relevant.CopyFrom(spec)
    # These are words about the seat; they do not change the program that runs in it.
    for field in (
        "alias",
        "host",
        "lifecycle",
        "reports_to",
        "kickstart",
        "reset_between_tasks",
        "labels",
        "role_summary",
    ):
        relevant.ClearField(field)
    if relevant.persistent_persona == KEEPS_PERSONA:
        relevant.ClearField("persistent_persona")
    told = "".join(f"{one.name} {one.digest}\n" for one in briefing.texts)
    if not takes_seed(spec.manifest_json):
        told = ""
        for text in ("contract", "contract_digest", "runtime_notes", "persistent_persona"):
            relevant.ClearField(text)
    content = relevant.SerializeToString(deterministic=True)
    return hashlib.sha256(content + told.encode()).hexdigest()[:32]
