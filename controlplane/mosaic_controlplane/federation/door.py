"""Calls at another cluster's enrolment listener, where nobody is asked for a certificate: pairing, and its standing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from mosaic_framework import wire
from mosaic_framework.errors import FleetError, NotLoggedIn, Unreachable
from mosaic_proto.v1.federation_pb2_grpc import PairingServiceStub

from mosaic_controlplane.federation.errors import BadPairing

if TYPE_CHECKING:
    from mosaic_proto.v1.federation_pb2_grpc import PairingServiceAsyncStub

Reply = TypeVar("Reply")


async def at_door(
    addresses: Sequence[str],
    bundle: bytes,
    ask: Callable[[PairingServiceAsyncStub, float], Awaitable[Reply]],
    *,
    seconds: float,
) -> Reply:
    """Return what the first of `addresses` that answers says; `bundle` (PEM) are the roots its certificate must be by.

    `ask` makes the call, with the seconds it may take. A refusal is an answer, and is raised as what it was there.
    Raises Unreachable when nobody answers within `seconds`, BadPairing when only others do than whom we look for.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    failure: FleetError = Unreachable(why="it has told no address to reach it at")
    for position, address in enumerate(addresses):
        share = max(0.1, (until - loop.time()) / (len(addresses) - position))
        credentials = grpc.ssl_channel_credentials(root_certificates=bundle)
        async with grpc.aio.secure_channel(address, credentials, options=wire.client_options()) as channel:
            try:
                return await ask(PairingServiceStub(channel), share)
            except grpc.RpcError as error:
                failure = wire.error_from_rpc(error)
                if type(failure) not in (Unreachable, NotLoggedIn):
                    raise failure from error
    if isinstance(failure, NotLoggedIn):
        raise BadPairing(
            f"the server at {', '.join(addresses)} is not of the cluster that it is taken for",
            why="its certificate is not by an authority that is known of that cluster",
        ) from failure
    raise Unreachable(
        f"no control plane answers at {', '.join(addresses) or 'no address'}",
        why=failure.why,
        next_step="check that it runs (mosaic status, there) and that this machine can reach it, then run this again",
    ) from failure
