"""Requests that are not what the contract says: told to the caller as such, and never a fault of ours.

gRPC ends a call whose request cannot be decoded as if the server had failed. So decoding never fails here: it gives a
stand-in, for which `well_formed` raises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.api.failures import forgetting

T = TypeVar("T")


class MalformedRequest(InvalidInput):
    """The request is not what the contract says."""

    code = "malformed-request"


class Malformed:
    """Stands for a request that could not be taken. It makes the error anew: one that it kept would lead back to it."""

    def __init__(self, error: Callable[[], MalformedRequest]) -> None:
        self.error = error


_UNDECODABLE = Malformed(
    partial(MalformedRequest, why="it cannot be decoded", next_step="mosaic version; mosaic update")
)


def tolerant(decode: Callable[[bytes], Any] | None, *, streams: bool) -> Callable[[bytes], Any] | None:
    """Return what decodes as `decode` does, and never raises: it returns Malformed for what cannot be taken.

    A request that is no part of a stream is also searched for a NUL in a text, which neither the register nor a program
    can be given. What comes in a stream is bounded where it is used: one bad word must not end a host's link.
    """
    if decode is None:
        return None

    def decoded(content: bytes) -> Any:
        try:
            request = decode(content)
        except (DecodeError, ValueError, RecursionError):
            return _UNDECODABLE
        if not streams and b"\0" in content and isinstance(request, Message) and (name := _with_nul(request)):
            return Malformed(partial(MalformedRequest, f"{name} holds a NUL character", why="no text may"))
        return request

    return decoded


def well_formed(request: T) -> T:
    """Return the request. Raises MalformedRequest when it could not be taken."""
    if isinstance(request, Malformed):
        raise request.error()
    return request


class WellFormed(Generic[T]):
    """A stream's requests. Raises MalformedRequest at the first that could not be taken."""

    def __init__(self, requests: AsyncIterator[T]) -> None:
        self._requests = requests

    def __aiter__(self) -> WellFormed[T]:
        return self

    async def __anext__(self) -> T:
        return well_formed(await anext(self._requests))


class TolerantInterceptor(grpc.aio.ServerInterceptor):
    """For a listener whose services look at what they were given themselves, with `well_formed`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Let the handler, which takes one request and gives one reply, decode tolerantly."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler  # type: ignore[no-any-return]
        tolerated: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            forgetting(handler.unary_unary),
            request_deserializer=tolerant(handler.request_deserializer, streams=False),
            response_serializer=handler.response_serializer,
        )
        return tolerated


def _with_nul(message: Message) -> str:
    """Return the name of a text that holds a NUL, or ''."""
    for field, value in message.ListFields():
        for one in _values(field, value):
            if isinstance(one, Message) and (name := _with_nul(one)):
                return name
            if isinstance(one, str) and "\0" in one:
                return str(field.name)
    return ""


def _values(field: FieldDescriptor, value: Any) -> Any:
    if not field.is_repeated:
        return (value,)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return (*value.keys(), *value.values())
    return value
