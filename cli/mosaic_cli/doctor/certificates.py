"""Certificates: whose, until when, by whom, and whether their renewal is due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from mosaic_framework import pki
from mosaic_framework.errors import FleetError
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home

from mosaic_cli import context as contexts
from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding
from mosaic_cli.machine.local import host_identity
from mosaic_cli.machine.services import Plan
from mosaic_cli.text import age

_DUE, _OVERDUE, _LAST = 0.5, 0.75, 0.9
"""Parts of a certificate's life: from when it is renewed; when that should long have been; when it is nearly over."""
_ROOT_SOON = timedelta(days=60)
SET_CLOCK = "sudo timedatectl set-ntp true"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is on disk of one identity. `roots`: ends of the authorities it may be checked against; `issuer_end`: of its
    own one's, None when none of them has issued it."""

    holder: str
    spiffe_id: str
    begins: datetime
    ends: datetime
    key_fits: bool
    issuer_end: datetime | None
    roots: int
    repair: str


def check(home: Home, now: datetime) -> Iterator[Finding]:
    """Look at the host's certificate and at that of every context."""
    local = "mosaic up" if Plan.load(home).has_controlplane else ""
    places = [(f"context {item.name}", item.identity_folder(home), local if item.name == contexts.LOCAL else "")
              for item in contexts.load(home).items]  # fmt: skip
    if (home.pki / "host").exists():
        places.insert(0, ("host", home.pki / "host", local))
    if not places:
        yield Finding("certificates", NOTE, "there are none yet", "mosaic up, or: mosaic login")
    for holder, folder, repair in places:
        try:
            identity = host_identity(home) if holder == "host" else StoredIdentity.load(folder)
            if identity is not None:
                yield from judge(read(holder, identity, repair), now)
        except FleetError as error:
            text = f"{holder}: {error.what}{f': {error.why}' if error.why else ''}"
            yield Finding("certificates", WRONG, text, error.next_step)


def read(holder: str, identity: StoredIdentity, repair: str = "") -> Certificate:
    """Return what an identity's certificate says. Raises InvalidInput or ValueError when it is rubbish."""
    leaf = x509.load_pem_x509_certificate(identity.certificate_pem)
    roots = x509.load_pem_x509_certificates(identity.bundle_pem)
    key = pki.key_from_pem(identity.key_pem)
    again = f"mosaic host token {identity.name} (by an admin), then here: mosaic host join"
    return Certificate(
        holder=f"{holder} ({identity.spiffe_id})",
        spiffe_id=identity.spiffe_id,
        begins=leaf.not_valid_before_utc,
        ends=leaf.not_valid_after_utc,
        key_fits=leaf.public_key() == key.public_key(),
        issuer_end=next((root.not_valid_after_utc for root in roots if _issued(root, leaf)), None),
        roots=len(roots),
        repair=repair or (again if identity.kind == "host" else "mosaic login"),
    )


def _issued(root: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def judge(one: Certificate, now: datetime) -> Iterable[Finding]:
    """Say what is wrong with a certificate at a time, else until when it is good."""
    until = f"{one.ends:%Y-%m-%d %H:%M} UTC"
    if not one.key_fits:
        return [Finding("certificates", WRONG, f"{one.holder}: key and certificate are not of each other", one.repair)]
    if one.issuer_end is None:
        text = f"{one.holder}: issued by none of the {one.roots} authorities that it came with"
        return [Finding("certificates", WRONG, text, one.repair)]
    if now < one.begins:
        text = f"{one.holder}: not valid for another {age((one.begins - now).total_seconds())}: this clock is behind"
        return [Finding("clock", WRONG, text, SET_CLOCK)]
    if now >= one.ends:
        text = f"{one.holder}: expired {age((now - one.ends).total_seconds())} ago, at {until}"
        return [Finding("certificates", WRONG, text, one.repair)]
    found = [_by_age(one, now, until)]
    if one.issuer_end - now < _ROOT_SOON:
        text = f"the authority of {one.holder} ends at {one.issuer_end:%Y-%m-%d}; its certificates end with it"
        found.append(Finding("certificates", NOTE, text, "make a new authority before: see docs/identities.md"))
    return found


def _by_age(one: Certificate, now: datetime, until: str) -> Finding:
    left = age((one.ends - now).total_seconds())
    used = (now - one.begins) / (one.ends - one.begins)
    text = f"{one.holder}: valid until {until}, {left} left"
    if used >= _LAST:
        return Finding("certificates", WRONG, f"{text}; it was not renewed", one.repair)
    if used >= _OVERDUE:
        return Finding("certificates", NOTE, f"{text}; its renewal is overdue", one.repair)
    return Finding("certificates", WELL, f"{text}; {'renewal is due' if used >= _DUE else 'renewal is not due'}")
