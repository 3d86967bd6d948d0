"""How often something may happen. Pure but for the clock it is given."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial


class Bucket:
    """Lets `burst` through at once and `rate` a second after that."""

    def __init__(self, *, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()

    def take(self) -> bool:
        """Say whether one more may happen now, and count it if so."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait(self) -> float:
        """Return the seconds until `take` says yes again; an hour for a bucket that never fills."""
        lacking = max(0.0, 1 - self._left - (self._clock() - self._at) * self._rate)
        return min(3600.0, lacking / self._rate) if self._rate else 3600.0


class PerPeer:
    """A bucket for each peer, so that one who floods does not shut out the others. Forgets the longest silent ones."""

    def __init__(
        self, *, rate: float, burst: int, peers: int = 1024, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = partial(Bucket, rate=rate, burst=burst, clock=clock)
        self._peers = peers
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, peer: str) -> bool:
        """Say whether this peer may have one more, and count it if so."""
        bucket = self._buckets.pop(peer, None) or self._make()
        self._buckets[peer] = bucket
        if len(self._buckets) > self._peers:
            self._buckets.popitem(last=False)
        return bucket.take()

    def wait(self, peer: str) -> float:
        """Return the seconds until `take` says yes to this peer again."""
        bucket = self._buckets.get(peer)
        return bucket.wait() if bucket is not None else 0.0
