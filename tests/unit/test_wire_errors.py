"""Errors over the wire: code, exit code and words survive, and stay small enough for trailers."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import mosaic_controlplane
import mosaic_framework
import pytest
from mosaic_framework import wire
from mosaic_framework.errors import Denied, FleetError, NotLoggedIn, TooLarge, Unreachable
from mosaic_framework.identity_files import StoredIdentity
from mosaic_proto.v1 import common_pb2


class Failed(grpc.RpcError):
    """A call that ended with this status."""

    def __init__(
        self, status: grpc.StatusCode, details: str = "", trailers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        super().__init__()
        self._ended = (status, details, trailers)

    def code(self) -> grpc.StatusCode:
        return self._ended[0]

    def details(self) -> str:
        return self._ended[1]

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return self._ended[2]


def over_the_wire(error: FleetError, request_id: str = "") -> FleetError:
    status, message = wire.error_to_status(error, request_id)
    return wire.error_from_rpc(Failed(status, error.what, ((wire.ERROR_KEY, message),)))


def every_error() -> list[type[FleetError]]:
    """Return every FleetError that the framework and the control plane define."""
    for package in (mosaic_framework, mosaic_controlplane):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

    def below(kind: type[FleetError]) -> Iterator[type[FleetError]]:
        for child in kind.__subclasses__():
            if (
                child.__module__.startswith(("mosaic_framework", "mosaic_controlplane"))
                and child.__name__ != "RemoteError"
            ):
                yield child
                yield from below(child)

    return [FleetError, *below(FleetError)]


def made(kind: type[FleetError]) -> FleetError:
    """Return an error of that kind, whatever else its own constructor wants to know."""
    error = kind.__new__(kind)
    FleetError.__init__(error, "what ☂", why="why", next_step="next", details={"a": "b"})
    return error


ERRORS = every_error()


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__qualname__)
def test_an_error_keeps_code_exit_code_and_words(kind: type[FleetError]) -> None:
    told = over_the_wire(made(kind), "an-id")
    assert isinstance(told, next(base for base in kind.__mro__ if base.__init__ is FleetError.__init__))
    assert (told.code, told.exit_code) == (kind.code, kind.exit_code)
    assert (told.what, told.why, told.next_step) == ("what ☂", "why", "next")
    assert told.details == {"a": "b", "request_id": "an-id"}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__qualname__)
def test_an_error_that_a_client_does_not_know_keeps_code_and_exit_code(kind: type[FleetError]) -> None:
    status, message = wire.error_to_status(made(kind))
    newer = common_pb2.Error.FromString(message)
    newer.code = "code-of-tomorrow"
    told = wire.error_from_rpc(Failed(status, "", ((wire.ERROR_KEY, newer.SerializeToString()),)))
    assert (told.code, told.exit_code) == ("code-of-tomorrow", kind.exit_code)


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in ERRORS if "code" in vars(kind)]
    assert sorted(codes) == sorted(set(codes))


def test_an_error_as_long_as_can_be_fits_into_trailers() -> None:
    long = FleetError("☂" * 9000, why="☂" * 9000, next_step="☂" * 9000, details={str(n): "☂" * 900 for n in range(99)})
    _, message = wire.error_to_status(long, "an-id")
    assert len(message) < 4500
    assert over_the_wire(long).what.startswith("☂☂☂")


@pytest.mark.parametrize(
    ("status", "details", "kind", "exit_code"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", Unreachable, 5),
        (grpc.StatusCode.UNAVAILABLE, "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", NotLoggedIn, 4),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Unreachable, 5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", TooLarge, 1),
        (grpc.StatusCode.PERMISSION_DENIED, "no", Denied, 4),
        (grpc.StatusCode.UNAUTHENTICATED, "no", NotLoggedIn, 4),
        (grpc.StatusCode.UNIMPLEMENTED, "", FleetError, 1),
        (grpc.StatusCode.UNKNOWN, "", FleetError, 1),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", Unreachable, 5),
        (grpc.StatusCode.CANCELLED, "", FleetError, 8),
    ],
)
def test_what_grpc_reports_itself_becomes_an_error_of_ours(
    status: grpc.StatusCode, details: str, kind: type[FleetError], exit_code: int
) -> None:
    told = wire.error_from_rpc(Failed(status, details))
    assert isinstance(told, kind)
    assert told.exit_code == exit_code
    assert told.what


def test_trailers_that_are_rubbish_do_not_hide_the_status() -> None:
    told = wire.error_from_rpc(Failed(grpc.StatusCode.NOT_FOUND, "x", ((wire.ERROR_KEY, b"\xff\xff\xff"),)))
    assert told.exit_code == 3


def test_the_cli_does_not_pay_for_cryptography_to_make_a_call() -> None:
    probe = "import sys, mosaic_framework.wire; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_an_expired_login_is_told_before_anything_is_dialled() -> None:
    identity = StoredIdentity(
        kind="operator",
        name="ada",
        tenant="default",
        identity_id="",
        identity_epoch=1,
        spiffe_id="spiffe://abc.mosaic/tenant/default/operator/ada",
        trust_domain="abc.mosaic",
        cluster="home",
        fleet_addresses=[],
        not_after=datetime(2020, 1, 1, tzinfo=UTC),
        key_pem=b"",
        certificate_pem=b"",
        bundle_pem=b"",
    )
    with pytest.raises(NotLoggedIn) as expired:
        wire.channel(identity, "127.0.0.1:1")
    assert "2020-01-01" in expired.value.why
    assert expired.value.next_step.startswith("mosaic login, with a token of: ")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("certificate is not yet valid: OK", "out-of-time"),
        ("certificate has expired: OK", "out-of-time"),
        ("unable to get local issuer certificate: OK", "not-logged-in"),
    ],
)
def test_a_certificate_of_another_time_is_told_from_one_of_another_cluster(said: str, code: str) -> None:
    reason = f"Tls handshake failed: error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: {said}"
    assert wire.error_from_rpc(Failed(grpc.StatusCode.UNAVAILABLE, reason)).code == code
