"""Shipped data over time: what of it changed since it was last looked at, and copies of it that nobody touched.

Shipped data lies in the program itself, so that an upgrade brings it. What is left to do then (re-seeding): tell what
changed, and refresh those copies in a person's own folders that are still word for word what was shipped. A file that
differs from what was shipped is the person's, and is never touched. This half is pure; `reseed` does it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Change = Literal["added", "changed", "gone", "seeded", "refreshed", "kept"]
# Kinds of data of which a person may hold a copy under the same name in `fleet/<kind>.local/`.
OWN_SUFFIX = ".local"
# What a person's folder gets a copy of: editors check a roster against it.
SEEDED_KIND = "schema"


@dataclass(frozen=True, slots=True)
class Seen:
    """Shipped data as last looked at: its version, and file ("roles/code.md") → digest."""

    version: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copy:
    """A file in a person's folder that has the name of a shipped one. `base`: digest it is known to have begun as."""

    place: str
    shipped: str
    digest: str
    base: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to tell: of a shipped file ("roles/code.md") or a person's ("fleet/roles.local/code.md"), and why."""

    file: str
    change: Change
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refresh:
    """One file to write: `place` below the fleet folder gets the shipped file. `base_only`: only its base is behind."""

    place: str
    shipped: str
    base_only: bool = False


@dataclass(frozen=True, slots=True)
class Reseeding:
    """What re-seeding does. `previous`: the version last looked at; empty where none was, so that no change is told."""

    findings: list[Finding]
    refreshes: list[Refresh]
    previous: str

    @property
    def first(self) -> bool:
        """Whether nothing was recorded before."""
        return not self.previous


def digest(content: bytes) -> str:
    """Return the SHA-256 of a text file in hex, whatever its line ends (as `contracts.digest_of`)."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).hexdigest()


def plan_reseeding(now: Mapping[str, str], seen: Seen | None, copies: list[Copy], *, seed: bool) -> Reseeding:
    """Return what to tell and what to write.

    `now`: shipped file → digest. `copies`: the files of a person's folders that have a shipped one's name, or had.
    `seed`: whether the person has a fleet folder, which then gets the schemas that it lacks.
    """
    before = seen.files if seen is not None else {}
    findings = [] if seen is None else _changes(before, now)
    refreshes = []
    for copy in copies:
        wanted = now.get(copy.shipped)
        untouched = copy.digest in (before.get(copy.shipped), copy.base or None)
        if wanted is None:
            if copy.base or copy.shipped in before:
                findings.append(
                    Finding(_place(copy.place), "kept", "nothing of that name is shipped any more; yours counts")
                )
        elif copy.digest == wanted:
            if copy.base not in ("", wanted):
                refreshes.append(Refresh(copy.place, copy.shipped, base_only=True))
        elif untouched:
            findings.append(
                Finding(_place(copy.place), "refreshed", "it was a copy of the shipped file, never changed")
            )
            refreshes.append(Refresh(copy.place, copy.shipped))
        elif (copy.base or before.get(copy.shipped, wanted)) != wanted:
            findings.append(Finding(_place(copy.place), "kept", _look(copy)))
    there = {copy.place for copy in copies}
    for file in now if seed else ():
        if file.startswith(f"{SEEDED_KIND}/") and file not in there:
            findings.append(Finding(_place(file), "seeded", "for editors that check a roster while you write it"))
            refreshes.append(Refresh(file, file))
    return Reseeding(findings, refreshes, seen.version if seen is not None else "")


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[Finding]:
    found = [Finding(file, "added") for file in now if file not in before]
    found += [Finding(file, "changed") for file in now if file in before and before[file] != now[file]]
    found += [Finding(file, "gone") for file in before if file not in now]
    return sorted(found, key=lambda one: one.file)


def _place(place: str) -> str:
    return f"fleet/{place}"


def _look(copy: Copy) -> str:
    kind, _, name = copy.shipped.partition("/")
    if kind == "roles" and copy.base:
        return f"yours; the shipped one under it changed: mosaic persona diff {name.removesuffix('.md')}"
    return "yours; the shipped one under it changed"
