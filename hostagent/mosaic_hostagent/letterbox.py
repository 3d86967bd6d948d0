"""A program that takes messages without keystrokes: one connection to its unix socket a message, JSON lines both ways.

The program greets with `{"ready": true, "idle": BOOL, "refuses": WHY}` ("" when it would take one). We write
`{"id", "text", "only_idle"}`; it answers `{"id", "given": true}` or `{"id", "refused": WHY}`. Its side is
framework/runtimes/signals/mosaic-letterbox.mjs.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

_GREETING_SECONDS = 0.5
_ANSWER_LIMIT = 65_536
_WHY_LIMIT = 200


class LetterboxAway(Exception):
    """Nobody answers there; nothing was given."""


class LetterboxSilent(Exception):
    """It was given a message, and its answer did not come or cannot be read."""


class Letterbox:
    """One connection, for one message; `idle` and `refuses` are as the program greeted. Close it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, idle: bool, refuses: str) -> None:
        self._reader = reader
        self._writer = writer
        self.idle = idle
        self.refuses = refuses

    @classmethod
    async def open(cls, path: Path) -> Letterbox:
        """Connect, and hear the program itself. Raises LetterboxAway."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(path), limit=_ANSWER_LIMIT)
        except (OSError, ValueError) as error:
            raise LetterboxAway(str(error)) from error
        try:
            # A connection proves a kernel's queue; only the greeting proves a program that reads.
            async with asyncio.timeout(_GREETING_SECONDS):
                greeting = _object(await reader.readline())
        except (OSError, ValueError, TimeoutError) as error:
            writer.close()
            raise LetterboxAway("it does not greet") from error
        if greeting.get("ready") is not True:
            writer.close()
            raise LetterboxAway("it greets as something else")
        return cls(reader, writer, idle=greeting.get("idle") is True, refuses=_reason(greeting.get("refuses")))

    async def give(self, message_id: str, text: str, *, only_idle: bool) -> str:
        """Give the message; return "" when the program has it, else why it did not take it. Raises LetterboxSilent."""
        line = json.dumps({"id": message_id, "text": text, "only_idle": only_idle})
        try:
            self._writer.write(line.encode() + b"\n")
            await self._writer.drain()
            answer = _object(await self._reader.readline())
        except (OSError, ValueError) as error:
            raise LetterboxSilent(str(error)) from error
        if answer.get("id") == message_id and answer.get("given") is True:
            return ""
        if answer.get("id") == message_id and (refused := _reason(answer.get("refused"))):
            return refused
        raise LetterboxSilent("it closed without an answer" if not answer else "its answer is not understood")

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def _object(line: bytes) -> dict[str, Any]:
    found = json.loads(line) if line.strip() else {}
    return found if isinstance(found, dict) else {}


def _reason(told: object) -> str:
    return " ".join(told.split())[:_WHY_LIMIT] if isinstance(told, str) else ""
