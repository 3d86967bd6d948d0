"""Connections that no honest client makes: raw bytes, halves of TLS handshakes, broken HTTP/2; by a seed."""

from __future__ import annotations

import asyncio
import random
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
CLIENT_HELLO = bytes.fromhex(
    "16030100c8010000c40303" + "11" * 32 + "20" + "22" * 32 + "0006130113021303" + "0100" + "0075"
)
WAIT_SECONDS = 0.3


def frame(kind: int, flags: int, stream: int, content: bytes, *, length: int | None = None) -> bytes:
    """Return one HTTP/2 frame; `length` lies about its content's."""
    size = len(content) if length is None else length
    return struct.pack(">I", size & 0xFFFFFF)[1:] + struct.pack(">BBI", kind, flags, stream) + content


@dataclass(frozen=True)
class Door:
    """Where garbage goes: a TCP address or a unix socket, and how TLS is spoken there, if at all."""

    address: str
    tls: ssl.SSLContext | None = None

    async def open(self, *, secure: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = self.tls if secure else None
        if self.address.startswith("unix:"):
            return await asyncio.open_unix_connection(self.address.removeprefix("unix:"))
        host, _, port = self.address.rpartition(":")
        return await asyncio.open_connection(
            host, int(port), ssl=context, server_hostname="mosaic-controlplane" if context else None
        )


def tls_context(authority: Path | bytes, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Return how a client of ours speaks TLS, with HTTP/2."""
    data = authority.read_text() if isinstance(authority, Path) else authority.decode()
    context = ssl.create_default_context(cadata=data)
    context.set_alpn_protocols(["h2"])
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def requests(source: random.Random) -> tuple[bool, bytes]:
    """Return (whether inside of TLS, bytes) of one garbage connection."""
    made: list[tuple[bool, Callable[[], bytes]]] = [
        (False, lambda: source.randbytes(source.choice((1, 10, 500, 70_000)))),
        (False, lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (False, lambda: CLIENT_HELLO[: source.randrange(1, len(CLIENT_HELLO))]),
        (False, lambda: CLIENT_HELLO + source.randbytes(300)),
        (False, lambda: b"\x16\x03\x01\xff\xff" + source.randbytes(2_000)),
        (True, lambda: source.randbytes(source.choice((1, 100, 10_000)))),
        (True, lambda: b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"z" * 5_000),
        (True, lambda: PREFACE[: source.randrange(1, len(PREFACE))]),
        (True, lambda: PREFACE + source.randbytes(source.choice((9, 200, 5_000)))),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, b"") + frame(DATA, 0, 1, b"x" * 100, length=0xFFFFFF)),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, source.randbytes(6 * source.randrange(1, 40)))),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff")),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, b"") * source.choice((100, 2_000))),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, b"") + frame(PING, 0, 0, b"12345678") * 500),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, b"") + frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff") * 3),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 0x4, 1, source.randbytes(80))),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 0, 1, b"") + _continuations(source)),
        (True, lambda: PREFACE + frame(SETTINGS, 0, 0, b"") + _many_streams(source)),
        (
            True,
            lambda: (
                PREFACE + frame(SETTINGS, 0, 0, b"") + frame(GOAWAY, 0, 0, b"\0" * 8) + frame(PUSH, 4, 2, b"\0" * 9)
            ),
        ),
        (
            True,
            lambda: (
                PREFACE + frame(SETTINGS, 0, 0, b"") + frame(source.randrange(10, 256), 255, 7, source.randbytes(40))
            ),
        ),
        (
            True,
            lambda: (
                PREFACE
                + b"".join(
                    frame(
                        source.randrange(10),
                        source.randrange(256),
                        source.randrange(8),
                        source.randbytes(source.randrange(60)),
                    )
                    for _ in range(40)
                )
            ),
        ),
    ]
    inside, make = source.choice(made)
    return inside, make()


def _continuations(source: random.Random) -> bytes:
    """Headers that never end."""
    return frame(CONTINUATION, 0, 1, b"\x40\x01a\x7f\x80\x01" + b"b" * 255) * source.choice((10, 1_000))


def _many_streams(source: random.Random) -> bytes:
    """Streams that are opened and reset at once."""
    opened = (
        frame(HEADERS, 0x4, number, b"\x83\x87\x84\x41\x01x") + frame(RST, 0, number, b"\0\0\0\x08")
        for number in range(1, 2 * source.choice((10, 1_000)), 2)
    )
    return b"".join(opened)


async def throw(door: Door, source: random.Random) -> str:
    """Make one garbage connection and wait for the other side to close it; returns how it ended.

    One that is still open after WAIT_SECONDS is closed by us: how long a silent one stays is another test's matter.
    """
    inside, content = requests(source)
    if door.address.startswith("unix:"):
        inside = False
    try:
        async with asyncio.timeout(5):
            reader, writer = await door.open(secure=inside)
    except (OSError, TimeoutError) as error:
        return f"not opened: {type(error).__name__}"
    try:
        writer.write(content)
        async with asyncio.timeout(WAIT_SECONDS):
            await writer.drain()
            while await reader.read(65_536):
                pass
    except TimeoutError:
        return "closed here"
    except OSError:
        return "reset there"
    else:
        return "closed there"
    finally:
        writer.transport.abort()
