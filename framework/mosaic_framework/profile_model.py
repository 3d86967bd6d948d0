"""A profile: which seats a kind of system has, who leads, and who reports to whom. Fields, rules, the drawn chart.

The rules run on the tree and not on the model, so that a cycle, an unknown class and a missing lead are told together,
and beside an unknown key. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from mosaic_framework.contracts import ClassName
from mosaic_framework.document import entry_of
from mosaic_framework.fields import Line, StrictModel, Text
from mosaic_framework.marked import Entry, ListNode, Node, Position, Problems, ScalarNode, join, shorten
from mosaic_framework.names import nearest

MULTIPLICITY_LIMIT = 100
ROSTER_LIMIT = 100
TIMES = "\N{MULTIPLICATION SIGN}"


def _count(value: int) -> int:
    if not 1 <= value <= MULTIPLICITY_LIMIT:
        raise ValueError(f"must be 1 to {MULTIPLICITY_LIMIT}")
    return value


class Seat(StrictModel):
    """One class of the roster. `multiplicity`: how many agents of it."""

    class_name: ClassName = Field(alias="class")
    reports_to: ClassName | None = None
    multiplicity: Annotated[int, AfterValidator(_count)] = 1


class Profile(StrictModel):
    """A kind of system. `lead` and `floor` are classes of the roster; its first level reports to the lead."""

    id: ClassName
    title: Line
    description: Line
    lead: ClassName
    floor: Annotated[list[ClassName], Field(min_length=1)]
    roster: Annotated[list[Seat], Field(min_length=1, max_length=ROSTER_LIMIT)]
    notes: Text | None = None

    def seat(self, class_name: str) -> Seat | None:
        """Return the seat of that class, or None."""
        return next((seat for seat in self.roster if seat.class_name == class_name), None)

    def seat_count(self) -> int:
        """Return how many agents the whole profile has."""
        return sum(seat.multiplicity for seat in self.roster)


@dataclass(frozen=True, slots=True)
class _Row:
    """What could be read of one seat, right or wrong as it may be."""

    index: int
    name: str
    at: Position
    reports_to: str
    reports_at: Position
    multiplicity: int


def check_profile(root: Node, *, name: str, contract_problem: Callable[[str], str], problems: Problems) -> None:
    """Note every broken rule. `name`: the file's stem. `contract_problem(class)`: why it has no contract, or empty."""
    identity = entry_of(root, "id")
    if identity is not None and _text(identity.node) not in ("", name):
        problems.add(identity.at, f"must be the file's name, {name}", key="id")
    rows = list(_rows(root))
    classes = list(dict.fromkeys(row.name for row in rows))
    lead_entry = entry_of(root, "lead")
    lead = _text(lead_entry.node) if lead_entry is not None else ""
    if lead_entry is not None and lead:
        _in_roster(lead_entry.at, lead, "lead", classes, problems)
    floor = entry_of(root, "floor")
    for index, node in enumerate(floor.node.items if floor is not None and isinstance(floor.node, ListNode) else []):
        if text := _text(node):
            _in_roster(node.at, text, join("floor", index), classes, problems)
    _check_rows(rows, contract_problem, problems)
    for row in rows:
        if row.name == lead and row.multiplicity > 1:
            where = join(join("roster", row.index), "multiplicity")
            problems.add(row.at, "there can be only one lead", key=where)
    _check_tree(rows, lead if lead in classes else "", problems)


def org_chart(profile: Profile) -> str:
    """Return the profile's org chart as a tree of plain text, one seat a line, in roster order. Valid profiles only."""
    below: dict[str, list[Seat]] = {}
    for seat in profile.roster:
        if seat.class_name != profile.lead and seat.reports_to is not None:
            below.setdefault(seat.reports_to, []).append(seat)

    def draw(seat: Seat, indent: str) -> Iterator[str]:
        children = below.get(seat.class_name, [])
        for child in children:
            last = child is children[-1]
            yield f"{indent}{'└── ' if last else '├── '}{_label(child, profile)}"
            yield from draw(child, indent + ("    " if last else "│   "))

    lead = profile.seat(profile.lead)
    if lead is None:
        raise ValueError(f"profile {profile.id} has no seat for its lead")
    return "\n".join([_label(lead, profile), *draw(lead, "")])


def _label(seat: Seat, profile: Profile) -> str:
    marks = [
        word
        for word, holds in (("lead", seat.class_name == profile.lead), ("floor", seat.class_name in profile.floor))
        if holds
    ]
    times = f" {TIMES}{seat.multiplicity}" if seat.multiplicity > 1 else ""
    return f"{seat.class_name}{times}" + (f" ({', '.join(marks)})" if marks else "")


def _rows(root: Node) -> Iterator[_Row]:
    roster = entry_of(root, "roster")
    for index, node in enumerate(roster.node.items if roster is not None and isinstance(roster.node, ListNode) else []):
        named = entry_of(node, "class")
        reports = entry_of(node, "reports_to")
        if named is not None and (name := _text(named.node)):
            superior = _text(reports.node) if reports is not None else ""
            times = entry_of(node, "multiplicity")
            yield _Row(index, name, named.at, superior, _at(reports, named.at), _number(times))


def _check_rows(rows: list[_Row], contract_problem: Callable[[str], str], problems: Problems) -> None:
    classes = list(dict.fromkeys(row.name for row in rows))
    first: dict[str, int] = {}
    for row in rows:
        where = join("roster", row.index)
        if row.name in first:
            told = f"{shorten(row.name)} stands twice, first in line {first[row.name]}; use multiplicity"
            problems.add(row.at, told, key=join(where, "class"))
        elif told := contract_problem(row.name):
            problems.add(row.at, told, key=join(where, "class"))
        first.setdefault(row.name, row.at.line)
        if row.reports_to:
            _in_roster(row.reports_at, row.reports_to, join(where, "reports_to"), classes, problems)


def _check_tree(rows: list[_Row], lead: str, problems: Problems) -> None:
    """Note what keeps the chart from being one tree. `lead` is empty where that is itself the problem."""
    above: dict[str, str] = {}
    for row in rows:
        above.setdefault(row.name, row.reports_to)
    told: set[str] = set()
    for row in rows:
        where = join(join("roster", row.index), "reports_to")
        if lead and row.name == lead and row.reports_to:
            problems.add(row.reports_at, "the lead reports to nobody in the roster", key=where)
            above[lead] = ""
        elif lead and row.name != lead and not row.reports_to:
            problems.add(row.at, f"{shorten(row.name)} reports to nobody; only the lead may", key=where)
    for row in rows:
        cycle = _cycle(row.name, above)
        if cycle and row.name in cycle and row.name not in told:
            told.update(cycle)
            drawn = " → ".join(shorten(one) for one in [*cycle, cycle[0]])
            where = join(join("roster", row.index), "reports_to")
            problems.add(row.reports_at, f"these report to one another in a circle: {drawn}", key=where)


def _cycle(start: str, above: dict[str, str]) -> list[str]:
    """Return the circle that the way up from `start` ends in, or nothing."""
    way: list[str] = []
    here = start
    while here and here in above:
        if here in way:
            return way[way.index(here) :]
        way.append(here)
        here = above[here]
    return []


def _in_roster(at: Position, name: str, key: str, classes: list[str], problems: Problems) -> None:
    if name not in classes:
        near = nearest(name, classes, limit=1)
        problems.add(at, f"{shorten(name)} is not in the roster", key=key, nearest=near[0] if near else "")


def _text(node: Node) -> str:
    return node.value if isinstance(node, ScalarNode) and isinstance(node.value, str) else ""


def _number(entry: Entry | None) -> int:
    value = entry.node.value if entry is not None and isinstance(entry.node, ScalarNode) else 1
    return value if isinstance(value, int) else 1


def _at(entry: Entry | None, otherwise: Position) -> Position:
    return entry.at if entry is not None else otherwise
