"""Trust bundles of peers: kept apart, one a pairing, each checked before it is taken.

TLS knows one list of roots, the union of all peers', and so would let one peer's authority sign names of another. It
only decides who gets as far as being looked at: whose a leaf is, is decided against its own pairing's bundle alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Sequence

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mosaic_framework import pki
from mosaic_framework.errors import InvalidInput
from mosaic_proto.v1 import federation_pb2 as pb

from mosaic_controlplane.federation.errors import BadPairing
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.peer import PeerRow

MOST_ROOTS = 8
MOST_ADDRESSES = 32

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?):[1-9][0-9]{0,4}")

log = structlog.get_logger(__name__)


def checked_bundle(ders: Sequence[bytes], *, trust_domain: str, ours: Collection[x509.Certificate] = ()) -> bytes:
    """Return a bundle as PEM. Raises BadPairing unless each root is an authority of `trust_domain`, and none of `ours`.

    A root that has ended may be in it: leaves by it are refused wherever they are shown.
    """
    if not 1 <= len(ders) <= MOST_ROOTS:
        raise BadPairing("the other cluster's trust bundle is not usable", why=f"it has 1 to {MOST_ROOTS} roots")
    roots = []
    for der in ders:
        try:
            root = x509.load_der_x509_certificate(der)
            _check_root(root, trust_domain)
        except BadPairing:
            raise
        except Exception as error:  # a parser met bytes that another cluster chose
            raise _bad("a root in it cannot be read") from error
        if root in ours:
            raise _bad("a root in it is one of this cluster's")
        if root not in roots:
            roots.append(root)
    return b"".join(pki.certificate_to_pem(root) for root in roots)


def _check_root(root: x509.Certificate, trust_domain: str) -> None:
    key = root.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad("the key of a root in it is not ECDSA P-256")
    if not root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise _bad("what it has is not an authority")
    names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [f"spiffe://{trust_domain}"]:
        raise _bad(f"a root in it is not of {trust_domain}")
    root.verify_directly_issued_by(root)


def _bad(why: str) -> BadPairing:
    return BadPairing("the other cluster's trust bundle is not usable", why=why)


def checked_addresses(addresses: Sequence[str]) -> list[str]:
    """Return addresses (host:port) without repetitions. Raises InvalidInput."""
    found = list(dict.fromkeys(addresses))
    if len(found) > MOST_ADDRESSES:
        raise InvalidInput("the other cluster names too many addresses", why=f"at most {MOST_ADDRESSES} are taken")
    for address in found:
        if len(address) > 262 or not _ADDRESS.fullmatch(address) or int(address.rpartition(":")[2]) > 65535:
            raise InvalidInput(f"{address[:80]!r} is not an address of a listener", why="it is host:port")
    return found


def roots_of(bundle: bytes) -> list[x509.Certificate]:
    """Return the roots of a bundle that was kept; none of a tombstone's."""
    return x509.load_pem_x509_certificates(bundle) if bundle else []


async def take(connection: Connection, peer: PeerRow, told: pb.TrustBundle, *, ours: ClusterIdentity) -> bool:
    """Keep the bundle and the addresses that `peer` told on its own authenticated stream; whether they were news.

    Every replica takes leaves of a new root as soon as this transaction has committed. Raises BadPairing, InvalidInput;
    what was kept before then stays.
    """
    return await peer_table.refresh(
        connection,
        tenant_id=peer.tenant_id,
        peer_id=peer.peer_id,
        bundle=checked_bundle(told.authority_der, trust_domain=peer.trust_domain, ours=ours.roots),
        addresses=checked_addresses(told.addresses),
        enrol_addresses=checked_addresses(told.enrol_addresses),
    )


class PeerBundles:
    """The roots of all peers that stand, for the peer listener's TLS; and who they are."""

    def __init__(self, database: Database, leaf: Callable[[], ServerIdentity]) -> None:
        self._database = database
        self._leaf = leaf
        # With no peer there is nobody to let in, and TLS wants a root: one whose key nobody has.
        self._nobody = pki.certificate_to_pem(pki.Authority.create("nobody.mosaic").certificate)
        self._union = self._nobody
        self.changed = asyncio.Event()
        """set whenever the peers that stand have been read and are others than before; whoever waits clears it"""
        self._seen: list[PeerRow] = []

    @property
    def current(self) -> ServerIdentity:
        """Return what the peer listener shows, and whose leaves it takes."""
        leaf = self._leaf()
        return ServerIdentity(leaf.key_pem, leaf.certificate_pem, self._union, leaf.not_after)

    @property
    def standing(self) -> list[PeerRow]:
        """Return the peers that stood when the register was last asked."""
        return self._seen

    async def read(self) -> None:
        """Ask the register who stands. Raises RegisterUnreachable; what was known then stays."""
        async with self._database.connection() as connection:
            found = await peer_table.list_standing(connection)
        self._union = b"".join(dict.fromkeys(peer.bundle for peer in found)) or self._nobody
        if [_known(peer) for peer in found] != [_known(peer) for peer in self._seen]:
            log.info("the peers that stand have changed", peers=len(found))
            self.changed.set()
        self._seen = found


def _known(peer: PeerRow) -> tuple[object, ...]:
    return (peer.peer_id, peer.role, peer.name, peer.bundle, tuple(peer.addresses))
