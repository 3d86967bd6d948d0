"""Updates of the runtimes' own programs on this host: drained, updated, relaunched, verified, one after another.

How far an update is stands in the journal before each act, so that it is carried out once, whoever dies. Whatever goes
wrong before the relaunch leaves every seat running as before.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_framework.programs import Found
from mosaic_framework.runtimes import VersionUnknown, read_version
from mosaic_framework.seat_environment import find_for_seat, read_env_file
from mosaic_framework.steps import reached
from mosaic_proto.v1 import runtimes_pb2

from mosaic_hostagent.environment import inheritable
from mosaic_hostagent.journal import Journal, JournalUnwritable
from mosaic_hostagent.journal_updates import DONE, DRAINING, FAILED, RELAUNCHING, UPDATING, WANTED, Seen, Update
from mosaic_hostagent.launching import read_manifest
from mosaic_hostagent.relaunching import Relaunching
from mosaic_hostagent.resetting import is_calm
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.update_command import Command, Ended, tail_of
from mosaic_hostagent.versions import changed_since

HOLD = "its runtime is being updated"
COMMAND_SECONDS = 600.0
_LOOK = 0.2
_JOURNAL_RETRY = 1.0

log = structlog.get_logger(__name__)


class FellShort(Exception):
    """The update cannot go on; the reason is for a person."""


class Updating:
    """Carries out the updates that are asked of this host. `wake` begins a round of the supervisor."""

    def __init__(
        self,
        *,
        journal: Journal,
        residents: Mapping[str, Resident],
        wake: Callable[[], None],
        environment: Mapping[str, str],
        home: Home,
    ) -> None:
        self._journal = journal
        self._residents = residents
        self._wake = wake
        self._environment = inheritable(environment)
        self._home = home
        self._waiting: deque[Update] = deque()
        self._task: asyncio.Task[None] | None = None

    async def resume(self) -> None:
        """Find what the last host-agent had under way; it goes on when its seats have been seen."""
        self._waiting.extend(await self._journal.open_updates())

    async def take(self, wanted: runtimes_pb2.WantedUpdate) -> None:
        """Take an update in, once, however often it is asked for."""
        update = Update(wanted.id, wanted.runtime, wanted.relaunch, wanted.drain_ms)
        if await self._journal.take_update(update):
            self._waiting.append(update)
            self._wake()

    def look(self) -> None:
        """Begin the next update, if one waits and none is under way."""
        if self._waiting and (self._task is None or self._task.done()):
            update = self._waiting.popleft()
            self._task = asyncio.create_task(self._carry_out(update), name=f"update-{update.runtime}")

    async def close(self) -> None:
        """Leave what is under way to the next host-agent. A command that updates runs on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _carry_out(self, update: Update) -> None:
        log.info("a runtime is updated", runtime=update.runtime, update=update.update_id, state=update.state)
        seats = self._seats(update.runtime)
        for resident in seats:
            resident.hold(HOLD)
        try:
            update = await self._by_steps(update)
        finally:
            for resident in self._residents.values():
                resident.release(HOLD)
        log.info("an update ended", runtime=update.runtime, state=update.state, problem=update.problem)
        self._wake()

    async def _by_steps(self, update: Update) -> Update:
        try:
            manifest = self._manifest(update.runtime)
            found = self._program(manifest, update.runtime)
            program = found.program
            if update.state in (WANTED, DRAINING):
                update = await self._drain(update)
                update, ended = await self._run(update, manifest, found)
                update = await self._judge(update, manifest, program, ended)
            elif update.state == UPDATING:
                update = await self._judge(update, manifest, program, await self._left_over(update))
            if update.state == RELAUNCHING:
                relaunching = Relaunching(self._residents, self._wake, manifest.signs.ready_within_seconds)
                update = await relaunching.carry_out(update, self._tell)
        except FellShort as short:
            update = await self._tell(update, state=FAILED, problem=str(short))
        except FleetError as error:
            why = f"{error.what}: {error.why}" if error.why else error.what
            next_step = f"; {error.next_step}" if error.next_step else ""
            update = await self._tell(update, state=FAILED, problem=f"{why}{next_step}")
        return update

    async def _drain(self, update: Update) -> Update:
        """Wait until every seat of the runtime is available; no message is typed into one meanwhile."""
        deadline = time.monotonic() + update.drain_ms / 1000
        told: list[str] | None = None
        while True:
            busy = [one for one in self._seats(update.runtime) if one.alive and not is_calm(one)]
            names = [one.seat.name for one in busy]
            if names != told:
                told = names
                seen = tuple(Seen(one.seat.name, well=False, detail=f"is {one.state.state}") for one in busy)
                update = await self._tell(update, state=DRAINING, seats=seen)
            if not busy:
                return update
            if time.monotonic() >= deadline:
                states = ", ".join(f"{one.seat.name} ({one.state.state})" for one in busy)
                raise FellShort(f"not available within {update.drain_ms / 1000:g} s: {states}; nothing was changed")
            await asyncio.sleep(_LOOK)  # calm is a length of time: there is no event for it

    async def _run(self, update: Update, manifest: Manifest, found: Found) -> tuple[Update, Ended]:
        program = found.program
        command = self._command(manifest, program)
        runs = {one.seat.agent_id: one.run_id for one in self._seats(update.runtime) if one.alive}
        before = await _version(manifest, program)
        # First the journal: a command that was started is not started again.
        update = await self._tell(update, state=UPDATING, version_before=before, runs=runs, seats=())
        reached("hostagent.update-journalled")
        env = {**self._environment, "PATH": found.path(self._environment.get("PATH", os.defpath))}
        folder = Path(self._environment.get("HOME") or Path.home())
        try:
            running = await Command.start(command, env=env, folder=folder, output=self._output(update))
        except OSError as error:
            raise FellShort(f"{command[0]} cannot be started: {error.strerror}; the seats run as before") from error
        await self._insist(replace(update, pid=running.pid, started=running.started), tell=False)
        reached("hostagent.update-started")
        return update, await running.wait(COMMAND_SECONDS)

    async def _left_over(self, update: Update) -> Ended:
        """Wait for the command that an earlier host-agent started; its status is nobody's any more."""
        running = Command.found(update.pid, update.started) if update.pid else None
        return await running.wait(COMMAND_SECONDS) if running is not None else Ended(None)

    async def _judge(self, update: Update, manifest: Manifest, program: str, ended: Ended) -> Update:
        """Say whether the command has done its work. Raises FellShort."""
        after = await _version(manifest, program)
        update = replace(update, version_after=after, output=tail_of(self._output(update)))
        short = ""
        if ended.late:
            short = f"the command did not end within {COMMAND_SECONDS:.0f} s and was ended"
        elif ended.status not in (0, None):
            short = f"the command ended with {ended.status}"
        elif ended.status is None and after == update.version_before:
            short = "the host-agent ended while the command ran, and the version is as before"
        elif not after:
            short = "the program does not say its version any more"
        if short:
            return await self._tell(update, state=FAILED, problem=f"{short}; the seats run as before")
        old = {one.seat.agent_id: one for one in self._seats(update.runtime) if _runs_another(one, update, program)}
        runs = {agent_id: run_id for agent_id, run_id in update.runs.items() if agent_id in old}
        if update.relaunch and runs:
            return await self._tell(update, state=RELAUNCHING, runs=runs)
        before = update.version_before if update.version_before != after else ""
        seen = tuple(
            Seen(
                one.seat.name,
                well=True,
                detail=f"runs {one.version or before or 'an older one'} until a relaunch"
                if one.seat.agent_id in old
                else f"runs {after}",
            )
            for one in self._seats(update.runtime)
            if one.alive
        )
        return await self._tell(update, state=DONE, seats=seen)

    def _seats(self, runtime: str) -> list[Resident]:
        """Return the seats that run the runtime's own program, by name."""
        found = [
            one for one in self._residents.values() if one.seat.spec.runtime == runtime and not one.seat.spec.command
        ]
        return sorted(found, key=lambda one: one.seat.name)

    def _manifest(self, runtime: str) -> Manifest:
        seat = next(iter(self._seats(runtime)), None)
        if seat is None:
            raise FellShort("no seat of this host runs it any more")
        return read_manifest(seat.seat)

    def _program(self, manifest: Manifest, runtime: str) -> Found:
        """Return the program that the first seat of the runtime is launched with. Raises FleetError."""
        seat = self._seats(runtime)[0].seat
        file = read_env_file(self._home, seat.name)
        around = {**self._environment, **seat.spec.env, **(file.site if file is not None else {})}
        return find_for_seat(self._home, seat.name, manifest, around)

    def _command(self, manifest: Manifest, program: str) -> list[str]:
        first, *rest = manifest.install.update or [""]
        if not first:
            raise FellShort("its manifest names no update command")
        if first == manifest.program:
            return [program, *rest]
        found = shutil.which(first, path=self._environment.get("PATH"))
        if found is None:
            raise FellShort(f"{first}, which its manifest names to update it, is not on this host; nothing was changed")
        return [found, *rest]

    def _output(self, update: Update) -> Path:
        return self._home.logs / f"update-{update.runtime}-{update.update_id}.log"

    async def _tell(self, update: Update, **changes: Any) -> Update:
        """Note and tell how far the update is, however long the journal takes."""
        update = replace(update, **changes)
        await self._insist(update, tell=True)
        return update

    async def _insist(self, update: Update, *, tell: bool) -> None:
        while True:
            try:
                await self._journal.keep_update(update, tell=tell)
            except JournalUnwritable as error:
                log.error("an update waits for the journal", update=update.update_id, why=error.why)
                await asyncio.sleep(_JOURNAL_RETRY)
            else:
                return


def _runs_another(resident: Resident, update: Update, program: str) -> bool:
    """Whether a living seat runs another version than the one that is installed now."""
    if not resident.alive or resident.version == update.version_after:
        return False
    if resident.version or update.version_before != update.version_after:
        return True
    return changed_since(program, resident.began_ms)


async def _version(manifest: Manifest, program: str) -> str:
    try:
        return await asyncio.to_thread(read_version, manifest, program)
    except VersionUnknown as error:
        log.warning("a program does not say its version", program=program, why=error.why)
        return ""
