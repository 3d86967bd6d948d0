"""Whether an identity and a control plane still take each other: their roots may have changed without it."""

from __future__ import annotations

import socket
import ssl
import tempfile
from pathlib import Path

from mosaic_framework import wire
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import write_private

_SECONDS = 5.0


def trusted_both_ways(identity: StoredIdentity, address: str, *, private: Path) -> bool:
    """Whether TLS at a fleet listener (host:port) takes the identity, and the identity takes what is shown there.

    `private`: a folder where keys may lie. True as well when nobody answers there: that is told by whoever calls.
    """
    context = ssl.create_default_context(cadata=identity.bundle_pem.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory(dir=private) as folder:  # ssl reads a key from a file only
        path = Path(folder) / "identity.pem"
        write_private(path, identity.certificate_pem + identity.key_pem)
        context.load_cert_chain(path)
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=wire.SERVER_NAME) as channel,
        ):
            # By TLS 1.3 a certificate that is not taken shows only after the handshake: who takes it speaks first.
            return bool(channel.recv(1))
    except (ssl.SSLError, ConnectionResetError):
        return False
    except OSError:
        return True
