"""`mosaic update`: upgrade the program, then let the new one re-seed; killed anywhere, the next run completes it.

The installer runs in a session of its own, so that killing this program does not kill it half way; what it is and how
far an update came is in `$MOSAIC_HOME/state/update.json` while one is under way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mosaic_framework import __version__
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home, write_private
from mosaic_framework.reseed import reseed
from mosaic_framework.shipped import Finding, Reseeding
from mosaic_framework.steps import reached

from mosaic_cli import installation, output
from mosaic_cli.alone import alone
from mosaic_cli.installation import Installation
from mosaic_cli.output import Column, Format, Listing, Style

_STYLES = {"kept": Style.ATTENTION, "gone": Style.WRONG}


class UpdateBroken(FleetError):
    """The new version is installed, and seeing to its data was broken off."""

    code = "update-broken"
    hint = "complete it: mosaic update"


class UpgradeFailed(FleetError):
    """The program could not be upgraded."""

    code = "upgrade-failed"


@dataclass(frozen=True, slots=True)
class UpdateWish:
    """What the command line says. `source`: where the new version comes from, empty for the tool's own index."""

    upgrade: bool = True
    reseed: bool = True
    dry_run: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """An update that is under way: the installer's command, process and when that began (0: not started), and its end.

    `installed`: the installer has done its work, and re-seeding is left.
    """

    command: list[str]
    pid: int = 0
    started: float = 0.0
    installed: bool = False


def update(wish: UpdateWish, form: Format) -> int:
    """Upgrade and re-seed as wished, show what changed, and return the exit code. Raises UpgradeFailed."""
    home = Home.from_environment()
    here = installation.find()
    if wish.dry_run:
        return _dry_run(home, here, wish, form)
    with contextlib.nullcontext() if os.environ.get(_INSIDE) else alone(home, "update"):
        if wish.upgrade:
            upgraded = _upgrade(home, here, wish)
            if upgraded and wish.reseed:
                return _reseed_by_the_new_program(home, form)
            _forget(home)
        if wish.reseed:
            _show(reseed(home, Catalog.open(home)), form)
        return 0


def _upgrade(home: Home, here: Installation, wish: UpdateWish) -> bool:
    """Run the installer where there is one, and return whether it ran."""
    before = _read(home)
    if before is not None:
        output.say("the last update was interrupted; completing it")
        _wait_for(before)
        if before.installed:
            output.say(f"mosaic {here.version} is installed; its data is left to see to")
            return True
    if not here.tool:
        output.say(f"the program itself is not upgraded: {here.advice}")
        return False
    command = here.command(source=wish.source, again=before is not None)
    output.say(f"upgrading mosaic {here.version}: {shlex.join(command)}")
    _write(home, Journal(command))
    reached("mosaic.update-begun")
    process = _start(home, command)
    if process.wait():
        _forget(home)  # a tool that fails leaves, or puts back, what was there
        raise UpgradeFailed(
            f"{here.tool} ended with {process.returncode}",
            why="its own words are above; the version that was installed stays",
            next_step=shlex.join(command),
        )
    _write(home, Journal(command, installed=True))
    reached("mosaic.update-upgraded")
    return True


def _start(home: Home, command: list[str]) -> subprocess.Popen[bytes]:
    try:
        # Its words are talk, and it outlives this program.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), start_new_session=True
        )
    except OSError as error:
        _forget(home)
        raise UpgradeFailed(f"{command[0]} cannot be started", why=error.strerror or str(error)) from error
    _write(home, Journal(command, process.pid, _began(process.pid)))
    reached("mosaic.update-installing")
    return process


def _reseed_by_the_new_program(home: Home, form: Format) -> int:
    """Let the new version do it: this process still is the old one."""
    command = [sys.executable, "-m", "mosaic_cli.main", "update", "--no-upgrade", "--output", form.value]
    environment = {**os.environ, "MOSAIC_HOME": str(home.root), _INSIDE: "1"}
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode < 0:
        raise UpdateBroken(why=f"its process was ended by signal {-done.returncode}")
    if done.returncode == 0:
        _forget(home)
        _tell_of_running(home)
    return done.returncode


def _tell_of_running(home: Home) -> None:
    from mosaic_cli.machine.control import supervisor

    if supervisor(home) is not None:
        output.say("what runs on this machine still is the old version; to change over: mosaic down, then mosaic up")


_INSIDE = "MOSAIC_UPDATE_INSIDE"
"""Set for the new program by the old one, which holds the lock for both."""


def _dry_run(home: Home, here: Installation, wish: UpdateWish, form: Format) -> int:
    if wish.upgrade and here.tool:
        command = here.command(source=wish.source, again=_read(home) is not None)
        output.say(f"would upgrade mosaic {here.version}: {shlex.join(command)}")
        output.say("what the new version changes in the shipped data is told once it is installed")
    elif wish.upgrade:
        output.say(f"the program itself would not be upgraded: {here.advice}")
    if wish.reseed:
        _show(reseed(home, Catalog.open(home), dry_run=True), form)
    output.say("nothing was done")
    return 0


def _wait_for(journal: Journal) -> None:
    """Wait until the installer of an interrupted update has ended; nothing to do where it has."""
    import psutil

    if not journal.pid:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(journal.pid)
        if abs(process.create_time() - journal.started) < 1.0:
            output.say(f"its installer still runs (pid {journal.pid}); waiting for it")
            process.wait()


def _began(pid: int) -> float:
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # done already
        return 0.0


def _journal_path(home: Home) -> Path:
    return home.state / "update.json"


def _read(home: Home) -> Journal | None:
    try:
        data = json.loads(_journal_path(home).read_text("utf-8"))
        command = [str(word) for word in data["command"]]
        return Journal(command, int(data["pid"]), float(data["started"]), data["installed"] is True)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return Journal([])  # something was under way; what exactly is lost, and done again


def _write(home: Home, journal: Journal) -> None:
    write_private(_journal_path(home), (json.dumps(asdict(journal)) + "\n").encode())


def _forget(home: Home) -> None:
    _journal_path(home).unlink(missing_ok=True)


def _show(done: Reseeding, form: Format) -> None:
    columns: list[Column[Finding]] = [
        Column("FILE", lambda one: one.file),
        Column("CHANGE", lambda one: one.change),
        Column("NOTE", lambda one: one.note),
    ]
    listing = Listing(
        "UpdateReport",
        done.findings,
        columns,
        name=lambda one: one.file,
        document=_document,
        style=lambda one: _STYLES.get(one.change, Style.PLAIN),
        extra={"version": __version__, "previous": done.previous or None, "first": done.first},
        empty="nothing changed in the shipped data"
        if not done.first
        else "the shipped data is recorded; from the next update on, what changes in it is told",
    )
    output.show(listing, form)


def _document(one: Finding) -> dict[str, Any]:
    return {"file": one.file, "change": one.change, "note": one.note}
