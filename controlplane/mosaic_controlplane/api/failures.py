"""How a failed call ends: a FleetError keeps its code, why and next step; anything else is logged and told as such."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import unquote
from uuid import UUID

import grpc
import grpc.aio
import structlog
from mosaic_framework import wire
from mosaic_framework.errors import FleetError, Internal
from mosaic_framework.ids import new_id

from mosaic_controlplane.identity.origin import REQUEST_KEY

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Told: TypeAlias = Callable[[FleetError], Awaitable[None]]

log = structlog.get_logger(__name__)


def request_id_of(request: Any, context: Context) -> str:
    """Return the id under which this call is logged and told: the caller's if it sent a UUID, else a new one."""
    sent = getattr(request, "request_id", "") or metadata_of(context, REQUEST_KEY)
    try:
        return str(UUID(sent))
    except (ValueError, AttributeError, TypeError):
        return str(new_id())


def metadata_of(context: Context, key: str) -> str:
    """Return one text value of the call's metadata, or ''."""
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return ""


def binary_metadata_of(context: Context, key: str) -> bytes | None:
    """Return one binary value of the call's metadata, or None."""
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, bytes):
            return value
    return None


def peer_address_of(context: Context) -> str:
    """Return the caller's address without its scheme: 127.0.0.1:40000 or [::1]:40000."""
    _, _, address = unquote(context.peer()).partition(":")
    return address


@asynccontextmanager
async def answering(context: Context, *, method: str, request_id: str, told: Told | None = None) -> AsyncIterator[None]:
    """End the call with a status when the block raises. `told` hears of every error before the caller does.

    No traceback ever leaves: what is not a FleetError is logged under the request id, and told as "internal".
    """
    try:
        yield
    except grpc.aio.AbortError:
        raise  # the servicer has ended the call itself
    except FleetError as error:
        if told is not None:
            await told(error)
        await abort(context, error, request_id)
    except Exception:
        log.exception("call failed", method=method, request_id=request_id)
        if told is not None:
            await told(Internal())
        await abort(context, Internal(), request_id)


async def abort(context: Context, error: FleetError, request_id: str) -> None:
    """End the call with the status of `error`; what is lost of it in the status is in the trailing metadata."""
    status, message = wire.error_to_status(error, request_id)
    summary = error.what[:200].encode("ascii", "replace").decode()
    await context.abort(status, summary, trailing_metadata=((wire.ERROR_KEY, message),))


def forgetting(behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    """Return a call's outermost behaviour, so that one that was ended with a status leaves nothing behind.

    gRPC keeps the exception that ended a call with the call, and its traceback leads back to the call: each refusal
    would wait in a circle, with its request and its caller, until Python looks for garbage, which keeps all waiting.
    """

    async def outermost(request: Any, context: Context) -> Any:
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError as ended:
            del request, context
            ended.__context__ = None
            raise ended.with_traceback(None)  # noqa: B904  # there is nothing that it is from any more

    return outermost
