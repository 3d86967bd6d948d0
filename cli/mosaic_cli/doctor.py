"""The checks of `mosaic doctor`: each returns findings, each finding with what repairs it."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mosaic_framework.errors import FleetError
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home

from mosaic_cli import context as contexts
from mosaic_cli.machine import ports
from mosaic_cli.machine.control import supervisor
from mosaic_cli.machine.leftovers import recorded_services
from mosaic_cli.machine.local import host_identity
from mosaic_cli.machine.services import HOSTAGENT, Plan
from mosaic_cli.machine.tmux import check_tmux
from mosaic_cli.output import Column, Listing, Style
from mosaic_cli.text import age

_OLDEST_PYTHON = (3, 11)
_DISK_LOW, _DISK_OUT = 1 << 30, 100 << 20
_CLOCK_OFF = 5.0
_STALL_MS = 5_000
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `level`: well, note (worth knowing) or wrong; `repair` is what to run."""

    check: str
    level: str
    text: str
    repair: str = ""


def examine(home: Home, context_name: str) -> list[Finding]:
    """Run every check. A check that cannot run is a finding itself."""
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("python", _python),
        ("tmux", _tmux),
        ("services", lambda: _services(home)),
        ("files", lambda: _files(home)),
        ("certificates", lambda: _certificates(home)),
        ("cluster", lambda: _cluster(home, context_name)),
        ("proxies", _proxies),
        ("user", lambda: _user(home)),
        ("disk", lambda: _disk(home)),
    ]
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except FleetError as error:
            found.append(
                Finding(name, "wrong", f"{error.what}{f': {error.why}' if error.why else ''}", error.next_step)
            )
        except OSError as error:
            found.append(Finding(name, "wrong", f"cannot be checked: {error}"))
    return found


def _python() -> Iterable[Finding]:
    version = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        yield Finding("python", "wrong", f"Python {version} is too old", "install Python 3.11 or newer")
    else:
        yield Finding("python", "well", f"{version} at {sys.executable}")


def _tmux() -> Iterable[Finding]:
    yield Finding("tmux", "well", check_tmux())


def _services(home: Home) -> Iterable[Finding]:
    plan = Plan.load(home)
    if supervisor(home) is not None or recorded_services(home):
        from mosaic_cli.status_view import status_listing

        listing, well, note = status_listing(home)
        yield Finding(
            "services", "well" if well else "wrong", note or f"{len(listing.rows)} run", "" if well else "mosaic up"
        )
        return
    yield Finding("services", "note", "nothing runs on this machine", "mosaic up")
    if plan.has_controlplane:
        ports.check_ports(home, plan)
        wanted = ", ".join(str(wanted.port) for wanted in ports.wanted_ports(home, plan))
        yield Finding("ports", "well", f"free: {wanted}" if wanted else "any that are free will be taken")


def _files(home: Home) -> Iterable[Finding]:
    """Nobody else may read what lies in the home: keys, tokens, journals."""
    if not home.root.exists():
        yield Finding("files", "note", f"{home.root} does not exist yet", "mosaic up")
        return
    unsafe = [path for path in _private_paths(home) if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    for path in unsafe[:5]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        yield Finding("files", "wrong", f"others can get at {path} (mode {mode:o})", f"chmod go= {path}")
    if not unsafe:
        yield Finding("files", "well", f"{home.root} is closed to others")


def _private_paths(home: Home) -> Iterable[Path]:
    for folder in (home.root, home.pki, home.run, home.logs):
        if folder.exists():
            yield folder  # inside a closed folder, the mode of a folder does not matter
            yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _certificates(home: Home) -> Iterable[Finding]:
    identities = [("host", host_identity(home))] if (home.pki / "host").exists() else []
    for item in contexts.load(home).items:
        folder = item.identity_folder(home)
        identities.append((f"context {item.name}", StoredIdentity.load(folder)))
    for name, identity in identities:
        if identity is None:
            continue
        left = identity.not_after - datetime.now(UTC)
        repair = "mosaic up" if name in ("host", f"context {contexts.LOCAL}") else "mosaic login"
        if left.total_seconds() <= 0:
            yield Finding("certificates", "wrong", f"{name}: expired {age(-left.total_seconds())} ago", repair)
        elif identity.due():
            text = (
                f"{name}: expires in {age(left.total_seconds())}; it is renewed while the control plane can be reached"
            )
            yield Finding("certificates", "note", text, "mosaic status" if name == "host" else "mosaic host ls")
        else:
            yield Finding("certificates", "well", f"{name}: good for {age(left.total_seconds())}, and renews itself")


def _cluster(home: Home, context_name: str) -> Iterable[Finding]:
    known = contexts.load(home)
    if not known.items:
        yield Finding("cluster", "note", "no cluster is set up for this user", "mosaic up, or: mosaic login")
        return
    from mosaic_proto.v1 import fleet_pb2 as pb

    from mosaic_cli.client import connect

    with connect(context_name, home=home) as connection:
        began = time.time()
        reply = connection.call(connection.fleet.GetCluster, pb.GetClusterRequest())
        ended = time.time()
    took = (ended - began) * 1000
    yield Finding("cluster", "well", f"{connection.context.name} answers in {took:.0f} ms as {reply.caller.name}")
    if reply.cursor_stall_ms >= _STALL_MS:
        text = f"an open transaction has held `fleet watch` back for {age(reply.cursor_stall_ms / 1000)}"
        query = "select pid, xact_start, query from pg_stat_activity where backend_xid is not null order by xact_start"
        yield Finding("watchers", "wrong", text, f"find it on the database's server: {query}")
    # The database's time lies between our two readings: what is more than their distance is the clocks' difference.
    at = reply.at.ToNanoseconds() / 1e9
    difference = began - at if at < began else at - ended if at > ended else 0.0
    if difference > _CLOCK_OFF:
        text = f"this clock and the database's differ by {age(difference)}; ages shown here are wrong by that"
        yield Finding("clock", "note", text, "set the clock: sudo timedatectl set-ntp true")
    else:
        yield Finding("clock", "well", "agrees with the database's")


def _proxies() -> Iterable[Finding]:
    found = sorted({name for name in os.environ if name.lower() in _PROXIES and os.environ[name]})
    text = f"{', '.join(found)} set; mosaic's own connections go around it" if found else "none set"
    yield Finding("proxies", "note" if found else "well", text)


def _user(home: Home) -> Iterable[Finding]:
    plan = Plan.load(home)
    if plan.has_controlplane and HOSTAGENT in plan.services and host_identity(home) is not None:
        text = "agents run as the user who operates the fleet, and can do what that user can"
        yield Finding(
            "user", "note", text, "let agents you do not trust join from a user of their own: mosaic host token NAME"
        )
    else:
        yield Finding("user", "well", "agents of this machine do not share the operator's user")


def _disk(home: Home) -> Iterable[Finding]:
    place = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / (1 << 30):.1f} GiB free for {home.root}"
    level = "wrong" if free < _DISK_OUT else "note" if free < _DISK_LOW else "well"
    yield Finding(
        "disk", level, text, "make room: journal and register stop when the disk is full" if level != "well" else ""
    )


def finding_listing(findings: Sequence[Finding]) -> Listing[Finding]:
    """Return findings ready to be shown."""
    styles = {"wrong": Style.WRONG, "note": Style.ATTENTION}
    columns: list[Column[Finding]] = [
        Column("CHECK", lambda finding: finding.check),
        Column("FOUND", lambda finding: finding.level),
        Column("WHAT", lambda finding: finding.text),
        Column("REPAIR", lambda finding: finding.repair),
    ]
    return Listing(
        "FindingList",
        findings,
        columns,
        name=lambda finding: finding.check,
        document=lambda finding: {
            "check": finding.check,
            "level": finding.level,
            "text": finding.text,
            "repair": finding.repair,
        },
        style=lambda finding: styles.get(finding.level, Style.PLAIN),
        extra={"wrong": sum(finding.level == "wrong" for finding in findings)},
    )
