"""Clients that connect and then do nothing, or half of what comes next."""

from __future__ import annotations

import asyncio
import time

from tests.support.raw_garbage import CLIENT_HELLO, PREFACE, SETTINGS, Door, frame

HALVES = {
    "a connection and nothing": (False, b""),
    "half of a TLS handshake": (False, CLIENT_HELLO[:40]),
    "TLS and nothing": (True, b""),
    "half of HTTP/2's preface": (True, PREFACE[:10]),
    "half of a frame": (True, PREFACE + frame(SETTINGS, 0, 0, b"") + b"\x00\x40\x00\x00"),
}


async def linger(door: Door, half: str, *, longest: float) -> float:
    """Send a half and stay; returns for how many seconds the other side lets it. Raises TimeoutError at `longest`."""
    inside, content = HALVES[half]
    reader, writer = await door.open(secure=inside)
    began = time.monotonic()
    try:
        writer.write(content)
        async with asyncio.timeout(longest):
            try:
                while await reader.read(65_536):
                    pass
            except OSError as error:
                if isinstance(error, TimeoutError):
                    raise
            return time.monotonic() - began
    finally:
        writer.transport.abort()
