"""How often strangers are listened to: those who want to join, with or without a token."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mosaic_framework.errors import TooManyAttempts

from mosaic_controlplane.config import Settings
from mosaic_controlplane.identity.pace import Bucket, PerPeer

AT_ONCE = 4  # so that joiners never hold more than half of the register's connections
WAITING = 64  # joiners that wait for a place; to more it is said when to come again
WAIT_SECONDS = 2.0

_WHAT = "too many attempts to join at once"


class Admission:
    """Bounds what an address, and all of them together, may ask of the enrolment listener's services."""

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        each, together = settings.limit_enrolments_per_address, settings.limit_enrolments_per_second
        self._per_peer = PerPeer(rate=each, burst=max(1, round(2 * each)))
        self._together = Bucket(rate=together, burst=max(1, round(2 * together)))
        self._waiting = 0
        self._places = asyncio.Semaphore(AT_ONCE)

    def knock(self, peer: str) -> None:
        """Count an attempt of `peer` (address and port). Raises TooManyAttempts."""
        place = neighbourhood(peer)
        if not self._per_peer.take(place):
            raise TooManyAttempts.until(_WHAT, seconds=self._per_peer.wait(place), why=f"they come from {place}")
        if not self._together.take():
            raise TooManyAttempts.until(_WHAT, seconds=self._together.wait(), why="they come from many addresses")
        if self._waiting >= WAITING:
            raise TooManyAttempts.until(_WHAT, seconds=WAIT_SECONDS, why=f"{self._waiting} wait to be looked at")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for one of the few places from which the register is asked."""
        self._waiting += 1
        try:
            async with self._places:
                yield
        finally:
            self._waiting -= 1


def neighbourhood(peer: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 from which an IPv6 machine takes its own."""
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
