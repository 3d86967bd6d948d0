"""Newer leaves shown on connections that were made with older ones, at this replica.

TLS knows only the leaf of its handshake, and a connection may outlive it. Whoever holds a newer leaf of the same
identity shows it there (IdentityService/Present); from then on that connection's calls and streams count as its.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from cryptography import x509
from mosaic_framework import pki, renewal
from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.verify import Claims, verify


class NotARenewal(InvalidInput):
    """This certificate is not a newer one of the same identity."""

    code = "not-a-renewal"


class Presented:
    """Which newer leaf stands for the older one of a connection. Forgets those that have ended."""

    def __init__(self, cluster: ClusterIdentity) -> None:
        self._cluster = cluster
        self._newer: dict[tuple[bytes, str], tuple[datetime, bytes]] = {}

    def newest(self, leaf_pem: bytes, peer: str) -> bytes:
        """Return the leaf (PEM) that the connection of `peer`, made with `leaf_pem`, counts as now."""
        found = self._newer.get(_connection(leaf_pem, peer)) if self._newer else None
        return leaf_pem if found is None else found[1]

    def take(self, leaf_pem: bytes, peer: str, newer_der: bytes, signature: bytes) -> datetime:
        """Let a newer leaf stand for that of the connection of `peer` (address and port); returns its end.

        Raises NotARenewal, NotAuthenticated.
        """
        now = datetime.now(UTC)
        try:
            older, newer = x509.load_pem_x509_certificate(leaf_pem), x509.load_der_x509_certificate(newer_der)
        except ValueError as error:
            raise NotARenewal(why="it cannot be read") from error
        newer_pem = pki.certificate_to_pem(newer)
        claims = self._verify(newer_pem, now)
        # What it counts as may have ended by now: it is the name that counts, and TLS has proven who holds its key.
        known = x509.load_pem_x509_certificate(self.newest(leaf_pem, peer))
        before = self._verify(pki.certificate_to_pem(known), min(now, known.not_valid_before_utc))
        if (claims.spiffe_id, claims.identity_id, claims.identity_epoch) != (
            before.spiffe_id,
            before.identity_id,
            before.identity_epoch,
        ):
            raise NotARenewal(why="it is of another identity")
        if not renewal.is_presented(older, newer, signature):
            raise NotARenewal(why="its key did not sign for this connection")
        for ended in [key for key, (end, _) in self._newer.items() if end <= now]:
            del self._newer[ended]
        key = _connection(leaf_pem, peer)
        if claims.not_after > self._newer.get(key, (now, b""))[0]:
            self._newer[key] = (claims.not_after, newer_pem)
        return self._newer[key][0]

    def _verify(self, pem: bytes, now: datetime) -> Claims:
        return verify(pem, trust_domain=self._cluster.trust_domain, roots=self._cluster.roots, now=now)


def _connection(pem: bytes, peer: str) -> tuple[bytes, str]:
    return hashlib.sha256(pem).digest(), peer
