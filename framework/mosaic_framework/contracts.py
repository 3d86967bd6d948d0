"""Role contracts as text: what one must hold, and every problem of one that does not. Nothing here touches a disk.

A contract is Markdown: front matter (`class`, `domain`, `persistent`, `summary`), then the sections Mandate (numbered
duties), Boundaries (each class in backticks exists) and Persona.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mosaic_framework.document import read_tree, validate
from mosaic_framework.fields import Line, StrictModel
from mosaic_framework.marked import DocumentInvalid, Position, Problem, Problems
from mosaic_framework.names import NAME_LIMIT, nearest

SECTIONS = ("Mandate", "Boundaries", "Persona")
DUTIES = range(3, 7)
SUMMARY_LIMIT = 160
# Files of the roles folder that are no role.
RESERVED = frozenset({"CONTRACT", "LIBRARY"})

Source = Literal["shipped", "override"]

_CLASS = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FENCE = "---"
_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*\s*")
_DUTY = re.compile(r"\d+[.)]\s+\S")
_ITEM = re.compile(r"[-*+]\s+\S")
_QUOTED = re.compile(r"`([^`\n]+)`")


class ContractInvalid(DocumentInvalid):
    """The role contract is not valid."""

    code = "contract-invalid"


def is_class_name(name: str) -> bool:
    """Return whether `name` may be a class: lower-case words and digits joined by hyphens, at most 64 characters."""
    return len(name) <= NAME_LIMIT and _CLASS.fullmatch(name) is not None


def _class(value: str) -> str:
    if not is_class_name(value):
        raise ValueError("must be lower-case words joined by hyphens")
    return value


ClassName = Annotated[str, AfterValidator(_class)]


class FrontMatter(StrictModel):
    """What stands above a contract."""

    class_name: ClassName = Field(alias="class")
    domain: ClassName
    persistent: bool
    summary: Annotated[Line, Field(max_length=SUMMARY_LIMIT)]


@dataclass(frozen=True, slots=True)
class Contract:
    """One role contract. `text` is the whole file with plain line ends, `digest` the SHA-256 of it in hex."""

    class_name: str
    domain: str
    persistent: bool
    summary: str
    text: str
    digest: str
    source: Source

    @property
    def body(self) -> str:
        """The contract without its front matter: what an agent reads."""
        return "\n".join(_split(self.text)[1]).strip("\n") + "\n"


@dataclass(frozen=True, slots=True)
class Section:
    """One section's lines as (number in the file, text), without its heading."""

    title: str
    line: int
    lines: tuple[tuple[int, str], ...]


def plain_lines(text: str) -> str:
    """Return `text` with line ends of one character, so that a digest does not depend on how a file was copied."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def digest_of(text: str) -> str:
    """Return the SHA-256 of a contract's text, in hex, whatever its line ends."""
    return hashlib.sha256(plain_lines(text).encode()).hexdigest()


def parse_contract(text: str, *, name: str, file: str, source: Source) -> Contract:
    """Return the contract of the class `name` that `text` holds. Raises ContractInvalid for its front matter only.

    A person's own contract may have any body; `contract_problems` says what a good one lacks.
    """
    problems = Problems(file)
    front = _front_matter(text, name, problems)
    if front is None or problems:
        raise ContractInvalid(file, problems.sorted(), noun="role contract")
    plain = plain_lines(text)
    return Contract(front.class_name, front.domain, front.persistent, front.summary, plain, digest_of(plain), source)


def contract_problems(text: str, *, name: str, file: str, classes: Collection[str]) -> list[Problem]:
    """Return all that is wrong with the contract of the class `name`. `classes`: those a boundary may name."""
    problems = Problems(file)
    _front_matter(text, name, problems)
    found = list(sections(text))
    wanted = [section for section in found if section.title in SECTIONS]
    for title in SECTIONS:
        count = sum(section.title == title for section in wanted)
        if count != 1:
            at = Position(next((one.line for one in reversed(wanted) if one.title == title), 1), 1)
            problems.add(at, "there is no such section" if count == 0 else "the section stands twice", key=title)
    titles = [section.title for section in wanted]
    if len(titles) == len(SECTIONS) and set(titles) == set(SECTIONS) and titles != list(SECTIONS):
        problems.add(Position(wanted[0].line, 1), f"the sections must come in this order: {', '.join(SECTIONS)}")
    for section in wanted:
        _check_section(section, name, classes, problems)
    return problems.sorted()


def sections(text: str) -> Iterator[Section]:
    """Yield the parts of a contract that have a heading. A heading of a lower rank stays within its section."""
    front, body = _split(text)
    title, start, rank, lines = "", 0, 0, list[tuple[int, str]]()
    fenced = False
    for number, line in enumerate(body, start=len(front) + 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading is not None and (not title or len(heading[1]) <= rank or heading[2] in SECTIONS):
            if title:
                yield Section(title, start, tuple(lines))
            title, start, rank, lines = heading[2], number, len(heading[1]), []
        else:
            lines.append((number, line))
    if title:
        yield Section(title, start, tuple(lines))


def _split(text: str) -> tuple[list[str], list[str]]:
    """Return the lines of the front matter with its fences (none: no front matter), and the lines after it."""
    lines = plain_lines(text).split("\n")
    if lines[0].rstrip() != _FENCE:
        return [], lines
    end = next((number for number, line in enumerate(lines[1:], start=1) if line.rstrip() == _FENCE), None)
    return ([], lines) if end is None else (lines[: end + 1], lines[end + 1 :])


def _front_matter(text: str, name: str, problems: Problems) -> FrontMatter | None:
    front, _ = _split(text)
    inner = front[1:-1]
    if not any(line.strip() for line in inner):
        keys = ", ".join(field.alias or key for key, field in FrontMatter.model_fields.items())
        problems.add(Position(1, 1), f"must begin with front matter between two lines '{_FENCE}': {keys}")
        return None
    tree = read_tree("\n".join(["", *inner]), problems)  # the empty line stands for the fence: line numbers stay true
    made = validate(tree, FrontMatter, problems) if tree is not None else None
    if made is not None and made.class_name != name:
        line = next((number for number, one in enumerate(inner, start=2) if one.startswith("class")), 2)
        problems.add(Position(line, 1), f"must be the file's name, {name}", key="class")
    return made


def _check_section(section: Section, name: str, classes: Collection[str], problems: Problems) -> None:
    at = Position(section.line, 1)
    if section.title == "Mandate":
        duties = sum(_DUTY.match(line) is not None for _, line in section.lines)
        if duties not in DUTIES:
            told = f"numbered duties: {duties}; there must be {DUTIES[0]} to {DUTIES[-1]}"
            problems.add(at, told, key=section.title)
    elif section.title == "Boundaries":
        _check_boundaries(section, name, classes, problems)
    elif not any(line.strip() for _, line in section.lines):
        problems.add(at, "is empty", key=section.title)


def _check_boundaries(section: Section, name: str, classes: Collection[str], problems: Problems) -> None:
    at = Position(section.line, 1)
    if not any(_ITEM.match(line) for _, line in section.lines):
        problems.add(at, "must list what the role does not do, an item each", key=section.title)
    others = 0
    for number, line in section.lines:
        for match in _QUOTED.finditer(line):
            word = match[1]
            if not is_class_name(word):
                continue  # a command or a file
            others += word != name
            if word not in classes:
                near = nearest(word, classes, limit=1)
                place = Position(number, match.start() + 1)
                problems.add(place, f"there is no role {word}", key=section.title, nearest=near[0] if near else "")
    if not others:
        problems.add(
            at, "must name, in backticks, at least one class that owns what this one does not", key=section.title
        )
