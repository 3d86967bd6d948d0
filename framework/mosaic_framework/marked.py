"""Documents with positions: a YAML or JSON text as a tree in which every key and value knows its line.

Readers (marked_yaml, marked_json) build it from untrusted text, within limits, without recursion; problems are
gathered, never raised one by one. Lines and columns count from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from mosaic_framework.errors import InvalidInput

Scalar: TypeAlias = str | int | float | bool | None

SIZE_LIMIT = 1024 * 1024
DEPTH_LIMIT = 24
NODE_LIMIT = 50_000
PROBLEM_LIMIT = 100


class Position(NamedTuple):
    """A place in a text; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where. `key` is the path as written (`agents[0].name`); `nearest` may be empty."""

    file: str
    line: int
    column: int
    key: str
    message: str
    nearest: str = ""

    def __str__(self) -> str:
        """Return `file:line:column: key: message (nearest: …)`."""
        return f"{self.file}:{self.line}:{self.column}: {self.without_file()}"

    def without_file(self) -> str:
        """Return `key: message (nearest: …)`."""
        near = f" (nearest: {self.nearest})" if self.nearest else ""
        return f"{self.key}: {self.message}{near}" if self.key else f"{self.message}{near}"


@dataclass(slots=True)
class ScalarNode:
    """A value that holds no others."""

    at: Position
    value: Scalar
    size: int = 1


@dataclass(slots=True)
class ListNode:
    """A list. `block`: written one item a line, with dashes."""

    at: Position
    items: list[Node] = field(default_factory=list)
    size: int = 1
    block: bool = False


@dataclass(slots=True)
class Entry:
    """One `key: value` of a map."""

    key: str
    at: Position
    node: Node


@dataclass(slots=True)
class MapNode:
    """A map, in the order written. A key stands in it once. `block`: written one key a line."""

    at: Position
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 1
    block: bool = False


Node: TypeAlias = ScalarNode | ListNode | MapNode
Path: TypeAlias = tuple[str | int, ...]


class DocumentInvalid(InvalidInput):
    """The document is not valid."""

    code = "document-invalid"

    def __init__(self, source: str, problems: list[Problem], *, noun: str = "document") -> None:
        self.problems = problems
        first = problems[0]
        count = len(problems)
        told = "; ".join(f"line {problem.line}: {problem.without_file()}" for problem in problems[:3])
        rest = f"; and {count - 3} more, all told with -o json" if count > 3 else ""
        details = {"file": source, "problems": str(count)}
        details |= {f"problem.{number}": str(problem) for number, problem in enumerate(problems, start=1)}
        super().__init__(
            f"{source} is not a valid {noun}: {count} problem{'s' if count > 1 else ''}",
            why=told + rest,
            next_step=f"correct {source}, line {first.line}",
            details=details,
        )


class Problems:
    """Gathers problems of one file, at most PROBLEM_LIMIT, each place and message once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: dict[tuple[Position, str, str], Problem] = {}

    def add(self, at: Position, message: str, *, key: str = "", nearest: str = "") -> None:
        """Note one problem."""
        if len(self._found) < PROBLEM_LIMIT:
            problem = Problem(self.source, at.line, at.column, key, message, nearest)
            self._found.setdefault((at, key, message), problem)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def full(self) -> bool:
        """Whether no more are kept."""
        return len(self._found) >= PROBLEM_LIMIT

    def sorted(self) -> list[Problem]:
        """Return what was found, in the order of the text."""
        return sorted(self._found.values(), key=lambda problem: (problem.line, problem.column))


class DocumentBuilder:
    """Builds the tree from a reader's events, and holds it to the limits. `failed` says: stop reading."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.root: Node | None = None
        self.failed = False
        self._open: list[ListNode | MapNode] = []
        self._keys: list[Entry | None] = []
        self._count = 0

    @property
    def awaits_key(self) -> bool:
        """Whether the next scalar is a key of the innermost map."""
        return bool(self._open) and isinstance(self._open[-1], MapNode) and self._keys[-1] is None

    def fail(self, at: Position, message: str) -> None:
        """Note a problem after which reading on makes no sense."""
        self.problems.add(at, message)
        self.failed = True

    def key(self, key: str, at: Position) -> None:
        """Take the next key of the innermost map."""
        self._keys[-1] = Entry(key, at, ScalarNode(at, None))

    def add(self, node: Node) -> None:
        """Put a whole node where the document is now."""
        self._count += node.size
        if self._count > NODE_LIMIT:
            self.fail(node.at, f"there are more than {NODE_LIMIT} values, aliases written out")
            return
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        for enclosing in self._open:
            enclosing.size += node.size
        if isinstance(parent, ListNode):
            parent.items.append(node)
            return
        entry, self._keys[-1] = self._keys[-1], None
        if entry is None:
            raise AssertionError("a reader gave a value without a key")
        entry.node = node
        before = parent.entries.get(entry.key)
        if before is not None:
            message = f"the key stands twice; first in line {before.at.line}"
            self.problems.add(entry.at, message, key=shorten(entry.key))
            self.failed = self.problems.full
            return
        parent.entries[entry.key] = entry

    def open(self, node: ListNode | MapNode) -> None:
        """Enter a list or a map."""
        if len(self._open) >= DEPTH_LIMIT:
            self.fail(node.at, f"it is nested more than {DEPTH_LIMIT} deep")
            return
        self.add(node)
        self._open.append(node)
        self._keys.append(None)

    def close(self) -> ListNode | MapNode:
        """Leave the innermost list or map."""
        self._keys.pop()
        return self._open.pop()


def plain(node: Node) -> object:
    """Return the tree as dicts, lists and scalars. Depth is bounded by DEPTH_LIMIT."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    return {key: plain(entry.node) for key, entry in node.entries.items()}


def field_of(node: Node | None, *keys: str) -> Entry | None:
    """Return the first of `keys` in `node`, or None, also when `node` is no map."""
    if isinstance(node, MapNode):
        return next((node.entries[key] for key in keys if key in node.entries), None)
    return None


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Entry]]:
    """Yield every entry of every map below `node` with its path as written."""
    if isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            yield from walk(item, f"{path}[{index}]")
    elif isinstance(node, MapNode):
        for key, entry in node.entries.items():
            inner = join(path, key)
            yield inner, entry
            yield from walk(entry.node, inner)


def join(path: str, part: str | int) -> str:
    """Return `path` with one more part: `agents` + 0 is `agents[0]`, + name is `agents[0].name`."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    return f"{path}.{shorten(part)}" if path else shorten(part)


def shorten(text: str, limit: int = 60) -> str:
    """Return `text` fit for one line of a message: printable, and not longer than `limit`."""
    clean = "".join(char if char.isprintable() else "�" for char in text[: limit + 1])
    return f"{clean[:limit]}… ({len(text)} characters)" if len(text) > limit else clean
