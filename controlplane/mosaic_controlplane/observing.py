"""What operators ask of a replica: is it alive, is it ready, and how much of everything is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from grpc_health.v1 import health_pb2
from mosaic_framework.health import Health, HealthServer, Pulse, health_of, tell_address
from mosaic_framework.paths import Home

from mosaic_controlplane.config import Settings
from mosaic_controlplane.mesh.liveness import AWAY_SECONDS
from mosaic_controlplane.metrics import Metrics
from mosaic_controlplane.register.database import Database, RegisterUnreachable
from mosaic_controlplane.register.figures import figures

PROGRAM = "controlplane"
LOOK_SECONDS = 0.5
REGISTER_SECONDS = 2.0
ALIVE, READY = "alive", "ready"
"""What gRPC's health service is asked for; "", the whole, says what `ready` does."""

_STATUS = health_pb2.HealthCheckResponse

log = structlog.get_logger(__name__)


class Observing:
    """Health and metrics of one replica. `register_away` says for how long the register has not answered (seconds)."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        servicer: Any,
        *,
        register_away: Callable[[], float],
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._servicer = servicer
        self._register_away = register_away
        self._serving = False
        self._told: dict[str, bool] = {}
        self.pulse = Pulse()
        self.health: Callable[[], Health] = health_of(self.pulse, self._problem)
        self._server = HealthServer(metrics.registry, self.health, refresh=self._refresh)

    def start(self, home: Home, settings: Settings) -> None:
        """Serve health and metrics over HTTP, unless that is off. Raises PortInUse."""
        if settings.metrics_port == "off":
            return
        address = self._server.start(settings.metrics_port)
        tell_address(home, PROGRAM, address)
        log.info("health and metrics are served", address=address)

    async def serving(self) -> None:
        """The listeners take calls from now on."""
        self._serving = True
        await self._tell()

    async def run(self) -> None:
        """Keep what gRPC's health service says right until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pulse.run())
            tasks.create_task(self._keep_telling())

    async def stopping(self) -> None:
        """No new work is wanted; alive until the process ends."""
        self._serving = False
        await self._servicer.enter_graceful_shutdown()

    def close(self) -> None:
        """Stop serving over HTTP."""
        self._server.stop()

    def _problem(self) -> str:
        if not self._serving:
            return "it is starting or stopping"
        away = self._register_away()
        return f"the register has not answered for {away:.0f} s" if away > AWAY_SECONDS else ""

    async def _keep_telling(self) -> None:
        while True:
            await self._tell()
            await asyncio.sleep(LOOK_SECONDS)

    async def _tell(self) -> None:
        health = self.health()
        for service, good in ((ALIVE, health.alive), (READY, health.ready), ("", health.ready)):
            if self._told.get(service) is not good:
                self._told[service] = good
                await self._servicer.set(service, _STATUS.SERVING if good else _STATUS.NOT_SERVING)
                if service == READY and self._serving:
                    log.warning("readiness changed", ready=good, why=health.why)

    async def _refresh(self) -> None:
        """Ask the register for its figures; those before stand when it does not answer."""
        try:
            async with asyncio.timeout(REGISTER_SECONDS), self._database.connection() as connection:
                self._metrics.take_figures(await figures(connection))
        except (RegisterUnreachable, TimeoutError) as error:
            log.info("the register gave no figures", why=str(error))
