"""The text that is typed for a message (pure).

"Byte for byte" means after `normalise`, between preamble and trailer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_framework.manifest import Hazard, Manifest
from mosaic_framework.typed_text import normalise

TRAILER = "[end of message]"
_QUOTE = "> "


@dataclass(frozen=True, slots=True)
class Typing:
    """What is pasted, piece by piece, before one Enter; `whole` is all of it."""

    whole: str
    pieces: Sequence[str]


def preamble(sender: str, recipient: str, message_id: str) -> str:
    """Return the line that tells an agent who speaks to it."""
    return f"[{_one_line(sender)} → {_one_line(recipient)} #{message_id}]"


def compose(
    body: str, manifest: Manifest, *, sender: str, recipient: str, message_id: str, sender_is_person: bool
) -> Typing:
    """Return what to type. Without a preamble (a shell) the body stands alone, as it is after normalisation."""
    text = normalise(body)
    if manifest.preamble:
        text = f"{preamble(sender, recipient, message_id)} {_escaped(text)}"
        if hazard(text, manifest) is not None:
            text = f"{text}\n{TRAILER}"
    paste = manifest.paste
    lines, characters = text.count("\n") + 1, len(text)
    marked = 0 < paste.exact_lines < lines or 0 < paste.exact_characters < characters
    if marked and sender_is_person and paste.piece_lines and paste.piece_characters:
        return Typing(text, _pieces(text, paste.piece_lines, paste.piece_characters))
    return Typing(text, [text])


def hazard(text: str, manifest: Manifest) -> Hazard | None:
    """Return what makes a text do something else than arrive, where no preamble stands before it; None: nothing."""
    where = {"start": r"\A\s*(?:{})", "whole": r"\A\s*(?:{})\s*\Z", "end": r"(?:{})\s*\Z"}
    for found in manifest.hazards:
        if re.search(where[found.where].format(found.pattern), text) is not None:
            return found
    return None


def _pieces(text: str, lines: int, characters: int) -> list[str]:
    """Cut `text` into pieces of at most so many lines and characters; together they are `text` again."""
    pieces, start = [], 0
    while start < len(text):
        end = min(start + characters, len(text))
        breaks = [match.end() for match in re.finditer("\n", text[start:end])]
        if len(breaks) >= lines:
            end = start + breaks[lines - 1]
        pieces.append(text[start:end])
        start = end
    return pieces


def _escaped(text: str) -> str:
    """Return `text` with every line quoted that a reader could take for a preamble."""
    return "\n".join(f"{_QUOTE}{line}" if _is_preamble_like(line) else line for line in text.split("\n"))


def _is_preamble_like(line: str) -> bool:
    """Say whether a line begins as a preamble does, whatever blank or unseen characters are in it. Linear in time."""
    inside = line.find("[")
    if inside < 0 or any(character.isalnum() for character in line[:inside]):
        return False
    for part in ("→", "#", "]"):
        inside = line.find(part, inside + 1)
        if inside < 0:
            return False
    return True


def _one_line(text: str) -> str:
    return " ".join(normalise(text).split())
