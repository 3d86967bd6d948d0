"""The one error type a user may see: a stable code, what happened, why, and what to do next."""

from __future__ import annotations

import math
from typing import ClassVar, Self

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_DENIED = 4
EXIT_UNREACHABLE = 5
EXIT_CONFLICT = 6
EXIT_UNFINISHED = 8
EXIT_INTERRUPTED = 130

RETRY_AFTER = "retry_after_ms"
"""The detail of an error that says after how many milliseconds the same may be tried again."""


class FleetError(Exception):
    """Something a user can be told.

    Subclasses set `code` (stable, kebab-case), `exit_code` (see docs: exit codes) and may set `hint`, the default for
    `next_step`. `details` are facts for machines, such as candidates or versions. `wire.py` carries it all over gRPC.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = EXIT_FAILED
    hint: ClassVar[str] = ""

    def __init__(
        self,
        what: str = "",
        *,
        why: str = "",
        next_step: str = "",
        details: dict[str, str] | None = None,
    ) -> None:
        self.what = what or _spoken((type(self).__doc__ or "").strip().splitlines()[0])
        self.why = why
        self.next_step = next_step or type(self).hint
        self.details = details or {}
        super().__init__(self.what)


def _spoken(sentence: str) -> str:
    """Return a class's sentence as it is told after `error:`, in the form of all others."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def told(error: FleetError, *, request_id: str = "") -> list[str]:
    """Return what a person is told of an error: at most four lines."""
    lines = [f"error: {error.what} ({type(error).code})"]
    if error.why:
        lines.append(f"why:   {error.why}")
    if error.next_step:
        lines.append(f"next:  {error.next_step}")
    if request_id:
        lines.append(f"request: {request_id}")
    return lines


class InvalidInput(FleetError):
    """The input is not valid."""

    code = "invalid-input"


class NotFound(FleetError):
    """There is no such thing."""

    code = "not-found"
    exit_code = EXIT_NOT_FOUND


class Ambiguous(FleetError):
    """The name fits more than one thing."""

    code = "ambiguous"
    exit_code = EXIT_NOT_FOUND


class Denied(FleetError):
    """You may not do this."""

    code = "denied"
    exit_code = EXIT_DENIED


class NotLoggedIn(Denied):
    """There is no valid login for this cluster."""

    code = "not-logged-in"
    hint = "mosaic login"


class Unreachable(FleetError):
    """The other side cannot be reached."""

    code = "unreachable"
    exit_code = EXIT_UNREACHABLE


class Conflict(FleetError):
    """It already exists, or was changed by someone else."""

    code = "conflict"
    exit_code = EXIT_CONFLICT


class Unfinished(FleetError):
    """It was not finished in time; it goes on."""

    code = "unfinished"
    exit_code = EXIT_UNFINISHED


class LimitReached(FleetError):
    """A limit is reached."""

    code = "limit-reached"

    @classmethod
    def until(cls, what: str = "", *, seconds: float, why: str = "") -> Self:
        """Return this error with the time (seconds) after which it may be tried again, for people and for machines."""
        milliseconds = max(1, math.ceil(seconds * 1000))
        return cls(
            what,
            why=why,
            next_step=f"try again in {max(0.1, math.ceil(seconds * 10) / 10):g} s",
            details={RETRY_AFTER: str(milliseconds)},
        )

    @property
    def retry_after(self) -> float | None:
        """The seconds after which it may be tried again, or None when nobody can say."""
        told = self.details.get(RETRY_AFTER, "")
        return int(told) / 1000 if told.isascii() and told.isdecimal() and len(told) < 10 else None


class TooManyCalls(LimitReached):
    """This caller makes calls faster than it may."""

    code = "too-many-calls"


class TooManyStreams(LimitReached):
    """This caller holds as many streams as it may."""

    code = "too-many-streams"


class Overloaded(LimitReached):
    """The control plane has as many calls under way as it takes."""

    code = "overloaded"


class TooLarge(InvalidInput):
    """It is larger than the limit."""

    code = "too-large"


class TokenInvalid(Denied):
    """This join token is not valid."""

    code = "token-invalid"


class TokenSpent(Denied):
    """This join token has already been used."""

    code = "token-spent"


class TokenExpired(Denied):
    """This join token has expired."""

    code = "token-expired"


class TokenWrongName(Denied):
    """This join token was made for another name."""

    code = "token-wrong-name"


class TooManyAttempts(LimitReached):
    """Too many attempts at once."""

    code = "too-many-attempts"
    hint = "wait a few seconds and run it again"


class NotAuthenticated(Denied):
    """The caller's certificate is not accepted here."""

    code = "not-authenticated"


class IdentityRevoked(NotAuthenticated):
    """This identity has been revoked."""

    code = "identity-revoked"


class IdentitySuperseded(NotAuthenticated):
    """This identity has been replaced by a newer one of the same name."""

    code = "identity-superseded"


class Internal(FleetError):
    """The control plane failed at this call."""

    code = "internal"
    hint = "look for the request id in the control plane's log, and report it"


class PortInUse(Conflict):
    """A port that the control plane needs is in use."""

    code = "port-in-use"
    hint = "mosaic status, or set other ports in controlplane.yaml"


class RosterChanged(Conflict):
    """Another roster has been applied since the one this edit started from."""

    code = "roster-changed"
    hint = "mosaic fleet diff, then apply again"
