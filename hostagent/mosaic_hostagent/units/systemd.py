"""Supervision by systemd's user units: the host-agent asks for an agent, and its unit's waiter starts and keeps it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path

import structlog
from mosaic_framework import units
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id

from mosaic_hostagent.seats import ServerKey, Session
from mosaic_hostagent.storage import write_state
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.terminal.server import Launch, name_taken
from mosaic_hostagent.units import launch_file
from mosaic_hostagent.units.supervision import SYSTEMD, Standing
from mosaic_hostagent.units.systemctl import Systemctl, SystemdRefused

_COMING = ("activating", "reloading", "deactivating")

log = structlog.get_logger(__name__)


class SeatNotStarted(FleetError):
    """The seat's unit did not start it."""

    code = "seat-not-started"


class Systemd:
    """Each seat is a `mosaic-agent@` unit, described by a launch file; there is a file exactly for what is kept."""

    restarts = True

    def __init__(
        self,
        *,
        pool: ServerPool,
        systemctl: Systemctl,
        root: Path,
        home: str,
        user: str,
        environment: Mapping[str, str],
        stop_grace: float,
    ) -> None:
        self._pool = pool
        self._systemctl = systemctl
        self._root = root
        self._folder = root / "state" / launch_file.FOLDER
        self._home = home
        self._user = user
        self._environment = dict(environment)
        self._stop_grace = stop_grace
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._kept = self._read_kept()

    async def start(self, launch: Launch, server: ServerKey) -> Session:
        """Let the seat's unit start this launch and nothing else, and return the session. Raises FleetError."""
        async with self._locks[launch.name]:
            await self._write(launch, server, asked=str(new_id()))
            await self._enable(launch)
            try:
                await self._systemctl.run("restart", units.agent_unit(launch.name))
                return await self._find(launch, server)
            except FleetError as error:
                problem = self._problem_of(launch)
                # Whoever asked tells what is wrong, and tries again in its own time.
                await self._systemctl.run("stop", units.agent_unit(launch.name))
                if "duplicate session" in problem:
                    raise name_taken(launch.name, server) from error
                if problem:
                    raise SeatNotStarted("its unit did not start it", why=problem, next_step=error.next_step) from error
                raise

    async def _find(self, launch: Launch, server: ServerKey) -> Session:
        for session in (await self._pool.observe(server, start=False)).sessions:
            if session.agent_id == launch.agent_id and session.run_id == launch.run_id:
                return session
        unit = units.agent_unit(launch.name)
        raise SeatNotStarted("its unit did not start it", next_step=f"journalctl --user -n 20 -u '{unit}'")

    def _problem_of(self, launch: Launch) -> str:
        name = units.instance_of(launch.name)
        return str(launch_file.read_tally(str(self._root), name, {"asked": ""})["problem"])

    async def adopt(self, launch: Launch, server: ServerKey) -> None:
        """Let the seat's unit keep what runs already. Raises FleetError."""
        async with self._locks[launch.name]:
            await self._write(launch, server, asked=str(new_id()))
            await self._enable(launch)
            await self._systemctl.run("start", units.agent_unit(launch.name))

    async def renew(self, launch: Launch, server: ServerKey) -> None:
        """Let the next start of the seat be this launch, should it be kept. Raises StateUnwritable."""
        async with self._locks[launch.name]:
            if self._kept.get(launch.agent_id) == launch.name:
                asked = str(launch_file.read(str(self._root), units.instance_of(launch.name)).get("asked") or new_id())
                await self._write(launch, server, asked=asked)

    async def let_go(self, agent_id: str, *, for_good: bool) -> None:
        """Stop the seat's unit, which ends its session. Raises SystemdRefused."""
        name = self._kept.get(agent_id)
        if name is None:
            return
        async with self._locks[name]:
            # Another agent may have been given the name, and so the unit, meanwhile.
            if self._kept.get(agent_id) == name and name not in self._others(agent_id):
                if for_good:
                    await self._systemctl.run("disable", "--no-reload", units.agent_unit(name))
                await self._systemctl.run("stop", units.agent_unit(name))
                self._path(name).unlink(missing_ok=True)
            self._kept.pop(agent_id, None)

    async def keep_only(self, agent_ids: Collection[str]) -> None:
        """Let go of all seats but these, and of units that have no seat. Tries all; raises the first FleetError."""
        problems: list[FleetError] = []
        for agent_id in set(self._kept) - set(agent_ids):
            try:
                await self.let_go(agent_id, for_good=True)
            except FleetError as error:
                problems.append(error)
        known = {units.agent_unit(name) for name in self._kept.values()}
        for unit in set(units.enabled_units(units.AGENT_TEMPLATE, self._environment)) - known:
            try:
                await self._systemctl.run("disable", "--no-reload", unit)
                await self._systemctl.run("stop", unit)
            except SystemdRefused as error:
                problems.append(error)
        if problems:
            raise problems[0]

    async def awaited(self, agent_ids: Collection[str]) -> frozenset[str]:
        """Return the seats whose unit is between two runs: their waiter rests, or systemd is about to start it."""
        kept = {units.agent_unit(name): agent_id for agent_id, name in self._kept.items() if agent_id in agent_ids}
        states = await self._systemctl.show(list(kept), "ActiveState", "MainPID")
        found = set()
        for unit, row in states.items():
            if (agent_id := kept.get(unit)) is None:
                continue
            state = row.get("ActiveState")
            if state in _COMING or (state == "active" and self._rests(agent_id, row.get("MainPID", ""))):
                found.add(agent_id)
        return frozenset(found)

    def keeps(self, agent_id: str) -> bool:
        """Whether the seat has a launch file."""
        return agent_id in self._kept

    def own_runs(self) -> frozenset[str]:
        """Return the run that each kept seat is to begin, and the latest that its waiter has begun."""
        found = set()
        for name in map(units.instance_of, self._kept.values()):
            launch = launch_file.read(str(self._root), name)
            if launch:
                tally = launch_file.read_tally(str(self._root), name, launch)
                found |= {str(launch["run_id"]), str(tally["latest"])}
        return frozenset(found - {""})

    def standing(self, agent_id: str, name: str) -> Standing:
        """Return the seat's unit, and whether it starts at boot: it is enabled, and the user lingers."""
        unit = units.agent_unit(name)
        enabled = units.is_enabled(unit, self._environment) and units.lingers(self._user)
        return Standing(SYSTEMD, unit if agent_id in self._kept else "", enabled=enabled)

    def _rests(self, agent_id: str, main_pid: str) -> bool:
        name = units.instance_of(self._kept[agent_id])
        launch = launch_file.read(str(self._root), name)
        return bool(launch) and str(launch_file.read_tally(str(self._root), name, launch)["resting"]) == main_pid

    async def _enable(self, launch: Launch) -> None:
        unit = units.agent_unit(launch.name)
        wanted = launch.restarts
        if units.is_enabled(unit, self._environment) != wanted:
            await self._systemctl.run("enable" if wanted else "disable", "--no-reload", unit)

    def _others(self, agent_id: str) -> set[str]:
        return {name for other, name in self._kept.items() if other != agent_id}

    def _path(self, name: str) -> Path:
        return self._folder / f"{units.instance_of(name)}.json"

    async def _write(self, launch: Launch, server: ServerKey, *, asked: str) -> None:
        tmux = self._pool.get(server)
        content = {
            **asdict(launch),
            "folder": str(launch.folder),
            "again": launch.restarts,
            "asked": asked,
            "home": self._home,
            "grace": self._stop_grace,
            "tmux": tmux.command,
            "tmux_tmpdir": tmux.tmpdir,
            "tmux_turn": tmux.turn_path,
            "holder": server.holder,
            "holder_unit": units.holder_unit(server.socket_name),
        }
        await asyncio.to_thread(write_state, self._path(launch.name), json.dumps(content).encode())
        self._kept[launch.agent_id] = launch.name

    def _read_kept(self) -> dict[str, str]:
        kept = {}
        for path in self._folder.glob("*.json"):
            try:
                found = json.loads(path.read_bytes())
                kept[str(found["agent_id"])] = str(found["name"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("a launch file cannot be read; its seat is started anew", file=str(path), why=str(error))
        return kept


class Holders:
    """tmux servers owned by `mosaic-holder@` units."""

    def __init__(self, *, systemctl: Systemctl, state_folder: Path, home: str, environment: Mapping[str, str]) -> None:
        self._systemctl = systemctl
        self._folder = state_folder / "holders"
        self._home = home
        self._environment = dict(environment)

    async def start(self, key: ServerKey, *, tmpdir: str) -> None:
        """Bring a server and our holder session on it up, now and at boot. Raises FleetError."""
        unit = units.holder_unit(key.socket_name)
        wish = {"socket_name": key.socket_name, "holder": key.holder, "home": self._home, "tmux_tmpdir": tmpdir}
        path = self._path(key)
        if not path.exists() or json.loads(path.read_bytes()) != wish:
            write_state(path, json.dumps(wish).encode())
            await self._systemctl.run("restart", unit)
        if not units.is_enabled(unit, self._environment):
            await self._systemctl.run("enable", "--no-reload", unit)
        await self._systemctl.run("start", unit)

    async def stop(self, key: ServerKey) -> None:
        """Hold the server no more: its unit ends our holder session. Raises FleetError."""
        path = self._path(key)
        try:
            if json.loads(path.read_bytes())["holder"] != key.holder:
                return
        except FileNotFoundError:
            return
        unit = units.holder_unit(key.socket_name)
        await self._systemctl.run("disable", "--no-reload", unit)
        await self._systemctl.run("stop", unit)
        path.unlink(missing_ok=True)

    def _path(self, key: ServerKey) -> Path:
        return self._folder / f"{units.instance_of(key.socket_name or 'default')}.json"
