"""What a replica tells Prometheus of itself. Each metric's meaning for an operator: docs/metrics.md.

No label holds anything that a caller chose: methods are those of the contract, codes those of our errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mosaic_framework import __version__
from mosaic_framework.health import Pulse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

if TYPE_CHECKING:
    from mosaic_controlplane.register.figures import Figure

_CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """All metrics of one replica, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made = self.registry
        ProcessCollector(namespace="mosaic", registry=made)
        info = Gauge("mosaic_build", "Always 1; the label says which version runs", ["version"], registry=made)
        info.labels(__version__).set(1)

        self._calls = Counter(
            "mosaic_calls", "Calls that were admitted and have ended", ["method", "outcome"], registry=made
        )
        self._refused = Counter(
            "mosaic_calls_refused", "Calls that were refused for who made them", ["code"], registry=made
        )
        self._limited = Counter("mosaic_calls_limited", "Calls that were refused by a limit", ["limit"], registry=made)
        self._seconds = Histogram(
            "mosaic_call_seconds",
            "How long calls that are no streams took",
            ["method"],
            buckets=_CALL_BUCKETS,
            registry=made,
        )
        self._under_way = Gauge("mosaic_calls_under_way", "Calls that wait for their answer", registry=made)
        self._streams = Gauge("mosaic_streams", "Streams that are open", ["method"], registry=made)
        self._enrolments = Counter("mosaic_enrolments", "Attempts to join", ["outcome"], registry=made)

        self._links = Gauge("mosaic_links", "Hosts whose link this replica holds", registry=made)
        self._beats = Gauge("mosaic_beats_waiting", "Beats that wait to be written", registry=made)
        self._down = Gauge("mosaic_link_down_frames", "Frames that wait to be sent to hosts", registry=made)
        self._up = Gauge("mosaic_link_up_frames", "Frames of hosts that wait to be written", registry=made)
        self._views = Gauge("mosaic_terminal_views", "Terminals that hosts show here", registry=made)
        self._waiters = Gauge("mosaic_wake_waiters", "Who waits here to be woken", registry=made)
        self._wakes = Gauge("mosaic_wakes_to_tell", "Wakes that wait to be told", registry=made)

        self._pool = Gauge(
            "mosaic_register_connections", "Connections of the register's pool", ["state"], registry=made
        )
        self._away = Gauge("mosaic_register_away_seconds", "For how long the register has not answered", registry=made)
        self._stall = Gauge(
            "mosaic_cursor_stall_seconds", "For how long an open transaction has held watchers back", registry=made
        )
        self._fresh = Gauge(
            "mosaic_register_figures_age_seconds", "How old the figures from the register are", registry=made
        )
        self._lag = Gauge("mosaic_loop_lag_seconds", "How late the event loop was last", registry=made)
        self._tasks = Gauge("mosaic_tasks", "Tasks of the event loop", registry=made)

        self._of_register = {
            "hosts": Gauge("mosaic_hosts", "Hosts, by state", ["state"], registry=made),
            "agents": Gauge(
                "mosaic_agents", "Agents that the roster wants, by the state told last", ["state"], registry=made
            ),
            "messages": Gauge(
                "mosaic_messages_open",
                "Messages that were not seen to be submitted yet, by step",
                ["step"],
                registry=made,
            ),
            "message_age": Gauge(
                "mosaic_message_oldest_seconds", "Age of the oldest message at that step", ["step"], registry=made
            ),
            "cards": Gauge("mosaic_cards", "Cards that are not done, by status", ["status"], registry=made),
            "leases": Gauge(
                "mosaic_card_leases", "Claims, by whether their lease is live or over", ["state"], registry=made
            ),
            "peers": Gauge("mosaic_peers", "Pairings that stand, by the peer's health", ["state"], registry=made),
            "peer_age": Gauge(
                "mosaic_peer_bookmark_oldest_seconds",
                "Age of the oldest last bookmark of peers in that state",
                ["state"],
                registry=made,
            ),
            "outbox": Gauge(
                "mosaic_outbox_messages",
                "Messages to agents of peers that are not handed over",
                ["state"],
                registry=made,
            ),
            "outbox_age": Gauge(
                "mosaic_outbox_oldest_seconds", "Age of the oldest message in that state", ["state"], registry=made
            ),
        }
        self._known: dict[tuple[str, str], None] = {}
        self._figures_at = time.monotonic()
        self._fresh.set_function(lambda: time.monotonic() - self._figures_at)

    @contextmanager
    def call(self, method: str, *, stream: bool) -> Iterator[None]:
        """Count a call as under way while the block runs, and time it when it is no stream."""
        if stream:
            with self._streams.labels(method).track_inprogress():
                yield
        else:
            with self._under_way.track_inprogress(), self._seconds.labels(method).time():
                yield

    def answered(self, method: str, outcome: str) -> None:
        """Count a call that has ended: ok, or the error's code."""
        self._calls.labels(method, outcome).inc()

    def refused(self, code: str) -> None:
        """Count a call that was refused for who made it."""
        self._refused.labels(code).inc()

    def limited(self, limit: str) -> None:
        """Count a call that a limit refused."""
        self._limited.labels(limit).inc()

    def enrolled(self, outcome: str) -> None:
        """Count an attempt to join: done, or the error's code."""
        self._enrolments.labels(outcome).inc()

    def follow(
        self,
        *,
        links: Callable[[], int],
        beats: Callable[[], int],
        down: Callable[[], int],
        up: Callable[[], int],
        views: Callable[[], int],
        waiters: Callable[[], int],
        wakes: Callable[[], int],
        pool: Callable[[], tuple[int, int]],
        away: Callable[[], float],
        stall: Callable[[], float],
        pulse: Pulse,
    ) -> None:
        """Take these figures at each scrape. `pool`: (in use, idle). They are asked in the scraper's thread."""
        self._links.set_function(links)
        self._beats.set_function(beats)
        self._down.set_function(down)
        self._up.set_function(up)
        self._views.set_function(views)
        self._waiters.set_function(waiters)
        self._wakes.set_function(wakes)
        self._pool.labels("used").set_function(lambda: pool()[0])
        self._pool.labels("idle").set_function(lambda: pool()[1])
        self._away.set_function(away)
        self._stall.set_function(stall)
        self._lag.set_function(lambda: pulse.lag)
        self._tasks.set_function(lambda: pulse.tasks)

    def take_figures(self, figures: list[Figure]) -> None:
        """Take what the register says; what it says no more is 0."""
        told = {(figure.name, figure.label): figure.value for figure in figures}
        self._known.update(dict.fromkeys(told))
        for name, label in self._known:
            self._of_register[name].labels(label).set(told.get((name, label), 0))
        self._figures_at = time.monotonic()
