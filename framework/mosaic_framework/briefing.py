"""The briefing: the texts that every seat of a tenant is told beside its own role, as `apply` finds them.

The shared contract ships (`roles/CONTRACT.md`; a person's own in `roles.local` wins). The others are a person's, in
`$MOSAIC_HOME/fleet`, and each may be missing.
"""

from __future__ import annotations

from pathlib import Path

from mosaic_proto.v1 import seeding_pb2

from mosaic_framework.catalog import Catalog, DataFile, DataUnreadable
from mosaic_framework.contracts import digest_of, plain_lines
from mosaic_framework.fields import unprintable
from mosaic_framework.roles import shared_contract

CONTRACT = "contract"
OWN_FILES = {"soul": "SOUL.md", "user": "USER.md", "tools": "TOOLS.md", "mission": "MISSION.md"}
"""The name of a text → its file."""
TEXT_LIMIT = 64 * 1024
"""Bytes of one text: two of them, with the contracts, still fit into one argument of a program (128 KiB)."""


class BriefingUnreadable(DataUnreadable):
    """A text that all agents are told cannot be used."""

    code = "briefing-unreadable"


def read_briefing(catalog: Catalog) -> seeding_pb2.Briefing:
    """Return the texts there are, without peers. Raises BriefingUnreadable or DataUnreadable; says which file."""
    found = {CONTRACT: shared_contract(catalog).text}
    for name, file in OWN_FILES.items():
        path = catalog.own / file if catalog.own is not None else None
        if path is not None and path.exists():
            found[name] = _read(path)
    texts = [
        seeding_pb2.BriefingText(name=name, text=text, digest=digest_of(text))
        for name, text in found.items()
        if text.strip()
    ]
    return seeding_pb2.Briefing(texts=texts)


def changed_texts(before: seeding_pb2.Briefing, after: seeding_pb2.Briefing) -> list[str]:
    """Return the names of the texts that are new, gone or different (pure)."""
    old = {one.name: one.digest for one in before.texts}
    new = {one.name: one.digest for one in after.texts}
    return [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]


def text_title(name: str) -> str:
    """Return what a person calls a text of the briefing: its file."""
    return OWN_FILES.get(name, "the shared contract")


def _read(path: Path) -> str:
    text = plain_lines(DataFile("fleet", path.stem, path, own=True).read())
    if len(text.encode()) > TEXT_LIMIT:
        raise BriefingUnreadable(
            f"{path} is too long for an agent",
            why=f"it has {len(text.encode()):,} bytes; at most {TEXT_LIMIT:,} are read",
            next_step="keep what every agent must know, and name files for the rest",
        )
    for number, line in enumerate(text.split("\n"), start=1):
        odd = next((character for character in line if character != "\t" and unprintable(character)), None)
        if odd is not None:
            raise BriefingUnreadable(f"{path}:{number} holds a character that is no text", why=f"U+{ord(odd):04X}")
    return text
