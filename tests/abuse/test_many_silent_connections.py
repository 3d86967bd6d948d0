"""Hundreds of connections that say nothing, all let go at one time: the listener lives on.

gRPC changes a rotating listener's certificate without a lock against the handshakes under way. A listener that was told
its certificate anew at each of them died of it, by a segmentation fault or a failed check, within two rounds of this.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from mosaic_framework import pki
from mosaic_framework.ids import new_id

CONNECTIONS, ROUNDS = 300, 12

LISTENER = """
import asyncio, sys
from types import SimpleNamespace
import grpc.aio
from mosaic_framework import wire

async def main():
    key, certificate, bundle = (part.encode() for part in sys.stdin.read().split("|"))
    patience = {**dict(wire.SERVER_OPTIONS), "grpc.server_handshake_timeout_ms": 300}
    server = grpc.aio.server(options=list(patience.items()))
    credentials = wire.rotating_server_credentials(  # a new one each time, as of whoever reads it from a file
        lambda: SimpleNamespace(key_pem=key, certificate_pem=certificate, bundle_pem=bundle), for_joiners=False
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""


async def said_nothing(port: int) -> None:
    """Connect, and return when the listener has closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.read()
    except ConnectionResetError:
        pass
    finally:
        writer.close()


@pytest.fixture
def listener() -> Iterator[subprocess.Popen[bytes]]:
    """A listener in a process of its own, which says its port first."""
    authority = pki.Authority.create("abuse.mosaic")
    key, name = pki.new_key(), str(new_id())
    spiffe_id = pki.SpiffeId("abuse.mosaic", "replica", name)
    leaf = authority.issue(key.public_key(), spiffe_id, identity_id=name, identity_epoch=1)
    parts = [pki.key_to_pem(key), pki.certificate_to_pem(leaf), pki.certificate_to_pem(authority.certificate)]
    process = subprocess.Popen([sys.executable, "-c", LISTENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"|".join(parts))
    process.stdin.close()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_listener_outlives_hundreds_of_silent_connections_that_it_lets_go_at_once(
    listener: subprocess.Popen[bytes],
) -> None:
    assert listener.stdout is not None
    port = int(await asyncio.to_thread(listener.stdout.readline))
    for _ in range(ROUNDS):
        async with asyncio.timeout(30):
            await asyncio.gather(*(said_nothing(port) for _ in range(CONNECTIONS)))
        assert listener.poll() is None, f"it died: {listener.returncode}"
