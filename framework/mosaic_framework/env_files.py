"""An agent's env file, `$MOSAIC_HOME/fleet/agents/<name>.env`: what its environment has on this host alone (pure).

One variable a line, `NAME=value`, an `export` before it allowed; empty lines and lines that begin with `#` say nothing.
A value is the rest of the line without blanks around it, `#` and `$` included: nothing is expanded. In single quotes it
is what stands between them. In double quotes, `\\n`, `\\r`, `\\t`, `\\"` and `\\\\` mean what they mean in JSON.

Variables that begin with `MOSAIC_SEAT_` are the product's, written anew whenever the program is looked for. Everything
else is the site's: it wins over the roster, and is kept as it stands, comments and order included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mosaic_framework.fields import unprintable
from mosaic_framework.marked import DocumentInvalid, Position, Problems

OURS = "MOSAIC_SEAT_"
HEADER = """\
# What the environment of the agent {name} has on this host alone. Your lines win over the roster and are kept.
# Lines that begin with MOSAIC_SEAT_ are written by mosaic, whenever it looks for the agent's program.
"""
SIZE_LIMIT = 256 * 1024

_LINE = re.compile(r"(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r'"(?P<inside>(?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_PLAIN = re.compile(r"[^\s'\"](?:.*\S)?")


class EnvFileInvalid(DocumentInvalid):
    """The agent's env file is not valid."""

    code = "env-file-invalid"


@dataclass(frozen=True, slots=True)
class EnvLine:
    """One line as written, with the variable that it sets; an empty `name`: it sets none."""

    text: str
    name: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class EnvFile:
    """The lines of an env file."""

    lines: tuple[EnvLine, ...]

    @property
    def text(self) -> str:
        """The file's content."""
        return "".join(f"{line.text}\n" for line in self.lines)

    @property
    def site(self) -> dict[str, str]:
        """The site's own variables; of one that stands twice the last counts."""
        return {line.name: line.value for line in self.lines if line.name and not line.name.startswith(OURS)}

    @property
    def generated(self) -> dict[str, str]:
        """The product's variables."""
        return {line.name: line.value for line in self.lines if line.name.startswith(OURS)}

    def refreshed(self, generated: Mapping[str, str]) -> EnvFile:
        """Return the file with exactly these variables of ours: each where it stood, new ones at the end."""
        wanted = dict(generated)
        lines = []
        for line in self.lines:
            if not line.name.startswith(OURS):
                lines.append(line)
            elif line.name in wanted:
                lines.append(_made(line, line.name, wanted.pop(line.name)))
        return EnvFile((*lines, *(_made(None, name, value) for name, value in wanted.items())))


def parse_env_file(text: str, *, source: str) -> EnvFile:
    """Return the file that `text` is. Raises EnvFileInvalid with every problem at its line."""
    problems = Problems(source)
    lines = []
    for number, line in enumerate(_lines(text), start=1):
        lines.append(_parse(line, Position(number, 1), problems))
    if problems:
        raise EnvFileInvalid(source, problems.sorted(), noun="env file")
    return EnvFile(tuple(lines))


def new_env_file(name: str) -> EnvFile:
    """Return the file that an agent begins with."""
    return EnvFile(tuple(EnvLine(line) for line in HEADER.format(name=name).splitlines()))


def quoted(value: str) -> str:
    """Return `value` as it stands behind the `=`: plain where that says the same."""
    if not value or (_PLAIN.fullmatch(value) and not any(unprintable(character) for character in value)):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _made(before: EnvLine | None, name: str, value: str) -> EnvLine:
    if before is not None and before.value == value:
        return before
    return EnvLine(f"{name}={quoted(value)}", name, value)


def _parse(line: str, at: Position, problems: Problems) -> EnvLine:
    bare = line.strip()
    if not bare or bare.startswith("#"):
        return EnvLine(line)
    match = _LINE.fullmatch(bare)
    if match is None:
        problems.add(at, "must be NAME=value, a comment (#), or empty")
        return EnvLine(line)
    value = _value(match["value"].strip(), match["name"], at, problems)
    return EnvLine(line, match["name"], value)


def _value(text: str, name: str, at: Position, problems: Problems) -> str:
    if "\0" in text:
        problems.add(at, "holds a NUL character, which no environment can", key=name)
    elif text.startswith("'"):
        if len(text) >= 2 and text.endswith("'") and "'" not in text[1:-1]:
            return text[1:-1]
        problems.add(at, "begins with a single quote and does not end with the next one", key=name)
    elif text.startswith('"'):
        match = _QUOTED.fullmatch(text)
        if match is None:
            problems.add(at, "begins with a double quote and does not end with the next one", key=name)
            return ""
        odd = [escape for escape in _ESCAPE.findall(match["inside"]) if escape not in _ESCAPES]
        if odd:
            problems.add(at, f"\\{odd[0]} in double quotes means nothing; a backslash is written \\\\", key=name)
            return ""
        return _ESCAPE.sub(lambda found: _ESCAPES[found[1]], match["inside"])
    return text
