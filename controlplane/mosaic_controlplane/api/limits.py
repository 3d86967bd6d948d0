"""How much one caller may ask for at once: calls a second, calls and streams under way. Of this replica alone.

What is refused here had no effect, and the refusal says when it may be tried again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc.aio
from mosaic_framework.errors import (
    Denied,
    FleetError,
    LimitReached,
    NotAuthenticated,
    Overloaded,
    TooManyCalls,
    TooManyStreams,
)

from mosaic_controlplane.config import Settings
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.pace import PerPeer
from mosaic_controlplane.metrics import Metrics

CALLERS = 20_000  # whose pace is remembered
REFUSALS_PER_SECOND = 5.0  # of one certificate; each costs a look into the register
REFUSALS_BURST = 100
STRAYS_PER_SECOND = 20.0  # refusals of one certificate, whichever pairings it names
STRAYS_BURST = 400
BUSY_SECONDS = 0.5
STREAM_SECONDS = 5.0


class Limits:
    """Counts what is under way. Use one for one replica."""

    def __init__(self, settings: Settings | None = None, metrics: Metrics | None = None) -> None:
        self._settings = settings or Settings()
        self._metrics = metrics or Metrics()
        self._pace = PerPeer(
            rate=self._settings.limit_calls_per_second, burst=self._settings.limit_calls_burst, peers=CALLERS
        )
        self._refusals = PerPeer(rate=REFUSALS_PER_SECOND, burst=REFUSALS_BURST, peers=CALLERS)
        self._strays = PerPeer(rate=STRAYS_PER_SECOND, burst=STRAYS_BURST, peers=CALLERS)
        self._refused: dict[str, Denied] = {}
        self._calls: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._together = 0

    @contextmanager
    def admit(self, caller: Caller, method: str, *, stream: bool) -> Iterator[None]:
        """Count a call while the block runs. Raises TooManyCalls, TooManyStreams or Overloaded before it begins."""
        try:
            self._check(caller.key, stream=stream)
        except LimitReached as error:
            self._metrics.limited(type(error).code)
            raise
        under_way = self._streams if stream else self._calls
        under_way[caller.key] += 1
        self._together += not stream
        outcome = "ok"
        try:
            with self._metrics.call(method, stream=stream):
                yield
        except FleetError as error:
            outcome = type(error).code
            raise
        except grpc.aio.AbortError:
            outcome = "aborted"
            raise
        except Exception:
            outcome = "internal"
            raise
        except BaseException:  # cancelled: the caller has gone, or the replica stops
            outcome = "cancelled"
            raise
        finally:
            self._metrics.answered(method, outcome)
            self._together -= not stream
            under_way[caller.key] -= 1
            if not under_way[caller.key]:
                del under_way[caller.key]

    def knock(self, leaf_pem: bytes, pairing: str = "") -> None:
        """Raise what a certificate was refused with last, when it was over and over just now: no register is asked.

        One certificate of another cluster speaks for several pairings, of which only one may be over. One that makes
        pairings up is told TooManyCalls, for a pairing that stands must not seem to be over.
        """
        name = _digest(leaf_pem, pairing)
        if name in self._refused:
            if self._refusals.wait(name) > 0:
                self._metrics.limited(TooManyCalls.code)
                raise _anew(self._refused[name])
            del self._refused[name]
        if pairing and (wait := self._strays.wait(_digest(leaf_pem))) > 0:
            self._metrics.limited(TooManyCalls.code)
            raise TooManyCalls.until(seconds=wait, why="it names many pairings that are refused")

    def refused(self, leaf_pem: bytes, error: Denied, pairing: str = "") -> None:
        """Count a call that was refused for who makes it."""
        self._metrics.refused(type(error).code)
        if not isinstance(error, NotAuthenticated):
            return  # an agent whose session is over must not shut out the host that speaks for it
        name = _digest(leaf_pem, pairing)
        if name in self._refused:
            return
        if pairing:
            self._strays.take(_digest(leaf_pem))
        if not self._refusals.take(name):
            self._refused[name] = _anew(error)
            while len(self._refused) > CALLERS:
                del self._refused[next(iter(self._refused))]

    def _check(self, key: str, *, stream: bool) -> None:
        settings = self._settings
        if not self._pace.take(key):
            raise TooManyCalls.until(
                seconds=self._pace.wait(key), why=f"it may make {settings.limit_calls_per_second:g} a second"
            )
        if stream:
            if self._streams[key] >= settings.limit_streams:
                raise TooManyStreams.until(seconds=STREAM_SECONDS, why=f"{settings.limit_streams:,} are open")
        elif self._calls[key] >= settings.limit_calls_at_once:
            raise TooManyCalls.until(
                "this caller has too many calls under way",
                seconds=BUSY_SECONDS,
                why=f"{settings.limit_calls_at_once:,} have not been answered yet",
            )
        elif self._together >= settings.limit_calls_together:
            raise Overloaded.until(seconds=BUSY_SECONDS, why=f"{settings.limit_calls_together:,} calls are under way")


def _anew(error: Denied) -> Denied:
    """Return the same error without where it was raised, which leads to the call and to its request."""
    return type(error)(error.what, why=error.why, next_step=error.next_step, details=dict(error.details))


def _digest(leaf_pem: bytes, pairing: str = "") -> str:
    return hashlib.sha256(leaf_pem + b"\0" + pairing.encode()).hexdigest()
