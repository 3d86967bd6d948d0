"""How an argument is written so that tmux's own parser gives back exactly it (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable

# A word that begins with "%" is a directive of the parser, unless it is a pane's id and nothing else.
_PLAIN = re.compile(r"%[0-9]+|[A-Za-z0-9_@:./,+=-][A-Za-z0-9_@%:./,+=-]*")
# Inside double quotes the parser still reads backslashes, variables, a leading "~" and, in some versions, a final ";".
_SPECIAL = {
    "\\": "\\\\",
    '"': '\\"',
    "$": "\\$",
    ";": "\\073",
    "~": "\\176",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\x1b": "\\e",
}
_ESCAPED = re.compile(r'[\\"$;~\x00-\x1f\x7f]')


def quote(argument: str) -> str:
    """Return `argument` as one word of a tmux command line. NUL cannot be written and raises ValueError."""
    if _PLAIN.fullmatch(argument):
        return argument
    return f'"{_ESCAPED.sub(_escape, argument)}"'


def command_line(words: Iterable[str]) -> str:
    """Return one tmux command of these words."""
    return " ".join(map(quote, words))


def literal(text: str) -> str:
    """Return `text` for an argument that tmux expands as a format: `#(…)` would otherwise run a program."""
    return text.replace("#", "##")


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character == "\0":
        raise ValueError("tmux takes no NUL character")
    return _SPECIAL.get(character) or f"\\{ord(character):03o}"
