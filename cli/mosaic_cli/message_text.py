"""The text of a message: from -m, a file or standard input; at most 256 KiB of UTF-8, checked before it is sent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from mosaic_framework import secret_shapes
from mosaic_framework.errors import InvalidInput, TooLarge

from mosaic_cli.failures import UsageError

LIMIT = 256 * 1024


def read(text: str | None, file: str | None, *, allow_secrets: bool = False) -> str:
    """Return the message. Raises UsageError, TooLarge, InvalidInput (empty, or not UTF-8) or SecretInText."""
    body = _read(text, file)
    if not allow_secrets:
        secret_shapes.refuse(body)  # the control plane looks again: this is only sooner, and it has not left
    return body


def _read(text: str | None, file: str | None) -> str:
    if text is not None and file is not None:
        raise UsageError("say -m or -f, not both")
    if text is not None:
        # What is no UTF-8 on the command line arrives as lone surrogates, which no wire carries.
        return _checked(text.encode("utf-8", "surrogateescape"), "the text of -m")
    if file is None and sys.stdin.isatty():
        raise UsageError(
            "there is no text to send",
            why="neither -m nor -f was given, and standard input is a terminal",
            next_step="mosaic agent send AGENT -m 'the text', or -f FILE, or: … | mosaic agent send AGENT",
        )
    if file in (None, "-"):
        return _checked(_all(sys.stdin.buffer), "standard input")
    path = Path(str(file))
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder", next_step="name a file")
    with path.open("rb") as stream:
        return _checked(_all(stream), str(path))


def _all(stream: BinaryIO) -> bytes:
    """Read to the end, or until it is surely too much."""
    return stream.read(LIMIT + 1)


def _checked(content: bytes, source: str) -> str:
    if len(content) > LIMIT:
        raise TooLarge(
            f"the message from {source} is larger than 256 KiB",
            why="a message has at most 262144 bytes of UTF-8",
            next_step="put it into a file the agent can read, and send its path",
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{source} is not UTF-8",
            why=f"byte {error.start} is 0x{content[error.start]:02x}",
            next_step="convert it first: iconv -t UTF-8",
        ) from error
    if not text.strip():
        raise InvalidInput("the message is empty", why=f"{source} holds no text")
    return text
