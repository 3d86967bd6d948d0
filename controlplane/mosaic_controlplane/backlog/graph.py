"""Graphs of dependencies, purely: cycles, orders, paths, trees as drawn. An edge is (card, what it depends on)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass


def find_path(edges: Iterable[tuple[str, str]], start: str, goal: str) -> list[str]:
    """Return a shortest way along edges from `start` to `goal`, both in it; empty when there is none."""
    below: dict[str, list[str]] = {}
    for card, needed in edges:
        below.setdefault(card, []).append(needed)
    came_from: dict[str, str] = {start: ""}
    level = [start]
    while level and goal not in came_from:
        following: list[str] = []
        for card in level:
            for needed in below.get(card, ()):
                if needed not in came_from:
                    came_from[needed] = card
                    following.append(needed)
        level = following
    if goal not in came_from:
        return []
    path = [goal]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def order(depends_on: Mapping[str, Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Return the cards with what each depends on before it, and the cycles that keep the others out.

    A dependency that is no key is taken as there already. A cycle is its ids in order, the first again at its end.
    """
    missing = {card: sum(1 for one in set(needed) if one in depends_on) for card, needed in depends_on.items()}
    above: dict[str, list[str]] = {}
    for card, needed in depends_on.items():
        for one in set(needed):
            if one in depends_on:
                above.setdefault(one, []).append(card)
    free = [card for card, count in missing.items() if count == 0]
    ordered: list[str] = []
    while free:
        card = free.pop()
        ordered.append(card)
        for dependant in above.get(card, ()):
            missing[dependant] -= 1
            if missing[dependant] == 0:
                free.append(dependant)
    left = {card for card, count in missing.items() if count}
    return ordered, list(_cycles(depends_on, left))


def _cycles(depends_on: Mapping[str, Sequence[str]], left: set[str]) -> Iterator[list[str]]:
    """Yield cycles among `left`, each card in one of them at most. Whatever only leads into a cycle is in none."""
    seen: set[str] = set()
    for start in sorted(left):
        walk: list[str] = []
        card = start
        while card not in seen:
            seen.add(card)
            walk.append(card)
            onward = next((one for one in depends_on[card] if one in left), None)
            if onward is None:
                break
            card = onward
        else:
            if card in walk:
                yield [*walk[walk.index(card) :], card]


def depths(ordered: Sequence[str], depends_on: Mapping[str, Sequence[str]], known: Mapping[str, int]) -> dict[str, int]:
    """Return how long the longest chain below each card of `ordered` is. `known`: the depths of cards outside of it."""
    found: dict[str, int] = {}
    for card in ordered:
        found[card] = max((found.get(one, known.get(one, 0)) + 1 for one in depends_on[card]), default=0)
    return found


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """A line of a drawn tree. `repeated`: drawn before with all below it. `cut`: more lies below than was read."""

    card_id: str
    level: int
    parent: str
    repeated: bool
    cut: bool


def draw(root: str, children: Mapping[str, Sequence[str]], *, levels: int, most: int) -> list[DrawnNode]:
    """Return the tree below `root`, a parent before its children, each card with what is below it only once."""
    drawn: set[str] = set()
    lines: list[DrawnNode] = []
    waiting: list[tuple[str, int, str]] = [(root, 0, "")]
    while waiting and len(lines) < most:
        card, level, parent = waiting.pop()
        below = children.get(card, ())
        repeated = card in drawn
        cut = bool(below) and not repeated and level >= levels
        lines.append(DrawnNode(card, level, parent, repeated and bool(below), cut))
        if repeated or cut:
            continue
        drawn.add(card)
        waiting.extend((one, level + 1, card) for one in reversed(below))
    if waiting and lines:
        last = lines[-1]
        lines[-1] = DrawnNode(last.card_id, last.level, last.parent, last.repeated, cut=True)
    return lines
