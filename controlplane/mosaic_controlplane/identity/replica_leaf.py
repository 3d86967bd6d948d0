"""The leaf that this replica's listeners show: made anew at half its life, and when another root begins to sign.

And when the clock was put back to before the leaf is valid: a replica that started with a clock an hour ahead, as after
a boot without network time, would be refused by all for that hour.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from uuid import UUID

import structlog
from cryptography import x509
from mosaic_framework import pki, renewal
from mosaic_framework.errors import FleetError

from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity
from mosaic_controlplane.identity.verify import verify

_LOOK_SECONDS = 2.0
"""between two looks at the clock, of whose jumps nobody tells"""

log = structlog.get_logger(__name__)


class ReplicaLeaf:
    """Has the leaf in `current`. gRPC takes it at each handshake, from its own threads; connections that stand stay."""

    def __init__(self, cluster: ClusterIdentity, replica_id: UUID) -> None:
        self._cluster = cluster
        self._replica_id = replica_id
        self._changed = asyncio.Event()
        self.current = self._made()

    def roots_changed(self) -> None:
        """Show a leaf of the root that signs now, and take leaves of all roots that are trusted now."""
        self.current = self._made()
        self._changed.set()

    async def run(self) -> None:
        """Make the leaf anew at half its life, and when the clock shows a time before it, until cancelled."""
        while True:
            certificate = x509.load_pem_x509_certificate(self.current.certificate_pem)
            valid_from, at = certificate.not_valid_before_utc, renewal.renew_at(certificate)
            while valid_from <= (now := datetime.now(UTC)) < at:
                # In pieces: a machine that was suspended must find its leaf old when it wakes up.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min((at - now).total_seconds(), _LOOK_SECONDS)):
                        await self._changed.wait()
                    break
            if self._changed.is_set():
                self._changed.clear()
                continue
            try:
                self.current = self._made()
                log.info("this replica's leaf was renewed", until=self.current.not_after.isoformat())
            except FleetError as error:
                log.error("this replica's leaf cannot be renewed", why=error.why or error.what)
                await asyncio.sleep(1.0)

    def _made(self) -> ServerIdentity:
        """Return a new leaf, checked: gRPC would keep an old one without a word, and run with it into its end."""
        made = self._cluster.issue_replica_leaf(self._replica_id)
        verify(
            made.certificate_pem,
            trust_domain=self._cluster.trust_domain,
            roots=self._cluster.roots,
            now=datetime.now(UTC),
        )
        key = pki.key_from_pem(made.key_pem)
        assert x509.load_pem_x509_certificate(made.certificate_pem).public_key() == key.public_key()
        return made
