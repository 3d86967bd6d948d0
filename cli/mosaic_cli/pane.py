"""The connection from inside a pane: through the host-agent of this machine, as the agent that sits there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from mosaic_framework import pane, wire
from mosaic_framework.errors import FleetError, Unreachable
from mosaic_framework.pane import Pane
from mosaic_proto.v1 import fleet_pb2

from mosaic_cli.client import Connection
from mosaic_cli.context import Context


class PaneConnection(Connection):
    """Calls to the cluster of this host, as the agent of this pane. It has no login and needs none."""

    def __init__(self, seat: Pane, *, tenant: str = "") -> None:
        self._pane = seat
        self._told: fleet_pb2.GetClusterReply | None = None
        super().__init__(Context(f"agent {seat.agent}", (seat.socket,), "", tenant=""), None, tenant=tenant)

    @property
    def trust_domain(self) -> str:
        """The cluster's trust domain."""
        return self._ask().trust_domain

    @property
    def cluster(self) -> str:
        """The cluster's alias."""
        return self._ask().cluster

    def _ask(self) -> fleet_pb2.GetClusterReply:
        """Ask which cluster this is, once."""
        if self._told is None:
            self._told = self.call(self.fleet.GetCluster, fleet_pb2.GetClusterRequest())
        return self._told

    @property
    def is_local(self) -> bool:
        """Whether this machine's own `mosaic up` runs the control plane: an agent cannot know, nor mend it."""
        return False

    def unreachable(self, told: FleetError, status: grpc.StatusCode) -> Unreachable:
        """Return the error for a host-agent that is down, or that has lost the control plane."""
        if isinstance(told, Unreachable) and type(told) is not Unreachable:
            return told
        if told.why.lower().startswith("failed to connect"):
            return Unreachable(
                "the host-agent of this machine does not answer",
                why=f"nothing listens at {self._pane.socket}",
                next_step="the agent can go on; a person can run: mosaic status",
                details=told.details,
            )
        found = super().unreachable(told, status)
        found.what = "the control plane cannot be reached through this host"
        found.next_step = "the agent can go on; try again in a moment"
        return found

    def _channel_to_control_plane(self) -> grpc.Channel:
        return grpc.intercept_channel(wire.pane_channel(self._pane.socket), _WithToken(self._pane.token))


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _WithToken(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Says with each call which session it comes from."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_stream_unary(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(self._with_token(details), requests)

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(self._with_token(details), requests)

    def _with_token(self, details: Any) -> _Details:
        metadata = [*(details.metadata or ()), (pane.TOKEN_KEY, self._token)]
        return _Details(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )
