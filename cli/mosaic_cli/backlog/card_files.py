"""Cards in a file: a list in YAML or JSON, or one JSON object a line. Every problem is told at its line.

A list stands alone or under the key `cards`. Keys are read in snake_case and in camelCase.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

import typer
from mosaic_framework.document import FileUnreadable, read_tree, validate
from mosaic_framework.fields import StrictModel
from mosaic_framework.marked import SIZE_LIMIT, DocumentInvalid, ListNode, MapNode, Node, Position, Problems, field_of
from mosaic_framework.marked_json import read_json
from mosaic_proto.v1 import backlog_pb2 as pb
from pydantic import AfterValidator, Field, StringConstraints

from mosaic_cli.backlog.calls import span
from mosaic_cli.text import duration

NOUN = "file of cards"
MOST_CARDS = 5_000
MICROS = 1_000_000


def _length_of_time(value: str) -> str:
    try:
        duration(value)
    except typer.BadParameter as error:
        raise ValueError(error.message) from None
    return value


Time = Annotated[str, AfterValidator(_length_of_time)]
Texts = Annotated[list[str], Field(default_factory=list)]


class Estimate(StrictModel):
    """What a card's work is expected to cost."""

    cost: Annotated[float, Field(ge=0)] | Annotated[int, Field(ge=0)] = 0
    tokens: Annotated[int, Field(ge=0)] = 0
    time: Time = "0s"
    basis: str = ""


class CardEntry(StrictModel):
    """One card as a file has it. The register checks lengths, names and the graph."""

    id: str = ""
    title: Annotated[str, StringConstraints(min_length=1)]
    body: str = ""
    mission: str = ""
    phase: str = ""
    priority: int = 0
    urgency: Literal["low", "normal", "high", "critical"] = "normal"
    class_: Annotated[str, Field(alias="class")] = ""
    labels: Texts
    acceptance: Texts
    goals: Texts
    requirements: Texts
    repository: str = ""
    branch: str = ""
    head: str = ""
    pull_request: str = ""
    evidence: Texts
    gated: bool = False
    estimate: Estimate | None = None
    attempt_limit: Annotated[int, Field(ge=0)] = 0
    time_limit: Time | None = None
    depends_on: Texts
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class PlacedDraft:
    """A card of a file, and where it stands there."""

    draft: pb.CardDraft
    at: Position


def read_cards(content: bytes, source: str) -> list[PlacedDraft]:
    """Return the cards of a file. Raises DocumentInvalid with every problem, or FileUnreadable."""
    placed, problems = readable_cards(content, source)
    if problems:
        raise DocumentInvalid(source, problems.sorted(), noun=NOUN)
    return placed


def readable_cards(content: bytes, source: str) -> tuple[list[PlacedDraft], Problems]:
    """Return the cards of a file that can be read, and what is wrong with the others. Raises FileUnreadable."""
    problems = Problems(source)
    placed = _read_lines(content, problems) if _is_json_lines(content) else _read_document(content, problems)
    if len(placed) > MOST_CARDS:
        raise FileUnreadable(
            f"{source} holds {len(placed)} cards",
            why=f"at most {MOST_CARDS} are created in one transaction",
            next_step="split it, those that others depend on first",
        )
    return placed, problems


def refused(
    placed: Sequence[PlacedDraft], found: Iterable[pb.CardProblem], source: str, unread: Problems | None = None
) -> DocumentInvalid:
    """Return the error for cards that the register refused, each problem at its card's line.

    `unread`: problems of cards that could not be read. One that another depends on may be among these, so that an
    unknown dependency is not told then.
    """
    problems = unread if unread is not None else Problems(source)
    for problem in found:
        if unread is not None and problem.code == "unknown-dependency":
            continue
        at = placed[problem.index].at if 0 <= problem.index < len(placed) else Position(1, 1)
        problems.add(at, problem_text(problem), key=problem.id or problem.field)
    return DocumentInvalid(source, problems.sorted(), noun=NOUN)


def problem_text(problem: pb.CardProblem) -> str:
    """Return what is wrong with a card; the path of a circle is named, once."""
    path = " → ".join(problem.path)
    return problem.what if path in problem.what else f"{problem.what}: {path}"


def draft_of(entry: CardEntry) -> pb.CardDraft:
    """Return a card as it goes over the wire."""
    content = pb.CardContent(
        title=entry.title,
        body=entry.body,
        mission=entry.mission,
        phase=entry.phase,
        priority=entry.priority,
        urgency=pb.Urgency.Value(f"URGENCY_{entry.urgency.upper()}"),
        labels=entry.labels,
        acceptance=entry.acceptance,
        goals=entry.goals,
        requirements=entry.requirements,
        repository=entry.repository,
        branch=entry.branch,
        head=entry.head,
        pull_request=entry.pull_request,
        evidence=entry.evidence,
        gated=entry.gated,
        attempt_limit=entry.attempt_limit,
    )
    setattr(content, "class", entry.class_)  # a word of Python's own
    if entry.estimate is not None:
        one = entry.estimate
        content.estimate.CopyFrom(spend(cost=one.cost, tokens=one.tokens, seconds=duration(one.time), basis=one.basis))
    if entry.time_limit is not None:
        content.time_limit.CopyFrom(span(duration(entry.time_limit)))
    return pb.CardDraft(
        id=entry.id, content=content, depends_on=entry.depends_on, idempotency_key=entry.idempotency_key
    )


def spend(*, cost: float = 0, tokens: int = 0, seconds: float = 0, basis: str = "") -> pb.Spend:
    """Return what work costs; `cost` in the account's currency."""
    micros = int(Decimal(str(cost)) * MICROS)
    return pb.Spend(cost_micros=micros, tokens=tokens, seconds=round(seconds), basis=basis)


def _is_json_lines(content: bytes) -> bool:
    """Say whether each line is a card of its own: the first one is in braces, and is not the whole document."""
    first = content.lstrip().partition(b"\n")[0].strip()
    if not (first.startswith(b"{") and first.endswith(b"}")):
        return False
    try:
        return "cards" not in json.loads(first)
    except (ValueError, RecursionError):
        return True  # the line will say what is wrong with it


def _read_document(content: bytes, problems: Problems) -> list[PlacedDraft]:
    tree = read_tree(content, problems)
    if tree is None:
        return []
    if isinstance(tree, MapNode) and (entry := field_of(tree, "cards")) is not None:
        for key, other in tree.entries.items():
            if key not in ("cards", "apiVersion", "kind"):
                problems.add(other.at, "unknown key beside `cards`", key=key)
        tree = entry.node
    if not isinstance(tree, ListNode):
        problems.add(tree.at, "must be a list of cards, alone or under the key `cards`")
        return []
    return [placed for node in tree.items if (placed := _placed(node, problems)) is not None]


def _read_lines(content: bytes, problems: Problems) -> list[PlacedDraft]:
    found = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        of_line = Problems(problems.source)
        placed = _read_line(line, of_line)
        for problem in of_line.sorted():
            at = Position(number, problem.column)
            problems.add(at, problem.message, key=problem.key, nearest=problem.nearest)
        if placed is not None:
            found.append(PlacedDraft(placed.draft, Position(number, 1)))
        if problems.full:
            break
    return found


def _read_line(line: bytes, problems: Problems) -> PlacedDraft | None:
    if len(line) > SIZE_LIMIT:
        problems.add(Position(1, 1), f"the line is too long; at most {SIZE_LIMIT // 1024} KiB are read")
        return None
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(Position(1, error.start + 1), "this is not text in UTF-8")
        return None
    node = read_json(text, problems)
    return _placed(node, problems) if node is not None else None


def _placed(node: Node, problems: Problems) -> PlacedDraft | None:
    entry = validate(node, CardEntry, problems)
    return PlacedDraft(draft_of(entry), node.at) if entry is not None else None
