"""Reads YAML 1.2 (core schema) into a document with positions. Any input ends in a tree or in problems, nothing else.

Only what data files need: one document, text keys, no tags, no merge keys. Aliases are read, and counted as if they
were written out, so that a small text cannot become a large document.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from mosaic_framework.marked import DocumentBuilder, ListNode, MapNode, Node, Position, Problems, Scalar, ScalarNode

_INTEGER = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?")
_SPECIAL_FLOAT = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def read_yaml(text: str, problems: Problems) -> Node | None:
    """Return the document, or None when there is none or it cannot be read on; what is wrong goes to `problems`."""
    reader = _Reader(problems)
    events = iter(YAML(typ="safe", pure=True).parse(text))
    while (event := _next_event(events, text, reader)) is not None:
        reader.take(event)
        if reader.builder.failed:
            break
    return None if reader.builder.failed else reader.builder.root


def _next_event(events: Iterator[Event], text: str, reader: _Reader) -> Event | None:
    """Return the next event, or None at the end or where the text is not YAML any more; that is noted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ruamel warns of some of what is told as a problem here
            return next(events, None)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(mark.line + 1, mark.column + 1) if mark else reader.at
        reader.builder.fail(at, _explain(error.problem or error.context or "it cannot be read"))
    except ReaderError as error:
        before = text[: error.position]
        at = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        reader.builder.fail(at, f"a character that a text may not hold: U+{error.character:04X}")
    except Exception as error:  # noqa: BLE001 - rubbish makes the parser itself fail: "\UFFFFFFFF" overflows its chr()
        reader.builder.fail(reader.at, f"this is not YAML, soon after this place ({type(error).__name__})")
    return None


def resolve_plain(text: str) -> Scalar:
    """Return the value of an unquoted scalar by YAML 1.2's core schema. Beyond 300 digits it is text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _SPECIAL_FLOAT.fullmatch(text)
    if special:
        return float(special.group(1) + special.group(2))
    return text


class _Reader:
    """Turns parse events into builder calls."""

    def __init__(self, problems: Problems) -> None:
        self.builder = DocumentBuilder(problems)
        self.at = Position(1, 1)
        self._problems = problems
        self._anchors: dict[str, Node] = {}
        self._pending: list[str | None] = []
        self._documents = 0

    def take(self, event: Event) -> None:
        mark = event.start_mark
        if mark is not None:
            self.at = Position(mark.line + 1, mark.column + 1)
        match event:
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self.builder.fail(self.at, "there is a second document; a file holds one")
            case MappingStartEvent() | SequenceStartEvent():
                self._open(event)
            case MappingEndEvent() | SequenceEndEvent():
                node = self.builder.close()
                anchor = self._pending.pop()
                if anchor is not None:
                    self._anchors[anchor] = node
            case ScalarEvent():
                self._scalar(event)
            case AliasEvent():
                self._alias(event)

    def _open(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        if self.builder.awaits_key:
            self.builder.fail(self.at, "a key must be text")
            return
        self._refuse_tag(event.tag)
        self._pending.append(event.anchor)
        is_map = isinstance(event, MappingStartEvent)
        block = not event.flow_style
        self.builder.open(MapNode(self.at, block=block) if is_map else ListNode(self.at, block=block))

    def _scalar(self, event: ScalarEvent) -> None:
        self._refuse_tag(event.tag)
        quoted = event.style is not None
        if self.builder.awaits_key:
            if event.value == "<<" and not quoted:
                self._problems.add(self.at, "merge keys are not read here; write the keys out", key="<<")
            self.builder.key(event.value, self.at)
            return
        node = ScalarNode(self.at, event.value if quoted else resolve_plain(event.value))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self.builder.add(node)

    def _alias(self, event: AliasEvent) -> None:
        node = self._anchors.get(event.anchor)
        if node is None or self.builder.awaits_key:
            self.builder.fail(self.at, "this alias names nothing that stands before it, or is used as a key")
            return
        self.builder.add(node)

    def _refuse_tag(self, tag: object) -> None:
        # "!" alone says "as text", which quoting says better; every other tag names a type, and data files have none.
        if tag is not None:
            self._problems.add(self.at, "tags (!…) are not read here")


def _explain(fault: str) -> str:
    if "'\\t'" in fault:
        return "a tab stands here; YAML is indented with spaces"
    if "mapping values are not allowed" in fault:
        return "this is not YAML: a ':' here needs the text around it in quotes, or other indentation"
    return f"this is not YAML: {fault}"
