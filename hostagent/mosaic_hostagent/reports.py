"""Reports of hooks: taken from a unix socket, one a connection, or from the spools of reporters that found nobody.

On the wire: one line of JSON (token, event, id, at_ns), then the event's payload, until the writer closes. The answer
is a line `ok` and what the hook is to print, `later` where the report has to be spooled, or `refused CODE` and why.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from mosaic_framework.errors import FleetError, InvalidInput
from mosaic_framework.paths import private_folder

from mosaic_hostagent.sessions import PaneSession, Sessions
from mosaic_hostagent.signals import Report, SeatNotReady

Take = Callable[[PaneSession, Report], Awaitable[str]]
HEAD_LIMIT = 4096
PAYLOAD_LIMIT = 1024 * 1024
AT_ONCE = 128  # reporters that are read at one moment, of up to PAYLOAD_LIMIT each; others spool what they have
_PATIENCE_SECONDS = 5.0
_LATER = b"later\n"  # the reporter spools it
_OUTCOMES = {b"ok": "taken", b"later": "later"}
_DRAINED = ".read"
_LATEST_WRITE_SECONDS = 10.0  # a reporter that opened its spool before it was set aside has long ended (reporter.py)

log = structlog.get_logger(__name__)


class BadReport(InvalidInput):
    """This is no report."""

    code = "bad-report"


class Reports:
    """Takes reports and gives each to `take`, whose answer goes back to the hook."""

    def __init__(self, sessions: Sessions, take: Take) -> None:
        self._sessions = sessions
        self._take = take
        self._draining = asyncio.Lock()
        self.under_way = 0
        self.ended: Callable[[str], None] = lambda _outcome: None
        """told how each connection ended: taken, later, refused or unfinished"""
        self._drained: dict[Path, int] = {}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.under_way += 1
        outcome = "unfinished"
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                if self.under_way > AT_ONCE:
                    reply = await _turned_away(reader)
                else:
                    reply = await self._reply(await _read(reader))
                writer.write(reply)
                await writer.drain()
            outcome = _OUTCOMES.get(reply.partition(b"\n")[0], "refused")
        except (TimeoutError, ConnectionError):
            log.warning("a reporter did not come to its end")
        finally:
            self.under_way -= 1
            self.ended(outcome)
            writer.close()

    async def _reply(self, content: bytes | None) -> bytes:
        try:
            if content is None:
                raise BadReport(why=f"it is larger than {PAYLOAD_LIMIT:,} bytes")
            head, _, payload = content.partition(b"\n")
            token, report = parse(head, payload)
            session = self._sessions.of_token(token)
            return b"ok\n" + (await self._take(session, report)).encode()
        except SeatNotReady:
            return _LATER
        except FleetError as error:
            log.info("a report was refused", code=error.code, why=error.why)
            told = {"what": error.what, "why": error.why, "next": error.next_step}
            return f"refused {error.code}\n{json.dumps(told)}".encode()

    async def drain(self) -> None:
        """Take what reporters spooled while nobody answered them, each session's in its order. Raises OSError."""
        async with self._draining:
            for name in sorted(_names(self._sessions.spools)):
                run_id = name.removesuffix(_DRAINED)
                session = self._sessions.of_run(run_id) or self._sessions.of_ended_run(run_id)
                if session is None:
                    self._forget(self._sessions.spools / name)  # its run ended long ago
                elif name.endswith(_DRAINED) or _set_aside(self._sessions.spools / name):
                    await self._drain(session, self._sessions.spools / f"{run_id}{_DRAINED}")

    async def _drain(self, session: PaneSession, file: Path) -> None:
        begin = self._drained.get(file, 0)
        lines, end, age = _rest(file, begin)
        for line in lines:
            head, _, encoded = line.partition(b"\t")
            try:
                _, report = parse(head, base64.b64decode(encoded))
                await self._take(session, report)
            except SeatNotReady:
                return  # all of it again, later: what was taken is known by its id
            except (FleetError, ValueError) as error:
                log.warning("a spooled report was left out", run=session.run_id, why=str(error))
        self._drained[file] = end
        if lines:
            log.info("spooled reports were taken", run=session.run_id, reports=len(lines))
        if age > _LATEST_WRITE_SECONDS:
            self._forget(file)

    def _forget(self, file: Path) -> None:
        self._drained.pop(file, None)
        file.unlink(missing_ok=True)


def _names(folder: Path) -> list[str]:
    return [file.name for file in private_folder(folder).iterdir()]


def _set_aside(file: Path) -> bool:
    """Rename a spool, so that new reporters begin another; False while the one before is not done with."""
    kept = file.with_name(f"{file.name}{_DRAINED}")
    if kept.exists():
        return False
    file.rename(kept)
    return True


def _rest(file: Path, begin: int) -> tuple[list[bytes], int, float]:
    """Return the whole lines behind `begin`, where they end, and the seconds since the file was last written to."""
    with file.open("rb") as spool:
        spool.seek(begin)
        content = spool.read()
        age = time.time() - os.fstat(spool.fileno()).st_mtime
    whole = content[: content.rfind(b"\n") + 1]
    return whole.splitlines(), begin + len(whole), age


def parse(head: bytes, payload: bytes) -> tuple[str, Report]:
    """Return (token, report). A payload that is no JSON object counts as empty. Raises BadReport."""
    try:
        found = json.loads(head)
        token, event, identity, at = found["token"], found["event"], found["id"], found["at_ns"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadReport(why=f"its first line is not what a reporter writes: {error}"[:200]) from None
    if not all(isinstance(text, str) and len(text) <= 200 for text in (token, event, identity)):
        raise BadReport(why="a field of its first line is no text")
    if not isinstance(at, int) or isinstance(at, bool):
        raise BadReport(why="at_ns is no whole number")
    return token, Report(identity, event, at / 1e9, _object(payload))


def _object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload) if payload.strip() else {}
    except (ValueError, RecursionError):
        log.debug("an event's payload is no JSON", size=len(payload))
        return {}
    return found if isinstance(found, dict) else {}


async def _read(reader: asyncio.StreamReader) -> bytes | None:
    """Return everything, or None when it is too much (the rest is read and dropped)."""
    content = bytearray()
    while part := await reader.read(65_536):
        if len(content) <= HEAD_LIMIT + PAYLOAD_LIMIT:
            content += part
    return bytes(content) if len(content) <= HEAD_LIMIT + PAYLOAD_LIMIT else None


async def _turned_away(reader: asyncio.StreamReader) -> bytes:
    """Read everything and keep nothing: a reporter that is cut off while it writes would not read the answer."""
    while await reader.read(65_536):
        pass
    return _LATER
