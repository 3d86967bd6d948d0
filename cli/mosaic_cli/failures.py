"""How a command ends: exit codes, and an error told once in at most four lines (or as JSON on stderr)."""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

import typer
from mosaic_framework.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, FleetError, told
from mosaic_framework.names import nearest

from mosaic_cli.text import printable

_JOIN_TOKEN = "mosaic1."  # noqa: S105  how one begins: mosaic_framework.enrolment, which is slow to import
_tracebacks = False


class UsageError(FleetError):
    """The command line is wrong."""

    code = "usage"
    exit_code = EXIT_USAGE


class InternalFault(FleetError):
    """This is a fault of mosaic itself."""

    code = "fault"
    exit_code = EXIT_FAILED


class SystemRefused(FleetError):
    """The operating system refused."""

    code = "system"
    exit_code = EXIT_FAILED


def show_tracebacks(wanted: bool) -> None:
    """Switch tracebacks on (`--debug`) or off."""
    global _tracebacks
    _tracebacks = wanted


def unknown_command(word: str, known: Iterable[str], *, noun: str = "") -> UsageError:
    """Return the error for a command or verb that does not exist."""
    prefix = f"mosaic {noun} " if noun else "mosaic "
    names = list(known)
    close = nearest(word, names)
    return UsageError(
        f"there is no command {prefix + word!r}",
        why=f"the nearest {'is' if len(close) == 1 else 'are'} {', '.join(close)}" if close else "",
        next_step=prefix + (close[0] if len(close) == 1 else "--help"),
        details={"candidates": ",".join(close)},
    )


def guarded(command: Callable[[], Any], *, arguments: Sequence[str]) -> int:
    """Run `command` and return the exit code; every error becomes its lines on stderr, never a traceback."""
    as_json = wants_json(arguments)
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()  # whoever read our output had enough: no failure
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except typer.Abort:
        return EXIT_INTERRUPTED
    except SystemExit as asked:
        return asked.code if isinstance(asked.code, int) else EXIT_FAILED
    except Exception as error:  # noqa: BLE001  the one place where everything must become an answer for a person
        if _tracebacks:
            traceback.print_exc()
        known = as_fleet_error(error)
        report(known, as_json=as_json)
        return known.exit_code
    return code if isinstance(code, int) else 0


def as_fleet_error(error: Exception) -> FleetError:
    """Return `error` in the one form that a user may see."""
    if isinstance(error, FleetError):
        return error
    if isinstance(error, typer.TyperException) and hasattr(error, "ctx"):
        context = error.ctx
        path = context.command_path if context is not None else "mosaic"
        if _JOIN_TOKEN in error.format_message():
            return UsageError(
                "a token is not taken as an argument",
                why="others can read it there: in the list of processes and in the shell's history",
                next_step=f"make another one, and give it on standard input or in a file: {path} --token-file FILE",
            )
        return UsageError(_lower_first(error.format_message().rstrip(".")), next_step=f"{path} --help")
    if isinstance(error, OSError) and error.errno is not None:
        name = f"{error.filename}: " if error.filename else ""
        return SystemRefused(
            f"{name}{os.strerror(error.errno).lower()}",
            why="this user may not" if error.errno in (errno.EACCES, errno.EPERM) else "",
            next_step=f"look at it: ls -ld {error.filename}" if error.filename else "",
        )
    return InternalFault(
        f"a fault inside mosaic: {type(error).__name__}",
        why=str(error),
        next_step="run it again as `mosaic --debug …` and report what it shows",
    )


def report(error: FleetError, *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Write `error` to stderr: what (code), why, next, request id; a line each, empty ones left out."""
    out = stream or sys.stderr
    if as_json:
        out.write(json.dumps(error_document(error), ensure_ascii=False) + "\n")
        return
    lines = told(error, request_id=request_id_of(error))
    out.write("".join(f"{printable(line)}\n" for line in lines))


def error_document(error: FleetError) -> dict[str, Any]:
    """Return the JSON form of `error`."""
    return {
        "apiVersion": "mosaic.v1",
        "kind": "Error",
        "code": error.code,
        "what": error.what,
        "why": error.why,
        "next": error.next_step,
        "requestId": request_id_of(error),
        "exitCode": error.exit_code,
        "details": {key: value for key, value in sorted(error.details.items()) if key != "request_id"},
    }


def request_id_of(error: FleetError) -> str:
    """Return the id under which the control plane knows the call that failed; empty when none was made."""
    return error.details.get("request_id", "") or str(getattr(error, "request_id", "") or "")


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON; read from the words, since an error may come before they are parsed."""
    words = list(arguments)
    words = words[: words.index("--")] if "--" in words else words
    if "-ojson" in words or "--output=json" in words:
        return True
    return any(pair in (("-o", "json"), ("--output", "json")) for pair in itertools.pairwise(words))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _forget_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
