"""The file that authority keys are encrypted under, so that a copy of the register alone signs nothing."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import UnsafePath, write_private
from mosaic_framework.pki import key_from_pem, key_to_pem

FILE = "authority.key"
_NONCE = 12


class AuthorityKeyMissing(FleetError):
    """The key file of the cluster's authority is not here."""

    code = "authority-key-missing"


class AuthorityKeyWrong(FleetError):
    """The key file is not the one that this cluster's authority was encrypted under."""

    code = "authority-key-wrong"


class AuthorityKeyFile:
    """`$MOSAIC_HOME/pki/authority.key`, 0600: 32 random bytes in hex."""

    def __init__(self, path: Path, secret: bytes) -> None:
        self.path = path
        self.digest = hashlib.sha256(secret).hexdigest()
        """names the file without telling it: 256 random bits cannot be guessed from their SHA-256"""
        self._cipher = AESGCM(secret)

    @classmethod
    def read(cls, path: Path) -> AuthorityKeyFile | None:
        """Return the key file, or None when there is none. Raises UnsafePath when others could read it."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with os.fdopen(handle, "rb") as file:
            if stat.S_IMODE(os.fstat(handle).st_mode) & 0o077:
                raise UnsafePath(
                    f"others can read {path}", why="it opens the cluster's authority", next_step=f"chmod 600 {path}"
                )
            content = file.read()
        try:
            return cls(path, bytes.fromhex(content.decode("ascii").strip()))
        except ValueError:
            raise wrong(path, "it is damaged") from None

    @classmethod
    def make(cls, path: Path) -> AuthorityKeyFile:
        """Write a new key file."""
        secret = AESGCM.generate_key(bit_length=256)
        write_private(path, secret.hex().encode() + b"\n")
        return cls(path, secret)

    def encrypt(self, key: ec.EllipticCurvePrivateKey, authority_id: UUID) -> bytes:
        """Return `key` encrypted for that authority's row."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, key_to_pem(key), authority_id.bytes)

    def decrypt(self, encrypted: bytes, authority_id: UUID) -> ec.EllipticCurvePrivateKey:
        """Return the key of that authority's row. Raises AuthorityKeyWrong under another file."""
        try:
            pem = self._cipher.decrypt(encrypted[:_NONCE], encrypted[_NONCE:], authority_id.bytes)
        except InvalidTag:
            raise wrong(self.path, "it does not open the authority in the register") from None
        return key_from_pem(pem)


def missing(path: Path) -> AuthorityKeyMissing:
    """Return the error for a register that has an authority while this machine has no key file for it."""
    return AuthorityKeyMissing(
        f"{path} is missing",
        why="the register already has an authority, encrypted under that file; a new file would open nothing",
        next_step=f"copy it from another replica or a backup to {path}",
    )


def wrong(path: Path, why: str) -> AuthorityKeyWrong:
    """Return the error for a key file that is damaged, or another cluster's."""
    return AuthorityKeyWrong(
        f"{path} is not this cluster's key file",
        why=why,
        next_step="copy it from another replica or a backup, or check MOSAIC_DATABASE_URL",
    )
