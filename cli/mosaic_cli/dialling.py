"""Which replica a command speaks to: the first that answers and serves."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence

import grpc
from mosaic_framework import wire
from mosaic_framework.errors import Unreachable
from mosaic_framework.identity_files import StoredIdentity

_SERVES_WITHIN = 1.0
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

_News = queue.SimpleQueue[tuple[int, grpc.ChannelConnectivity]]


def first_that_serves(identity: StoredIdentity, addresses: Sequence[str], *, within: float) -> grpc.Channel:
    """Return a channel to the first replica that answers and is ready to serve, or after `within` seconds to any.

    With one address, or none that answers, simply to the first: the first call then says why it cannot be reached,
    which a channel's state does not.
    """
    channels = [wire.channel(identity, address) for address in addresses]
    if not channels:
        raise Unreachable("this context has no address", next_step="mosaic login")
    if len(channels) == 1:
        return channels[0]
    news: _News = queue.SimpleQueue()
    for index, channel in enumerate(channels):
        channel.subscribe(_teller(news, index), try_to_connect=True)
    chosen, failed, deadline = 0, set[int](), time.monotonic() + within
    while len(failed) < len(channels):
        try:
            index, state = news.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            break
        if state is grpc.ChannelConnectivity.READY and index not in failed:
            chosen = index
            if _serves(channels[index]):
                break
            failed.add(index)
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            failed.add(index)
    for index, channel in enumerate(channels):
        if index != chosen:
            channel.close()
    return channels[chosen]


def _serves(channel: grpc.Channel) -> bool:
    """Whether a replica that answers also serves: one that has lost its register, or is about to stop, does not."""
    from grpc_health.v1 import health_pb2
    from grpc_health.v1.health_pb2_grpc import HealthStub

    try:
        reply = HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_SERVES_WITHIN)
    except grpc.RpcError as error:
        return error.code() not in _AWAY  # whatever else it says, the call itself is told, and says it better
    return bool(reply.status != health_pb2.HealthCheckResponse.NOT_SERVING)


def _teller(news: _News, index: int) -> Callable[[grpc.ChannelConnectivity], None]:
    return lambda state: news.put((index, state))
