"""What the host-agent asks of whoever starts the programs of its seats. Each seat has exactly one supervisor."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from mosaic_hostagent.seats import ServerKey, Session
from mosaic_hostagent.terminal.server import Launch

SYSTEMD = "systemd"
BUILT_IN = "built-in"
KINDS = (SYSTEMD, BUILT_IN)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a seat is supervised. `enabled`: it comes back when the machine boots, with nobody logged in."""

    kind: str
    unit: str
    enabled: bool


class Supervision(Protocol):
    """Starts what sits in the seats, and sees that it is there again after a crash or a boot.

    The journal knows of a run before `start`; what a supervisor starts by itself is journalled when it is adopted.
    """

    @property
    def restarts(self) -> bool:
        """Whether it starts a crashed seat again by itself, so that nobody else may."""

    async def start(self, launch: Launch, server: ServerKey) -> Session:
        """Start a program in a session of its own, and keep it. Raises FleetError."""

    async def adopt(self, launch: Launch, server: ServerKey) -> None:
        """Keep what runs in the seat already as if `launch` had been started. Raises FleetError."""

    async def renew(self, launch: Launch, server: ServerKey) -> None:
        """Let the next start of a kept seat be this launch. Raises FleetError."""

    async def let_go(self, agent_id: str, *, for_good: bool) -> None:
        """Keep the seat no more, so that its session may be ended. `for_good`: nor after a boot. Raises FleetError."""

    async def keep_only(self, agent_ids: Collection[str]) -> None:
        """Let go for good of every seat but these. Raises FleetError."""

    async def awaited(self, agent_ids: Collection[str]) -> frozenset[str]:
        """Return those of these seats that are about to be started without being asked for. Raises FleetError."""

    def keeps(self, agent_id: str) -> bool:
        """Whether the seat is kept, as far as is known here."""

    def standing(self, agent_id: str, name: str) -> Standing:
        """Return how a seat is supervised."""
