"""What of a text can be typed into a terminal (pure).

Normalised: every line end becomes LF, control characters go (tab and LF stay), so do line ends at the end.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_LINE_ENDS = re.compile(r"\r\n?|[\u2028\u2029\x85\x0b\x0c]")
_KINDS_TOLD = 6
_NAMES = {0x08: "backspace", 0x07: "bell", 0x1B: "escape", 0x7F: "delete", 0x03: "Ctrl-C", 0x04: "Ctrl-D"}


def normalise(body: str) -> str:
    """Return `body` as a terminal can take it: no control character can end the paste or press a key."""
    text = _LINE_ENDS.sub("\n", body)
    return "".join(character for character in text if not _is_control(character)).rstrip("\n")


def left_out(body: str) -> str:
    """Say for a person which characters `normalise` leaves out, and how many; "" when none."""
    found = Counter(character for character in _LINE_ENDS.sub("\n", body) if _is_control(character))
    if not found:
        return ""
    told = [f"{count} times {_name(character)}" for character, count in found.most_common(_KINDS_TOLD)]
    more = [f"{len(found) - _KINDS_TOLD} other kinds"] if len(found) > _KINDS_TOLD else []
    return ", ".join(told + more)


def _is_control(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs")


def _name(character: str) -> str:
    code = ord(character)
    return f"U+{code:04X} ({_NAMES[code]})" if code in _NAMES else f"U+{code:04X}"
