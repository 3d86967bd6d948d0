"""gRPC's health service, with the method that the library's own servicer lacks."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio


class HealthService(aio.HealthServicer):  # type: ignore[misc]
    """Says of "alive", "ready" and "" (as `ready`) whether they hold. Policy: policy.yaml."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, int] = {}

    async def set(self, service: str, status: int) -> None:
        """Say from now on that `service` is `status`; who watches it is told."""
        self._told[service] = status
        await super().set(service, status)

    async def List(self, _request: health_pb2.HealthListRequest, _context: Any) -> health_pb2.HealthListResponse:
        return health_pb2.HealthListResponse(
            statuses={name: health_pb2.HealthCheckResponse(status=status) for name, status in self._told.items()}
        )
