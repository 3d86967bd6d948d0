"""One tmux server: our holder session on it, and the sessions of our seats. Nothing else on it is ever touched."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import structlog
from mosaic_framework.paths import runtime_root, tmux_folder

from mosaic_hostagent.environment import inheritable
from mosaic_hostagent.locks import FileLock, LockTaken
from mosaic_hostagent.seats import ServerKey, Session
from mosaic_hostagent.terminal.attaching import Attaching
from mosaic_hostagent.terminal.client import DETACH_SECONDS, ControlClient, answer_of
from mosaic_hostagent.terminal.control_mode import REPLY_SECONDS, Command, Conditional, ControlMode, Reply
from mosaic_hostagent.terminal.panes import PANE_FORMAT, Observed, read_panes
from mosaic_hostagent.terminal.problems import (
    SessionNameTaken,
    TerminalLost,
    TmuxMissing,
    TmuxRefused,
    TmuxServerHeld,
    TmuxTooOld,
)
from mosaic_hostagent.terminal.stale import LISTING, end_stale_clients
from mosaic_hostagent.terminal.starting import holder_commands, session_name, start_commands
from mosaic_hostagent.waiting import wait_at_most

OLDEST_TMUX = (3, 2)
SPAWN_SECONDS = REPLY_SECONDS
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start in a seat's new session. `argv[0]` is an absolute path or found by the seat's PATH."""

    agent_id: str
    name: str
    run_id: str
    generation: int
    restart: int
    launch_digest: str
    argv: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    model: str = ""
    reset: int = 0
    restarts: bool = True
    """whether the program is started again when it ends by itself"""


def name_taken(agent: str, key: ServerKey) -> SessionNameTaken:
    """Return the error for a session of an agent's name that somebody else made."""
    return SessionNameTaken(
        f"a tmux session named {session_name(agent)!r} is on the server {key.socket_name or 'default'!r}"
        " and is not this fleet's",
        next_step="end or rename it, or give the agent another name",
    )


async def tmux_version(env: Mapping[str, str]) -> tuple[int, int]:
    """Return the version of the tmux on PATH. Raises TmuxMissing or TmuxTooOld."""
    try:
        process = await asyncio.create_subprocess_exec(
            "tmux", "-V", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=dict(env)
        )
    except FileNotFoundError:
        raise TmuxMissing from None
    output, _ = await process.communicate()
    text = output.decode(errors="replace").strip()
    found = re.search(r"(\d+)\.(\d+)", text)
    if found is None:
        if "master" in text or "openbsd" in text:
            return (99, 0)  # built from source, or the base system's own: newer than any release we ask for
        raise TmuxTooOld(why=f"`tmux -V` says {text[:80]!r}")
    version = (int(found[1]), int(found[2]))
    if version < OLDEST_TMUX:
        raise TmuxTooOld(why=f"it is {text[:80]}; 3.2 or newer is needed")
    return version


class Holders(Protocol):
    """Owners of tmux servers other than the host-agent."""

    async def start(self, key: ServerKey, *, tmpdir: str) -> None:
        """Bring a server and our holder session on it up. Raises FleetError."""

    async def stop(self, key: ServerKey) -> None:
        """End our holder session and hold the server no more. Raises FleetError."""


class TmuxServer:
    """A connection to one tmux server. `home` (8 hex digits) marks our sessions among those of others."""

    def __init__(
        self, key: ServerKey, *, home: str, environment: Mapping[str, str], holders: Holders | None = None
    ) -> None:
        self.key = key
        self.attaching = Attaching(lambda: self.turn_path)
        self.on_sessions_changed: Callable[[], None] = lambda: None
        self._holders = holders
        self._home = home
        self._env = inheritable(environment)
        self._tmux = ["tmux", "-L", key.socket_name] if key.socket_name else ["tmux"]
        self._control: ControlMode | None = None
        self._clients: set[ControlClient] = set()
        self._lock: FileLock | None = None
        self._opening = asyncio.Lock()

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.key.socket_name or "default"

    @property
    def holder_target(self) -> str:
        """Return what names our holder session in a tmux command."""
        return f"={self.key.holder}:"

    @property
    def command(self) -> list[str]:
        """The argument vector that names this server."""
        return list(self._tmux)

    @property
    def tmpdir(self) -> str:
        """The folder under which tmux keeps its sockets; empty for its own choice."""
        return self._env.get("TMUX_TMPDIR", "")

    @property
    def socket_path(self) -> Path:
        """Where tmux keeps the server's socket."""
        return tmux_folder(self._env).resolve() / (self.key.socket_name or "default")

    @property
    def turn_path(self) -> str:
        """The file that says whose turn at the server it is (turn.py)."""
        return str(self._beside("turn"))

    def hold(self) -> None:
        """Take the lock on this server, once. Raises TmuxServerHeld while another host-agent has it."""
        if self._lock is not None:
            return
        try:
            self._lock = FileLock.take(self._beside("lock"), home=self._home)
        except LockTaken as taken:
            raise TmuxServerHeld(
                f"the tmux server {self.name!r} is driven by another host-agent",
                why=f"it has pid {taken.holder.get('pid', 'unknown')}",
            ) from None

    def _beside(self, kind: str) -> Path:
        digest = hashlib.sha256(os.fsencode(self.socket_path)).hexdigest()[:16]
        return runtime_root() / f"tmux-{digest}.{kind}"

    async def control(self) -> ControlMode:
        """Return the living connection, made anew if it was lost, with the server and our holder if they are gone.

        Raises TmuxMissing, TmuxTooOld, TmuxServerHeld, SessionNameTaken, TerminalLost or TmuxRefused.
        """
        async with self._opening:
            if self._control is not None and not self._control.ended.is_set():
                return self._control
            self.hold()
            await tmux_version(self._env)
            await self._start_holder()
            return await self._attach()

    @property
    def connected(self) -> bool:
        """Whether there is a living connection."""
        return self._control is not None and not self._control.ended.is_set()

    async def attach_existing(self) -> bool:
        """Connect only if the server runs with a holder of ours; say whether it does. Starts nothing."""
        async with self._opening:
            if self.connected:
                return True
            await tmux_version(self._env)
            if await self._holder_owner() != self._home:
                return False
            self.hold()
            await self._attach()
            return True

    async def run(self, *commands: Command | Conditional) -> list[Reply]:
        """Run commands on the living connection; see ControlMode.run."""
        control = await self.control()
        async with self.attaching.others():
            return await control.run(*commands)

    async def observe(self) -> Observed:
        """Return our sessions. Of several panes in one, the one that we started counts."""
        (rows,) = await self.run(["list-panes", "-a", "-F", PANE_FORMAT])
        return read_panes(rows, self.key, home=self._home)

    async def observe_one(self, session: Session) -> Session | None:
        """Return a session of ours as it is now; None when it is gone. Raises TerminalLost."""
        try:
            (rows,) = await self.run(["list-panes", "-s", "-t", f"{session.session_id}:", "-F", PANE_FORMAT])
        except TmuxRefused:
            return None
        found = read_panes(rows, self.key, home=self._home).sessions
        return next((one for one in found if one.run_id == session.run_id), None)

    async def look(self) -> Observed:
        """Return our sessions, by a tmux of its own: takes no lock and starts nothing. Raises TerminalLost."""
        if not self.socket_path.exists():
            return Observed([], {})
        status, text = await self._spawn("-N", "list-panes", "-a", "-F", PANE_FORMAT)
        if status != 0:
            if "no server running" in text or "error connecting" in text:
                return Observed([], {})
            raise TerminalLost(f"the tmux server {self.name!r} does not answer", why=text.strip()[:300])
        return read_panes(text.splitlines(), self.key, home=self._home)

    async def start(self, launch: Launch) -> Session:
        """Start a program in a session of its own and mark it ours, with nothing of anybody's between the two.

        Raises SessionNameTaken when somebody else's session has that name, and what `control` raises.
        """
        commands = start_commands(
            asdict(launch),
            home=self._home,
            argv=launch.argv,
            env=launch.env,
            global_variables=await self._global_variables(),
        )
        try:
            replies = await self.run(*commands)
        except TmuxRefused as refused:
            if "duplicate session" in refused.why:
                raise name_taken(launch.name, self.key) from None
            raise
        session_id, pane_id, pid = replies[0][0].split("\t")
        return Session(
            server=self.key,
            session_id=session_id,
            name=session_name(launch.name),
            pane_id=pane_id,
            pid=int(pid),
            alive=True,
            exit_status=None,
            agent_id=launch.agent_id,
            run_id=launch.run_id,
            generation=launch.generation,
            restart=launch.restart,
            launch_digest=launch.launch_digest,
            model=launch.model,
            reset=launch.reset,
        )

    async def mark_reset(self, session: Session) -> None:
        """Write the run and the reset of a session on it, both at once."""
        target = f"{session.session_id}:"
        await self.run(
            ["set-option", "-t", target, "@mosaic_run", session.run_id],
            ["set-option", "-t", target, "@mosaic_reset", str(session.reset)],
        )

    async def attach_client(self, session_id: str, flags: str) -> ControlClient:
        """Start a control client on a session; its end, in `attaching.others`, is the caller's. Raises TerminalLost."""
        control = await self.control()
        async with self.attaching.alone():
            await self._let_go(control)
            try:
                client = await ControlClient.start(self._tmux, f"{session_id}:", flags, env=self._env)
            except OSError as error:
                raise TerminalLost("no tmux client can be started", why=str(error)) from error
        self._clients.add(client)
        return client

    async def reap(self) -> None:
        """Make tmux look for children that have ended: it can miss the kernel's word, and they stay zombies."""
        ((pid,),) = await self.run(["display-message", "-p", "#{pid}"])
        os.kill(int(pid), signal.SIGCHLD)

    async def kill(self, session: Session) -> None:
        """End exactly this session. Ids are never used twice in a server's life; one that is gone already is fine."""
        try:
            await self.run(["kill-session", "-t", f"{session.session_id}:"])
        except TmuxRefused as refused:
            if "can't find session" not in refused.why:
                raise

    async def kill_holder(self) -> None:
        """End our holder session, and with it a server that has nothing else. The connection is lost by this."""
        try:
            await self.run(["kill-session", "-t", f"={self.key.holder}:"])
        except TerminalLost:
            log.debug("the tmux server ended with its holder", server=self.name)

    async def close(self) -> None:
        """Detach and let go of the lock. Sessions go on. May be called twice."""
        if self._control is not None:
            async with self.attaching.others():
                await self._control.close()
            self._control = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def _let_go(self, control: ControlMode) -> None:
        """Wait for the clients whose session is gone: that one has left, too, is told to the others."""
        self._clients = {client for client in self._clients if not client.ended.is_set()}
        if not self._clients:
            return
        (attached,) = await control.run(["list-clients", "-F", "#{client_pid}"])
        deadline = asyncio.get_running_loop().time() + DETACH_SECONDS
        for client in self._clients:
            if str(client.pid) not in attached:
                await wait_at_most(client.ended, deadline - asyncio.get_running_loop().time())

    async def _attach(self) -> ControlMode:
        if self._control is None:
            await self._end_stale()
        else:
            async with self.attaching.others():
                await self._control.close()
        async with self.attaching.alone():
            control = await ControlMode.attach(self._tmux, self.key.holder, env=self._env)
        self._control = control
        control.on_sessions_changed = lambda: self.on_sessions_changed()
        return control

    async def _end_stale(self) -> None:
        """End what a killed host-agent left attached, before we attach: that they leave is news, too."""
        status, text = await self._spawn("-N", *LISTING)
        if status == 0:
            await end_stale_clients(text.splitlines(), self.key.holder)

    async def _start_holder(self) -> None:
        owner = await self._holder_owner()
        if owner == self._home and self._holders is None:
            return
        if owner not in (None, self._home):
            raise SessionNameTaken(
                f"a tmux session named {self.key.holder!r} is on the server {self.name!r} and is not this fleet's",
                why="it was made by a person, or by the host-agent of another MOSAIC_HOME",
                next_step="end it, or give this fleet a tmux.socket_name of its own in its roster",
            )
        if self._holders is not None:
            async with self.attaching.others():
                await self._holders.start(self.key, tmpdir=self.tmpdir)
            return
        commands = holder_commands(self.key.holder, home=self._home, own_server=bool(self.key.socket_name))
        command = [word for part in commands for word in (*part, ";")][:-1]
        configured = ["-f", os.devnull] if self.key.socket_name else []
        async with self.attaching.others():
            status, text = await self._spawn(*configured, *command)
        if status != 0 and await self._holder_owner() != self._home:
            raise TerminalLost(f"the tmux server {self.name!r} could not be started", why=text[:500])
        log.info("holder session started", server=self.name, holder=self.key.holder)

    async def _holder_owner(self) -> str | None:
        """Return the home that marked the holder session, "" for nobody's, None where there is no such session."""
        target = f"={self.key.holder}:"
        status, text = await self._spawn("display-message", "-p", "-t", target, "#{session_name}\t#{@mosaic_home}")
        name, _, owner = text.strip("\n").partition("\t")
        return owner if status == 0 and name == self.key.holder else None

    async def _spawn(self, *arguments: str) -> tuple[int, str]:
        """Run a tmux of its own; return its exit status and all that it printed. Raises TerminalLost after 10 s."""
        try:
            return await answer_of([*self._tmux, "-u", *arguments], env=self._env, seconds=SPAWN_SECONDS)
        except TimeoutError:
            why = f"it said nothing within {SPAWN_SECONDS:g} s"
            raise TerminalLost(f"the tmux server {self.name!r} does not answer", why=why) from None

    async def _global_variables(self) -> list[str]:
        (lines,) = await self.run(["show-environment", "-g"])
        return [line.partition("=")[0] for line in lines if not line.startswith("-")]
