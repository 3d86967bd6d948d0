"""One connection to a tmux server in control mode: commands down, their replies back, in order.

The client is attached to the holder session with `no-output`, so that the server never queues terminal output for it.
tmux answers each command with `%begin time number flags`, its output, and `%end` or `%error` with the same three words.
Flag bit 0 marks what this client asked for; other blocks and notifications are skipped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from mosaic_hostagent.terminal.client import ControlClient
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused
from mosaic_hostagent.terminal.quoting import command_line

REPLY_SECONDS = 10.0
FLAGS = "no-output,ignore-size"
VIEW_FLAGS = "read-only,ignore-size,pause-after=1"
"""Of a client that sees output: see tap.py."""
_CHUNK = 256 * 1024

log = structlog.get_logger(__name__)

Command = Sequence[str]
Reply = list[str]


@dataclass(frozen=True, slots=True)
class Conditional:
    """Commands that tmux runs if a format is true of a pane in that very moment, else others; as many of both.

    It comes last in a line: tmux would run what follows even when one of them is refused. It gives a reply of its own,
    and one for each command.
    """

    pane_id: str
    condition: str
    then: Sequence[Command]
    otherwise: Sequence[Command]

    def line(self) -> str:
        """Return it as one command of tmux."""
        if len(self.then) != len(self.otherwise):
            raise AssertionError("the replies could not be counted")
        both = (" ; ".join(map(command_line, commands)) for commands in (self.then, self.otherwise))
        return command_line(["if-shell", "-F", "-t", self.pane_id, self.condition, *both])


@dataclass(slots=True)
class _Waiting:
    """A line sent to tmux: one reply for each of its commands, fewer when one is refused."""

    commands: int
    future: asyncio.Future[list[Reply]]
    replies: list[Reply] = field(default_factory=list)


class ReplyParser:
    """Turns the bytes of a control client into finished blocks (pure)."""

    def __init__(self) -> None:
        self._rest = b""
        self._begin: bytes | None = None
        self._lines: list[str] = []
        self.sessions_changed = False
        """whether tmux said, since this was last cleared, that a session began or ended"""

    def feed(self, data: bytes) -> list[tuple[bool, bool, Reply]]:
        """Return the blocks that `data` finishes: (asked for by this client, succeeded, lines)."""
        done = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._begin is None:
                if line.startswith(b"%begin "):
                    self._begin = line[len(b"%begin ") :]
                self.sessions_changed |= line == b"%sessions-changed"
                continue
            # Only the words of this very %begin end the block: a pane may show any text.
            if line in (b"%end " + self._begin, b"%error " + self._begin):
                ours = int(self._begin.rpartition(b" ")[2] or b"0") & 1 == 1
                done.append((ours, line.startswith(b"%end"), self._lines))
                self._begin, self._lines = None, []
            else:
                self._lines.append(line.decode("utf-8", errors="replace"))
        return done


class ControlMode:
    """A live control-mode client. When the server goes away every call raises TerminalLost; open a new one then."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._waiting: deque[_Waiting] = deque()
        self._attached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._parser = ReplyParser()
        self._lost: TerminalLost | None = None
        self.ended = asyncio.Event()
        self.on_sessions_changed: Callable[[], None] = lambda: None
        self._reader = asyncio.create_task(self._read(), name="tmux-control-reader")

    @classmethod
    async def attach(cls, tmux: Sequence[str], session: str, *, env: Mapping[str, str]) -> ControlMode:
        """Attach to `session` of the server that the argument vector `tmux` names. Raises TerminalLost."""
        client = cls(await ControlClient.start(tmux, f"={session}:", FLAGS, env=env))
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                attached = await asyncio.shield(client._attached)
        except TimeoutError:
            attached = False
        except (TerminalLost, asyncio.CancelledError):
            await client.close()
            raise
        if not attached:
            await client.close()
            raise TerminalLost(f"tmux did not attach to its session {session!r}")
        return client

    @property
    def pid(self) -> int:
        """The process id of the client."""
        return self._client.pid

    async def run(self, *commands: Command | Conditional) -> list[Reply]:
        """Run `commands` as one line, with nothing of anybody else's between them; return a reply for each.

        Raises TmuxRefused when one is refused (those after it are not run) and TerminalLost without an answer.
        """
        if self._lost is not None:
            raise self._lost
        if any(isinstance(command, Conditional) for command in commands[:-1]):
            raise AssertionError("a condition comes last")
        waiting = _Waiting(sum(map(_replies, commands)), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._client.stdin.write(" ; ".join(map(_line, commands)).encode() + b"\n")
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                return await asyncio.shield(waiting.future)
        except TimeoutError:
            self._lose("it did not answer within 10 s")
            waiting.future.exception()
            raise TerminalLost(why="it did not answer within 10 s") from None

    async def close(self) -> None:
        """Detach. The server and its sessions go on."""
        self._lose("it was closed")
        await self._client.end(self._reader)

    async def _read(self) -> None:
        reason = "the server ended"
        try:
            while data := await self._client.read(_CHUNK):
                for ours, succeeded, lines in self._parser.feed(data):
                    self._take(ours, succeeded, lines)
                if self._parser.sessions_changed:
                    self._parser.sessions_changed = False
                    self.on_sessions_changed()
        except OSError as error:
            reason = str(error)
        finally:
            self._lose(reason)

    def _take(self, ours: bool, succeeded: bool, lines: Reply) -> None:
        if not self._attached.done():
            self._attached.set_result(succeeded)
            return
        if not ours or not self._waiting:
            return
        waiting = self._waiting[0]
        if succeeded:
            waiting.replies.append(lines)
            if len(waiting.replies) < waiting.commands:
                return
        self._waiting.popleft()
        if waiting.future.done():
            return
        if succeeded:
            waiting.future.set_result(waiting.replies)
        else:
            waiting.future.set_exception(TmuxRefused(why=" ".join(lines)[:500]))
            waiting.future.exception()  # marked as seen: whoever asked may have been cancelled

    def _lose(self, reason: str) -> None:
        if self._lost is not None:
            return
        self._lost = TerminalLost(why=reason)
        if not self._attached.done():
            self._attached.set_exception(self._lost)
            self._attached.exception()
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_exception(self._lost)
                waiting.future.exception()
        self._waiting.clear()
        self.ended.set()


def _replies(command: Command | Conditional) -> int:
    return 1 + len(command.then) if isinstance(command, Conditional) else 1


def _line(command: Command | Conditional) -> str:
    return command.line() if isinstance(command, Conditional) else command_line(command)
