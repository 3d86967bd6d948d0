"""One link of a host, as its replica holds it: what the host said, how frames go down, who waits for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from mosaic_framework.errors import FleetError, Unreachable

from mosaic_controlplane.register.agent import DesiredSeat
from mosaic_controlplane.register.host import LinkKey
from mosaic_controlplane.register.message import Offer
from mosaic_controlplane.register.runtime_update import WantedUpdate


class HostNotHere(Unreachable):
    """The host has no link to this control plane."""

    code = "host-unreachable"
    hint = "mosaic host ls"


class NoExplanation(FleetError):
    """The host cannot explain this seat."""

    code = "no-explanation"


class TerminalUnavailable(FleetError):
    """The terminal cannot be shown."""

    code = "terminal-unavailable"


@dataclass(frozen=True, slots=True)
class HelloFacts:
    """What a host says of itself when it dials."""

    journal_id: UUID
    journal_epoch: int
    journal_sequence: int | None
    """None: a host-agent that does not tell"""
    version: str
    machine: str
    observed_generation: int


@dataclass(slots=True)
class Downward:
    """How the api pushes frames to one host. Each function returns when the frame is in the stream's queue."""

    desired: Callable[[int, list[DesiredSeat], bytes], Awaitable[None]]
    dispatch: Callable[[Offer], Awaitable[None]]
    cancel: Callable[[UUID], Awaitable[None]]
    capture: Callable[[str, UUID, int], Awaitable[None]]
    explain: Callable[[str, UUID], Awaitable[None]]
    open_view: Callable[[str, UUID, bool], Awaitable[None]]
    update: Callable[[WantedUpdate], Awaitable[None]]
    pace: Callable[[timedelta], Awaitable[None]]
    roots: Callable[[bytes], Awaitable[None]]
    replicas: Callable[[Sequence[str]], bool]
    """says whether there was room for it, and does not wait"""


@dataclass(slots=True)
class HeldLink:
    """One live link."""

    key: LinkKey
    host_name: str
    downward: Downward
    capabilities: frozenset[str] = frozenset()
    beat_interval: timedelta = timedelta(seconds=5)
    """what the host was told last"""
    generation: int = -1
    """what the host was told last; below 0: nothing yet"""
    roots: bytes = b""
    """which roots the host was told of last"""
    replicas: frozenset[str] = frozenset()
    """the fleet addresses that the host was told of last"""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    captures: dict[str, asyncio.Future[str]] = field(default_factory=dict)
    explanations: dict[str, asyncio.Future[bytes]] = field(default_factory=dict)
    cancels: frozenset[UUID] = frozenset()
    """asked for under this link already"""
    cut_off: bool = False
    """it ends since this replica is without the register"""
    waiting: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """how many frames wait to go down, and how many that came up wait to be written"""
