"""Reads JSON into a document with positions. Any input ends in a tree or in problems, never otherwise."""

from __future__ import annotations

import re
from bisect import bisect_right
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from mosaic_framework.marked import DocumentBuilder, ListNode, MapNode, Node, Position, Problems, Scalar, ScalarNode

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"true|false|null")
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}
_DIGIT_LIMIT = 300


class _Stop(Exception):
    """The text is not JSON from here on; the problem has been noted."""


def read_json(text: str, problems: Problems) -> Node | None:
    """Return the document, or None when it cannot be read on; what is wrong goes to `problems`."""
    try:
        return _Reader(text, problems).read()
    except _Stop:
        return None


class _Reader:
    """A loop over the text; the lists and maps that are open stand on a stack, so that depth costs no recursion."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self._index = 0
        self._builder = DocumentBuilder(problems)
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._closing: list[str] = []
        self._fresh = False

    def read(self) -> Node | None:
        self._value()
        while self._closing:
            self._element(self._closing[-1])
        self._skip()
        if self._index < len(self._text):
            self._stop("there is more after the end of the document")
        return self._builder.root

    def _element(self, closing: str) -> None:
        """Read one more element of the innermost list or map, or its end."""
        self._skip()
        if self._peek() == closing:
            self._index += 1
            self._closing.pop()
            self._builder.close()
            self._fresh = False
            return
        if not self._fresh:
            self._expect(",", f"',' or '{closing}' is missing here")
        if closing == "}":
            self._key()
        self._value()

    def _key(self) -> None:
        self._skip()
        at = self._at()
        if self._peek() != '"':
            self._stop("a key in double quotes is missing here")
        key = self._string()
        self._skip()
        self._expect(":", "':' is missing here")
        self._builder.key(key, at)

    def _value(self) -> None:
        self._skip()
        at = self._at()
        character = self._peek()
        self._fresh = character in ("[", "{")
        if self._fresh:
            self._index += 1
            self._closing.append("]" if character == "[" else "}")
            self._builder.open(ListNode(at) if character == "[" else MapNode(at))
        else:
            self._builder.add(ScalarNode(at, self._string() if character == '"' else self._word()))
        if self._builder.failed:
            raise _Stop

    def _word(self) -> Scalar:
        word = _WORD.match(self._text, self._index)
        if word:
            self._index = word.end()
            return _WORDS[word.group()]
        number = _NUMBER.match(self._text, self._index)
        if not number:
            self._stop("a value is missing here")
        self._index = number.end()
        text = number.group()
        if len(text) > _DIGIT_LIMIT:
            return text
        return float(text) if number.group(1) or number.group(2) else int(text)

    def _string(self) -> str:
        try:
            value, self._index = scanstring(self._text, self._index + 1, True)
        except JSONDecodeError as error:
            self._index = min(error.pos, len(self._text))
            self._stop(f"this is not JSON: {error.msg.lower()}")
        return str(value)

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._index)
        self._index = match.end() if match else self._index

    def _peek(self) -> str:
        return self._text[self._index : self._index + 1]

    def _expect(self, character: str, message: str) -> None:
        if self._peek() != character:
            self._stop(message)
        self._index += 1

    def _at(self) -> Position:
        line = bisect_right(self._lines, self._index)
        return Position(line, self._index - self._lines[line - 1] + 1)

    def _stop(self, message: str) -> NoReturn:
        self._builder.fail(self._at(), message)
        raise _Stop
