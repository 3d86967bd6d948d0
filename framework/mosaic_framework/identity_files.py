"""A host's or an operator's identity on disk: one file, so that key and certificate are always of each other."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mosaic_framework.errors import FleetError, NotLoggedIn
from mosaic_framework.paths import UnsafePath, private_folder, write_private

FILE = "identity.json"
_FORMAT = 1


class IdentityDamaged(FleetError):
    """The identity on disk cannot be read."""

    code = "identity-damaged"
    hint = "move it away and join or log in again"


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """Who this process is to the control plane, and where that is. `not_after` is aware UTC.

    Folders: `$MOSAIC_HOME/pki/host` and `$MOSAIC_HOME/pki/operators/<context>`.
    """

    kind: str
    """host or operator"""
    name: str
    tenant: str
    identity_id: str
    identity_epoch: int
    spiffe_id: str
    trust_domain: str
    cluster: str
    """the cluster's alias"""
    fleet_addresses: list[str]
    not_after: datetime
    key_pem: bytes
    certificate_pem: bytes
    bundle_pem: bytes
    renew_at: datetime | None = None
    """when to renew it, by this machine's clock (aware UTC); None: at once, for it is from before there was renewal"""

    def __repr__(self) -> str:
        return f"StoredIdentity({self.spiffe_id}, epoch {self.identity_epoch})"  # never the key

    def expired(self, now: datetime | None = None) -> bool:
        """Say whether the certificate is past its end by this machine's clock."""
        return (now or datetime.now(UTC)) >= self.not_after

    def due(self, now: datetime | None = None) -> bool:
        """Say whether it is time to renew."""
        return self.renew_at is None or (now or datetime.now(UTC)) >= self.renew_at

    def save(self, folder: Path) -> None:
        """Replace the identity in `folder` atomically: 0600 in a 0700 folder, on disk when this returns."""
        content: dict[str, Any] = {"format": _FORMAT}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bytes):
                value = value.decode("ascii")
            elif isinstance(value, datetime):
                value = value.isoformat()
            content[field.name] = value
        write_private(folder / FILE, json.dumps(content, indent=2).encode() + b"\n")

    @classmethod
    def load(cls, folder: Path, *, hint: str = "mosaic login") -> StoredIdentity:
        """Return the identity in `folder`. `hint` is what to run when there is none.

        Raises NotLoggedIn when there is none, UnsafePath when others could read it, IdentityDamaged when it is rubbish.
        """
        path = folder / FILE
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotLoggedIn(f"there is no identity in {folder}", next_step=hint) from None
        with os.fdopen(handle, "rb") as file:
            if stat.S_IMODE(os.fstat(handle).st_mode) & 0o077:
                raise UnsafePath(
                    f"others can read the private key in {path}",
                    why="its mode is not 0600",
                    next_step=f"chmod 600 {path}, and make a new identity if others use this machine",
                )
            content = file.read()
        return cls._from_json(content, path)

    @classmethod
    def _from_json(cls, content: bytes, path: Path) -> StoredIdentity:
        try:
            found = json.loads(content)
            if found.pop("format") != _FORMAT:
                raise IdentityDamaged(f"{path} is of a newer mosaic", next_step="update mosaic on this machine")
            for name in ("key_pem", "certificate_pem", "bundle_pem"):
                found[name] = found[name].encode("ascii")
            found["not_after"] = datetime.fromisoformat(found["not_after"])
            renew_at = found.get("renew_at")
            found["renew_at"] = datetime.fromisoformat(renew_at) if renew_at else None
            return cls(**{field.name: found[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IdentityDamaged(f"{path} is damaged", why=f"{type(error).__name__}") from error


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Whoever changes the identity in `folder` takes turns: joins, logins and renewals."""
    private_folder(folder)
    handle = os.open(folder / ".enrol.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
