"""gRPC as we use it: channels and server credentials over mTLS, and errors that keep code and exit code on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from inspect import getattr_static
from typing import Protocol, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from mosaic_proto.v1 import common_pb2 as pb

from mosaic_framework.errors import (
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_NOT_FOUND,
    EXIT_UNFINISHED,
    EXIT_UNREACHABLE,
    Conflict,
    Denied,
    FleetError,
    Internal,
    InvalidInput,
    LimitReached,
    NotAuthenticated,
    NotFound,
    NotLoggedIn,
    TooLarge,
    Unfinished,
    Unreachable,
)
from mosaic_framework.identity_files import StoredIdentity

SERVER_NAME = "mosaic-controlplane"
"""What a replica's certificate is called, whatever address it is dialled at (pki.SERVER_NAME, without its imports)."""

ERROR_KEY = "mosaic-error-bin"
"""Trailing metadata that carries a mosaic.v1.Error."""

AGENT_KEY = "mosaic-on-behalf-of-agent"
"""Metadata with which a host speaks for an agent that sits on it."""

RUN_KEY = "mosaic-on-behalf-of-run"
"""Metadata that says in which run of that agent the call was made: it must be one that lives."""

REPLICAS_KEY = "mosaic-replicas"
"""Trailing metadata of a reply to a person's command: the fleet addresses of all replicas that live, comma between."""

MESSAGE_LIMIT = 4 * 1024 * 1024
_TEXT_LIMIT = 700  # bytes; a peer refuses trailers above 8 KiB, and these travel as base64
_DETAILS_LIMIT = 2_000

_BOTH_ENDS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment must never see, or break, a call of ours
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    *_BOTH_ENDS,
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a silent share
    ("grpc.server_handshake_timeout_ms", 5_000),  # who connects and says nothing does not stay
    ("grpc.keepalive_time_ms", 30_000),  # a watcher whose machine vanished is let go, not kept for hours
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # which wins where it is longer: by default a minute
    ("grpc.http2.settings_timeout", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),  # nor one that stopped in the midst of a frame
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # a replica that relays asks whether we live
    ("grpc.max_concurrent_streams", 2_048),  # of one connection; a client of ours waits beyond that
    ("grpc.max_connection_idle_ms", 600_000),  # a connection without a call
]
_REPLICA_OPTIONS: list[tuple[str, int]] = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),  # a relayed terminal may be silent for hours
]
ENROL_SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", 64 * 1024),  # strangers call here
    ("grpc.max_send_message_length", 64 * 1024),
    ("grpc.enable_http_proxy", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_allowed_incoming_connections", 512),  # so that strangers never use up what hosts and operators need
    ("grpc.max_connection_age_ms", 30_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
]


def fleet_server_options(*, connections: int) -> list[tuple[str, int]]:
    """Return the options of a fleet listener that takes at most so many connections."""
    return [*SERVER_OPTIONS, ("grpc.max_allowed_incoming_connections", connections)]


class ServerLeaf(Protocol):
    """What a listener shows, and which roots it takes leaves of."""

    @property
    def key_pem(self) -> bytes: ...
    @property
    def certificate_pem(self) -> bytes: ...
    @property
    def bundle_pem(self) -> bytes: ...


def client_options(*, server_name: str = SERVER_NAME) -> list[tuple[str, str | int]]:
    """Return the options of every channel of ours: the certificate is checked against `server_name`."""
    return [*_BOTH_ENDS, ("grpc.ssl_target_name_override", server_name)]


def how_to_come_back(identity: StoredIdentity) -> str:
    """Return what to do when a certificate has run out and cannot renew itself any more."""
    if identity.kind == "operator":
        return f"mosaic login, with a token of: mosaic-controlplane operator-token --name {identity.name}"
    return f"mosaic host join, with a token of: mosaic host token {identity.name}"


def channel(identity: StoredIdentity, address: str) -> grpc.Channel:
    """Open a channel to a fleet listener (host:port). Raises NotLoggedIn when the certificate has expired."""
    if identity.expired():
        raise NotLoggedIn(
            f"the certificate of {identity.kind} {identity.name} has expired",
            why=f"it was valid until {identity.not_after:%Y-%m-%d %H:%M} UTC",
            next_step=how_to_come_back(identity),
        )
    return grpc.secure_channel(address, _client_credentials(identity), options=client_options())


def aio_channel(identity: StoredIdentity, address: str) -> grpc.aio.Channel:
    """Open an asyncio channel to a fleet listener (host:port)."""
    return grpc.aio.secure_channel(address, _client_credentials(identity), options=client_options())


def replica_channel(key_pem: bytes, certificate_pem: bytes, bundle_pem: bytes, address: str) -> grpc.aio.Channel:
    """Open a channel from one replica to another's fleet listener (host:port). One that falls silent is given up."""
    credentials = grpc.ssl_channel_credentials(bundle_pem, key_pem, certificate_pem)
    return grpc.aio.secure_channel(address, credentials, options=[*client_options(), *_REPLICA_OPTIONS])


def pane_channel(socket_path: str) -> grpc.Channel:
    """Open a channel to the host-agent of this machine. No TLS: only this Unix user can reach the socket."""
    return grpc.insecure_channel(f"unix:{socket_path}", options=_BOTH_ENDS)


def _client_credentials(identity: StoredIdentity) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(identity.bundle_pem, identity.key_pem, identity.certificate_pem)


def fleet_server_credentials(key_pem: bytes, certificate_pem: bytes, bundle_pem: bytes) -> grpc.ServerCredentials:
    """Return credentials that demand a client certificate under `bundle_pem`."""
    return grpc.ssl_server_credentials([(key_pem, certificate_pem)], bundle_pem, require_client_auth=True)


def enrol_server_credentials(key_pem: bytes, certificate_pem: bytes) -> grpc.ServerCredentials:
    """Return credentials for joiners, who have no certificate yet and are not asked for one."""
    return grpc.ssl_server_credentials([(key_pem, certificate_pem)])


def rotating_server_credentials(current: Callable[[], ServerLeaf], *, for_joiners: bool) -> grpc.ServerCredentials:
    """Return credentials that take `current()` at each handshake; connections that stand keep what they began with.

    `for_joiners`: they have no certificate yet and are not asked for one; everybody else must show one.
    gRPC keeps the old ones, and says nothing, when it cannot use the new: whoever publishes them checks them before.
    """

    def configuration(leaf: ServerLeaf) -> grpc.ServerCertificateConfiguration:
        roots = None if for_joiners else leaf.bundle_pem
        return grpc.ssl_server_certificate_configuration([(leaf.key_pem, leaf.certificate_pem)], roots)

    shown = current()
    turn = threading.Lock()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        with turn:
            leaf = current()
            if _same(leaf, shown):
                # To gRPC, None is "as before". It changes what it was given without a lock against the handshakes that
                # use it at that moment: told anew at each of them, a few hundred at once end the process.
                return None
            shown = leaf
            return configuration(leaf)

    # Its annotation does not know that None may be answered.
    told = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch)
    return grpc.dynamic_ssl_server_credentials(
        configuration(shown), told, require_client_authentication=not for_joiners
    )


def _same(one: ServerLeaf, other: ServerLeaf) -> bool:
    return (one.key_pem, one.certificate_pem, one.bundle_pem) == (
        other.key_pem,
        other.certificate_pem,
        other.bundle_pem,
    )


def error_to_status(error: FleetError, request_id: str = "") -> tuple[grpc.StatusCode, bytes]:
    """Return the status of `error`, and the bytes for ERROR_KEY, well under the 8 KiB that a peer takes in trailers."""
    return _status_of(error), error_to_message(error, request_id).SerializeToString()


def error_to_message(error: FleetError, request_id: str = "") -> pb.Error:
    """Return what travels of `error`, at most a few KiB."""
    message = pb.Error(
        code=type(error).code,
        what=_cut(error.what),
        why=_cut(error.why),
        next=_cut(error.next_step),
        request_id=request_id,
    )
    room = _DETAILS_LIMIT
    for key, value in error.details.items():
        room -= len(key.encode()) + len(value.encode())
        if room < 0:
            break
        message.details[key] = value
    return message


def error_from_message(message: pb.Error) -> FleetError:
    """Return the error that the other side told of in a stream."""
    return _rebuild(grpc.StatusCode.FAILED_PRECONDITION, message)


def error_from_rpc(error: grpc.RpcError) -> FleetError:
    """Return what a failed call meant: the other side's FleetError, or one of ours for what gRPC itself reports.

    The request id, if any, is in `details["request_id"]`.
    """
    status: grpc.StatusCode = error.code()
    reason: str = error.details() or ""
    trailers = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailers:
        if key == ERROR_KEY and isinstance(value, bytes):
            try:
                return _rebuild(status, pb.Error.FromString(value))
            except DecodeError:
                break
    return _transport_error(status, reason)


def _rebuild(status: grpc.StatusCode, message: pb.Error) -> FleetError:
    # A newer server may know codes that we do not: the status still tells the exit code.
    kind = _known().get(message.code) or _remote(_BASES.get(status, FleetError), message.code)
    if not _is_plain(kind):
        # It is made of more than travels: its nearest ancestor that is not stands for it, under its code.
        kind = _remote(next(base for base in kind.__mro__ if _is_plain(base)), message.code)
    details = dict(message.details)
    what, why = (text.replace("\0", "") for text in (message.what, message.why))  # it may be kept, where no NUL can be
    if message.request_id:
        details["request_id"] = message.request_id
    return kind(what, why=why, next_step=message.next, details=details)


def _remote(base: type[FleetError], code: str) -> type[FleetError]:
    """Return a class for errors of the other side that have no class here."""
    return type("RemoteError", (base,), {"code": code, "__doc__": "It failed."})


def _is_plain(kind: type) -> bool:
    """Say whether this class is made as a FleetError is."""
    return getattr_static(kind, "__init__") is FleetError.__init__


def _cut(text: str) -> str:
    return text.encode()[:_TEXT_LIMIT].decode(errors="ignore")


class OutOfTime(Unreachable):
    """A certificate is not of this time: one of two clocks is wrong."""

    code = "out-of-time"
    hint = "mosaic doctor"


CUT_OFF = "Internal error from Core"
"""The client's own word, in grpc.aio, for a write that failed because the call had ended: it hides how."""

_OUT_OF_TIME = (
    ("certificate is not yet valid", "is not valid yet by this machine's clock", "behind"),
    ("certificate has expired", "has ended by this machine's clock", "ahead"),
)
"""What BoringSSL says of a peer's certificate, and what that means."""


def _transport_error(status: grpc.StatusCode, reason: str) -> FleetError:
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unreachable("the control plane did not answer in time", why=reason, next_step="mosaic doctor")
    if status is grpc.StatusCode.INTERNAL and reason == CUT_OFF:
        return Unreachable(
            "the connection ended while the call was made", why=reason, next_step="try again in a moment"
        )
    if status is grpc.StatusCode.UNAVAILABLE:
        for said, told, clock in _OUT_OF_TIME:
            if said in reason:
                now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
                why = f"it reads {now} UTC and is {clock}, unless the control plane's is wrong"
                return OutOfTime(f"the certificate of the control plane {told}", why=why)
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return NotLoggedIn(
                "the server at this address is not of this cluster",
                why="its certificate was not issued by the cluster's authority",
            )
        return Unreachable("the control plane cannot be reached", why=reason, next_step="mosaic doctor")
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in reason:
            return TooLarge("the message is larger than the wire allows", why=reason)
        return LimitReached.until("the other side takes no more just now", seconds=1, why=reason)
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return FleetError("the control plane does not know this call", why=reason, next_step="update mosaic there")
    if status is grpc.StatusCode.CANCELLED:
        return Unfinished("the call was cancelled", why=reason)
    base = _BASES.get(status, FleetError)
    return base("the call failed", why=f"{status.name.lower()}: {reason}")


_BASES: dict[grpc.StatusCode, type[FleetError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNAUTHENTICATED: NotLoggedIn,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unfinished,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.FAILED_PRECONDITION: FleetError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitReached,
}

_STATUS_OF_EXIT: dict[int, grpc.StatusCode] = {
    EXIT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    EXIT_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    EXIT_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    EXIT_CONFLICT: grpc.StatusCode.ABORTED,
    EXIT_UNFINISHED: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def _status_of(error: FleetError) -> grpc.StatusCode:
    """The status keeps the exit code even for a client that does not know the error's code."""
    if isinstance(error, Internal):
        return grpc.StatusCode.INTERNAL
    if isinstance(error, (NotLoggedIn, NotAuthenticated)):
        return grpc.StatusCode.UNAUTHENTICATED
    if isinstance(error, (LimitReached, TooLarge)):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if isinstance(error, InvalidInput):
        return grpc.StatusCode.INVALID_ARGUMENT
    return _STATUS_OF_EXIT.get(type(error).exit_code, grpc.StatusCode.FAILED_PRECONDITION)


def _known() -> dict[str, type[FleetError]]:
    """Return code → class of every FleetError imported so far. A class that keeps its parent's code never hides it."""
    found = {FleetError.code: FleetError}
    for kind in _descendants(FleetError):
        found.setdefault(kind.code, kind)
    return found


def _descendants(kind: type[FleetError]) -> Iterator[type[FleetError]]:
    children: Iterable[type[FleetError]] = kind.__subclasses__()
    for child in children:
        if child.__name__ != "RemoteError":
            yield child
            yield from _descendants(child)
