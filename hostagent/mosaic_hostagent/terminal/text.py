"""The text that is typed for a message (pure).

Normalised: CRLF and CR become LF, control characters go (tab and LF stay), so do line ends at the end. "Byte for byte"
means after this, between preamble and trailer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_framework.manifest import Manifest

TRAILER = "[end of message]"
_QUOTE = "> "
_LINE_ENDS = re.compile(r"\r\n?|[\u2028\u2029\x85\x0b\x0c]")


@dataclass(frozen=True, slots=True)
class Typing:
    """What is pasted, piece by piece, before one Enter; `whole` is all of it."""

    whole: str
    pieces: Sequence[str]


def normalise(body: str) -> str:
    """Return `body` as a terminal can take it: no control character can end the paste or press a key."""
    text = _LINE_ENDS.sub("\n", body)
    kept = "".join(character for character in text if character in "\n\t" or not _is_control(character))
    return kept.rstrip("\n")


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
        if _ends_in_hazard(text, manifest):
            text = f"{text}\n{TRAILER}"
    paste = manifest.paste
    lines, characters = text.count("\n") + 1, len(text)
    marked = 0 < paste.exact_lines < lines or 0 < paste.exact_characters < characters
    if marked and sender_is_person and paste.piece_lines and paste.piece_characters:
        return Typing(text, _pieces(text, paste.piece_lines, paste.piece_characters))
    return Typing(text, [text])


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


def _ends_in_hazard(text: str, manifest: Manifest) -> bool:
    return any(
        hazard.where == "end" and re.search(rf"(?:{hazard.pattern})\s*\Z", text) is not None
        for hazard in manifest.hazards
    )


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


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")


def _one_line(text: str) -> str:
    return " ".join(normalise(text).split())
