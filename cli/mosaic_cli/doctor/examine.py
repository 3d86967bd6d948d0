"""All checks of `mosaic doctor`, in the order in which they are shown."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home

from mosaic_cli.doctor import (
    certificates,
    cluster,
    disk,
    folders,
    health,
    lingering,
    names,
    proxies,
    services,
    terminal,
)
from mosaic_cli.doctor.finding import UNCHECKED, WELL, WRONG, Finding

_OLDEST_PYTHON = (3, 11)


def examine(home: Home, context_name: str) -> list[Finding]:
    """Run every check. One that cannot run is a finding itself, and stops no other."""
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("python", _python),
        ("tmux", lambda: terminal.check(home)),
        ("services", lambda: services.check(home)),
        ("health", lambda: health.check(home)),
        ("files", lambda: folders.check(home, os.environ)),
        ("certificates", lambda: certificates.check(home, datetime.now(UTC))),
        ("names", lambda: names.check(home, os.environ)),
        ("cluster", lambda: cluster.check(home, context_name)),
        ("proxies", lambda: proxies.judge(os.environ)),
        ("user", lambda: services.check_user(home)),
        ("linger", lambda: lingering.check(home)),
        ("disk", lambda: disk.check(home)),
    ]
    found: list[Finding] = []
    for name, check in checks:
        try:
            found.extend(check())
        except FleetError as error:
            found.append(Finding(name, WRONG, f"{error.what}{f': {error.why}' if error.why else ''}", error.next_step))
        except (OSError, ValueError) as error:
            found.append(Finding(name, UNCHECKED, f"cannot be looked at: {error}", f"ls -la {home.root}"))
        except Exception as error:  # noqa: BLE001 - on a broken machine, what the others find is what is needed
            text = f"a fault inside mosaic: {type(error).__name__}: {error}"
            found.append(Finding(name, UNCHECKED, text, "report it; what the other checks found holds"))
    return found


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        yield Finding("python", WRONG, f"Python {version} is too old", "install Python 3.11 or newer")
    else:
        yield Finding("python", WELL, f"{version} at {sys.executable}")
