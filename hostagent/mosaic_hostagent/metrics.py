"""What a host-agent tells Prometheus of itself. Each metric's meaning for an operator: docs/metrics.md.

No label holds anything that a roster, a message or a caller chose.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable

from mosaic_framework import __version__
from mosaic_framework.health import Pulse
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from mosaic_hostagent.readiness import AgentState


class Metrics:
    """All metrics of one host-agent, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made = self.registry
        ProcessCollector(namespace="mosaic_host", registry=made)
        info = Gauge("mosaic_host_build", "Always 1; the label says which version runs", ["version"], registry=made)
        info.labels(__version__).set(1)
        self._link = Gauge("mosaic_host_link_up", "Whether the link to the control plane is up", registry=made)
        self._dials = Gauge("mosaic_host_link_dials", "How often the link was dialled", registry=made)
        self._claims = Gauge("mosaic_host_claims", "Claims that the runs of this host hold", registry=made)
        self._views = Gauge("mosaic_host_terminal_views", "Terminals that somebody watches", registry=made)
        self._seats = Gauge("mosaic_host_seats", "Seats, by what they do", ["state"], registry=made)
        self._events = Gauge(
            "mosaic_host_journal_events_waiting", "Facts that the register has not acknowledged", registry=made
        )
        self._messages = Gauge(
            "mosaic_host_messages_waiting", "Messages in the journal that wait to be typed", registry=made
        )
        self._runs = Gauge("mosaic_host_runs", "Runs that have begun and not ended", registry=made)
        self._pane_calls = Gauge("mosaic_host_pane_calls_under_way", "Calls from panes under way", registry=made)
        self._calls = Counter("mosaic_host_pane_calls", "Calls from panes that have ended", ["outcome"], registry=made)
        self._reporters = Gauge("mosaic_host_reporters", "Hooks that are being answered", registry=made)
        self._reports = Counter("mosaic_host_reports", "Reports of hooks", ["outcome"], registry=made)
        self._lag = Gauge("mosaic_host_loop_lag_seconds", "How late the event loop was last", registry=made)
        self._tasks = Gauge("mosaic_host_tasks", "Tasks of the event loop", registry=made)

    def called(self, outcome: str) -> None:
        """Count a call from a pane that has ended: the status it ended with."""
        self._calls.labels(outcome).inc()

    def reported(self, outcome: str) -> None:
        """Count a report: taken, later, refused, or unfinished."""
        self._reports.labels(outcome).inc()

    def follow(
        self,
        *,
        link_up: Callable[[], bool],
        dials: Callable[[], int],
        claims: Callable[[], int],
        views: Callable[[], int],
        pane_calls: Callable[[], int],
        reporters: Callable[[], int],
        pulse: Pulse,
    ) -> None:
        """Take these figures at each scrape. They are asked in the scraper's thread."""
        self._link.set_function(link_up)
        self._dials.set_function(dials)
        self._claims.set_function(claims)
        self._views.set_function(views)
        self._pane_calls.set_function(pane_calls)
        self._reporters.set_function(reporters)
        self._lag.set_function(lambda: pulse.lag)
        self._tasks.set_function(lambda: pulse.tasks)

    def take(self, *, states: Iterable[AgentState], events: int, messages: int, runs: int) -> None:
        """Take what the seats and the journal say."""
        found = Count(states)
        for state in AgentState:
            self._seats.labels(state.value).set(found[state])
        self._events.set(events)
        self._messages.set(messages)
        self._runs.set(runs)
