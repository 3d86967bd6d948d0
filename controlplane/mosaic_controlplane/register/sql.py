"""Named queries: one `.sql` file a table, loaded once at import.

A file is blocks that start with `-- name: claim_next`; everything up to the next such line is the query. Comments
inside a block stay with it. Before the first block there may be comments, and nothing else.
"""

from __future__ import annotations

import re
from importlib import resources

from mosaic_framework.names import nearest

_BLOCK = re.compile(r"^--\s*name\s*:(?P<name>.*)$", re.IGNORECASE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class QueryFileError(Exception):
    """A file of named queries is malformed: a mistake of ours, found at import and never at a user's."""


class Queries:
    """The queries of one file, each a str attribute. An unknown one raises AttributeError that names the nearest."""

    def __init__(self, source: str, queries: dict[str, str]) -> None:
        self._source = source
        self._queries = queries

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):  # copy and pickle ask for these before __init__ has run
            raise AttributeError(name)
        try:
            return self._queries[name]
        except KeyError:
            close = nearest(name, self._queries)
            hint = f"; the nearest is {close[0]!r}" if close else ""
            raise AttributeError(f"{self._source} has no query named {name!r}{hint}") from None

    def __dir__(self) -> list[str]:
        return sorted(self._queries)


def load(table: str) -> Queries:
    """Return the queries of `register/<table>.sql`. Raises QueryFileError when it is missing or malformed."""
    file = resources.files(__package__).joinpath(f"{table}.sql")
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise QueryFileError(f"there is no {table}.sql in {__package__}") from None
    return Queries(f"{table}.sql", parse(text, source=f"{table}.sql"))


def parse(text: str, *, source: str) -> dict[str, str]:
    """Return name → query in the file's order. `source` is the file's name for the error.

    Raises QueryFileError on a bad or repeated name, a block without a statement, a statement outside of any block,
    and on a block with more than one statement's end at a line's end (asyncpg prepares exactly one).
    """
    blocks: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _BLOCK.match(line.strip()):
            name = found["name"].strip()
            if not _NAME.fullmatch(name):
                raise QueryFileError(f"{source}:{number}: {name!r} is no name of a query (lowercase, digits and '_')")
            if name in blocks:
                raise QueryFileError(f"{source}:{number}: there are two queries named {name!r}")
            current = blocks[name] = []
        elif current is not None:
            current.append(line)
        elif _code(line):
            raise QueryFileError(f"{source}:{number}: this line stands before the first '-- name:'")
    if not blocks:
        raise QueryFileError(f"{source} has no '-- name:' block")
    return {name: _statement(lines, f"{source}: {name}") for name, lines in blocks.items()}


def _code(line: str) -> str:
    """Return what of a line is not a comment. Good enough for our own files: no query of ours has '--' in a literal."""
    return line.split("--", 1)[0].strip()


def _statement(lines: list[str], where: str) -> str:
    """Return one block's statement without its final semicolon and without what surrounds it."""
    code = [line for line in map(_code, lines) if line]
    if not code:
        raise QueryFileError(f"{where} has no statement")
    if any(line.endswith(";") for line in code[:-1]):
        raise QueryFileError(f"{where} has more than one statement, or text after its end")
    while not _code(lines[-1]):
        lines = lines[:-1]
    while not lines[0].strip():
        lines = lines[1:]
    return "\n".join(lines).rstrip().removesuffix(";")
