"""Changes single keys and items of a block-style YAML text, and leaves every other byte as a person wrote it.

Works on lines. A comment outside of what is replaced stays; so does one at the end of a line whose value is replaced.
The caller verifies the result by reading it: where a text is written in a way that this does not see through (flow
style, odd indentation), the answer is NotSpliceable, never a guess.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from mosaic_framework.marked import Entry, ListNode, MapNode, Node, Problems, ScalarNode
from mosaic_framework.marked_yaml import read_yaml

_LINE = re.compile(r"[^\n\r]*(?:\r\n|\n|\r)|[^\n\r]+")
_DASH = re.compile(r"( *)-(?=[ \r\n]|$)")
_NOTHING = re.compile(r"[ \t]*(?:#.*)?$")
_COMMENT = re.compile(r"[ \t]+#")


class NotSpliceable(Exception):
    """The text is not written in plain block style here."""


@dataclass(slots=True)
class _Edit:
    start: int
    end: int
    lines: list[str]


@dataclass(slots=True)
class Splicer:
    """Gathers edits of one text. Line numbers count from 0 here, as indices into `lines`; ends are exclusive."""

    text: str
    lines: list[str] = field(init=False)
    newline: str = field(init=False)
    edits: list[_Edit] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.lines = _LINE.findall(self.text)
        self.newline = "\r\n" if self.lines and self.lines[0].endswith("\r\n") else "\n"

    def result(self) -> str:
        """Return the text with every edit made. Raises NotSpliceable where two of them overlap."""
        out: list[str] = []
        at = 0
        for edit in sorted(self.edits, key=lambda edit: (edit.start, edit.end)):
            if edit.start < at:
                raise NotSpliceable
            out += self.lines[at : edit.start]
            if out and edit.lines and not out[-1].endswith(("\n", "\r")):
                out[-1] += self.newline
            out += edit.lines
            at = edit.end
        return "".join(out + self.lines[at:])

    def remove_item(self, items: ListNode, index: int, end: int) -> None:
        """Take one item out of a list whose own text ends before line `end`."""
        start, stop, _ = self._item(items, index, end)
        self.edits.append(_Edit(start, stop, []))

    def replace_item(self, items: ListNode, index: int, end: int, data: object) -> None:
        """Write one item anew."""
        start, stop, indent = self._item(items, index, end)
        self.edits.append(_Edit(start, stop, self._item_lines(data, indent)))

    def append_items(self, items: ListNode, end: int, rows: list[object]) -> None:
        """Add items after the last one."""
        _, stop, indent = self._item(items, len(items.items) - 1, end)
        self.edits.append(_Edit(stop, stop, [line for row in rows for line in self._item_lines(row, indent)]))

    def item_end(self, items: ListNode, index: int, end: int) -> int:
        """Return the line after the last one that one item takes."""
        return self._item(items, index, end)[1]

    def remove_entry(self, node: MapNode, entry: Entry, end: int) -> None:
        """Take one key out of a map; not the one that stands beside a dash."""
        start, stop = self._entry(node, entry, end)
        if self.lines[start][: entry.at.column - 1].strip(" "):
            raise NotSpliceable
        self.edits.append(_Edit(start, stop, []))

    def replace_entry(self, node: MapNode, entry: Entry, end: int, data: object) -> None:
        """Write the value of one key anew, under the key as it is spelled."""
        start, stop = self._entry(node, entry, end)
        indent = entry.at.column - 1
        prefix = self.lines[start][:indent]
        comment = self._comment_after(entry)
        lines = self._entry_lines(entry.key, data, indent)
        lines[0] = prefix + lines[0][indent:]
        if comment is not None:
            stop = start + 1
            lines[0] = lines[0].rstrip("\r\n") + comment + self.newline
        self.edits.append(_Edit(start, stop, lines))

    def insert_entry(self, node: MapNode, after: Entry, end: int, key: str, data: object) -> None:
        """Add one key to a map, below `after`."""
        _, stop = self._entry(node, after, end)
        self.edits.append(_Edit(stop, stop, self._entry_lines(key, data, after.at.column - 1)))

    def entry_end(self, node: MapNode, entry: Entry, end: int) -> int:
        """Return the line after the last one that one key and its value take."""
        return self._entry(node, entry, end)[1]

    def _item(self, items: ListNode, index: int, end: int) -> tuple[int, int, int]:
        if not items.block:
            raise NotSpliceable
        start, indent = self._dash(items.items[index])
        following = self._dash(items.items[index + 1])[0] if index + 1 < len(items.items) else end
        return start, self._trim(start, following, indent), indent

    def _dash(self, node: Node) -> tuple[int, int]:
        number = node.at.line - 1
        for line in (number, number - 1):
            match = _DASH.match(self.lines[line]) if 0 <= line < len(self.lines) else None
            if match and (line < number or len(match.group(1)) < node.at.column - 1):
                return line, len(match.group(1))
        raise NotSpliceable

    def _entry(self, node: MapNode, entry: Entry, end: int) -> tuple[int, int]:
        if not node.block:
            raise NotSpliceable
        start = entry.at.line - 1
        later = [other.at.line - 1 for other in node.entries.values() if other.at.line > entry.at.line]
        return start, self._trim(start, min([*later, end]), entry.at.column - 1)

    def _trim(self, start: int, stop: int, indent: int) -> int:
        """Leave out blank lines and comments at the end that are not further in than what they follow."""
        while stop > start + 1:
            line = self.lines[stop - 1].rstrip("\r\n")
            inside = len(line) - len(line.lstrip(" ")) > indent and bool(line.strip())
            if inside or not (_NOTHING.fullmatch(line) or line == "..."):
                break
            stop -= 1
        return stop

    def _comment_after(self, entry: Entry) -> str | None:
        """Return what follows a value that ends on its key's line ("": nothing); None where it does not end there."""
        if not isinstance(entry.node, ScalarNode):
            return None
        line = self.lines[entry.at.line - 1].rstrip("\r\n")[entry.at.column - 1 :]
        for cut in [match.start() for match in _COMMENT.finditer(line)] + [len(line)]:
            problems = Problems("")
            read = read_yaml(line[:cut], problems)
            if problems or not isinstance(read, MapNode) or entry.key not in read.entries:
                continue
            found = read.entries[entry.key].node
            if isinstance(found, ScalarNode) and found.value == entry.node.value:
                return line[cut:]
        return None

    def _item_lines(self, data: object, indent: int) -> list[str]:
        return [" " * indent + line if line.strip() else line for line in self._dumped([data])]

    def _entry_lines(self, key: str, data: object, indent: int) -> list[str]:
        return [" " * indent + line if line.strip() else line for line in self._dumped({key: data})]

    def _dumped(self, data: object) -> list[str]:
        text = dump_yaml(data)
        return [line + self.newline for line in text.split("\n")[:-1]]


def dump_yaml(data: object) -> str:
    """Return plain data as block-style YAML, texts of several lines as blocks where a block can hold them unchanged."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 2**16
    yaml.indent(mapping=2, sequence=4 if isinstance(data, Mapping) else 2, offset=2 if isinstance(data, Mapping) else 0)
    text = io.StringIO()
    yaml.dump(blocks(data), text)
    return text.getvalue()


def blocks(data: object) -> object:
    """Return `data` with every text of several lines as a literal block, where that keeps it as it is."""
    if isinstance(data, dict):
        return {key: blocks(value) for key, value in data.items()}
    if isinstance(data, list):
        return [blocks(value) for value in data]
    if isinstance(data, str) and "\n" in data and _fits_block(data):
        return LiteralScalarString(data)
    return data


def _fits_block(text: str) -> bool:
    """Return whether a literal block holds it. One that ends in blank lines would take in those that follow it."""
    lines = text.split("\n")
    plain = bool(lines[0]) and not lines[0].startswith((" ", "\t")) and not text.endswith("\n\n")
    return plain and not any(line != line.rstrip() for line in lines)
