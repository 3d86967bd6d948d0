"""What operators ask of a host-agent: is it alive, is it ready, and how much of everything is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.health import HealthServer, Pulse, health_of, tell_address
from mosaic_framework.paths import Home

from mosaic_hostagent.config import Config
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.metrics import Metrics
from mosaic_hostagent.residents import Resident

PROGRAM = "hostagent"

log = structlog.get_logger(__name__)


class Observing:
    """Health and metrics of one host-agent. It is ready while its link is up: `linked`."""

    def __init__(
        self, metrics: Metrics, journal: Journal, residents: Mapping[str, Resident], *, linked: Callable[[], bool]
    ) -> None:
        self._metrics = metrics
        self._journal = journal
        self._residents = residents
        self.pulse = Pulse()
        health = health_of(self.pulse, lambda: "" if linked() else "there is no link to the control plane")
        self._server = HealthServer(metrics.registry, health, refresh=self._refresh)

    def start(self, home: Home, config: Config) -> None:
        """Serve health and metrics over HTTP, unless that is off. Raises PortInUse."""
        if config.metrics_port == "off":
            return
        address = self._server.start(config.metrics_port)
        tell_address(home, PROGRAM, address)
        log.info("health and metrics are served", address=address)

    async def run(self) -> None:
        """Watch the event loop until cancelled."""
        await self.pulse.run()

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()

    async def _refresh(self) -> None:
        """Ask the journal; what was known before stands when it cannot be read."""
        try:
            events, messages, runs = await self._journal.waiting()
        except FleetError as error:
            log.info("the journal gave no figures", code=error.code, why=error.why)
            return
        states = [resident.state.state for resident in self._residents.values()]
        self._metrics.take(states=states, events=events, messages=messages, runs=runs)
