"""What goes to stdout: a listing or a thing, as table, wide, JSON, YAML or names. stdout is data, stderr is talk."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TextIO, TypeVar

import typer

from mosaic_cli.text import cut, pad, printable, width

API_VERSION = "mosaic.v1"
Row = TypeVar("Row")


class Format(StrEnum):
    """The forms of `-o`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Style(StrEnum):
    """How a row looks on a terminal; off a terminal all look the same."""

    PLAIN = ""
    ATTENTION = "33"  # yellow: wants a person
    WRONG = "31"  # red: something is wrong
    GREY = "2"  # dim: old


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column: its title, how a row's cell reads, and whether only `-o wide` shows it."""

    title: str
    cell: Callable[[Row], str]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """Rows of one kind. `document` is the JSON form of a row; `extra` are fields of the listing itself."""

    kind: str
    rows: Sequence[Row]
    columns: Sequence[Column[Row]]
    name: Callable[[Row], str]
    document: Callable[[Row], dict[str, Any]]
    style: Callable[[Row], Style] = lambda _row: Style.PLAIN
    extra: dict[str, Any] = field(default_factory=dict)
    empty: str = "nothing to show"

    def as_document(self) -> dict[str, Any]:
        """Return the JSON form."""
        items = [self.document(row) for row in self.rows]
        return {"apiVersion": API_VERSION, "kind": self.kind, **self.extra, "items": items}


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing: its JSON body, its name, and the labelled lines a person reads; `text` follows them as it is."""

    kind: str
    name: str
    body: dict[str, Any]
    lines: Sequence[tuple[str, str]]
    text: str = ""

    def as_document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"apiVersion": API_VERSION, "kind": self.kind, **self.body}


def show_anew(what: Listing[Any] | Thing, form: Format) -> None:
    """Write `what` in place of what a terminal shows; elsewhere after what was written before."""
    if sys.stdout.isatty():
        write("\x1b[H\x1b[2J")
    show(what, form)


def show(what: Listing[Any] | Thing, form: Format) -> None:
    """Write `what` to stdout in the form asked for."""
    if form is Format.JSON:
        write(json.dumps(what.as_document(), indent=2, ensure_ascii=False) + "\n")
    elif form is Format.YAML:
        write(to_yaml(what.as_document()))
    elif isinstance(what, Thing):
        write(f"{what.name}\n" if form is Format.NAME else render_thing(what))
    elif form is Format.NAME:
        write("".join(f"{what.name(row)}\n" for row in what.rows))
    elif not what.rows:
        say(what.empty)
    else:
        write(render_table(what, wide=form is Format.WIDE, limit=_terminal_width(), colour=colours(sys.stdout)))


def show_line(kind: str, body: dict[str, Any]) -> None:
    """Write one JSON object on one line: the form of `--watch -o json`."""
    write(json.dumps({"apiVersion": API_VERSION, "kind": kind, **body}, ensure_ascii=False) + "\n")


def render_table(listing: Listing[Row], *, wide: bool = False, limit: int | None = None, colour: bool = False) -> str:
    """Return the table. `limit` is the terminal's width: only then are cells cut, from the last column on."""
    columns = [column for column in listing.columns if wide or not column.wide]
    cells = [[column.title for column in columns]]
    cells += [[printable(column.cell(row)) or "-" for column in columns] for row in listing.rows]
    widths = [max(width(line[index]) for line in cells) for index in range(len(columns))]
    lines = []
    for index, line in enumerate(cells):
        text = "  ".join(pad(cell, size) for cell, size in zip(line, widths, strict=True)).rstrip()
        text = cut(text, limit) if limit else text
        style = listing.style(listing.rows[index - 1]) if index and colour else Style.PLAIN
        lines.append(f"\x1b[{style}m{text}\x1b[0m" if style else text)
    return "\n".join(lines) + "\n"


def render_thing(thing: Thing) -> str:
    """Return labelled lines, then the text."""
    shown = [(label, value) for label, value in thing.lines if value]
    size = max((width(label) for label, _ in shown), default=0) + 1
    head = "".join(f"{pad(label + ':', size)}  {printable(value)}\n" for label, value in shown)
    return head + (f"\n{thing.text.rstrip()}\n" if thing.text else "")


def to_yaml(document: dict[str, Any]) -> str:
    """Return `document` as YAML, keys in the order given."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def write(text: str) -> None:
    """Write data to stdout now. A reader that went away ends the command quietly: it had enough."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def say(text: str) -> None:
    """Write talk to stderr; nobody listening is no reason to stop."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def colours(stream: TextIO) -> bool:
    """Whether to colour: a terminal, and neither NO_COLOR nor a dumb one."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
