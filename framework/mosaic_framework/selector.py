"""Selectors: which agents, hosts or cards a grant is for, such as `class=builder,host=web-*,label.team=search`.

`*` is everything. Else: pairs `key=pattern`, joined by commas. A pattern is a shell pattern that must match the whole
value, case and all; patterns of one key are alternatives, and every key must be satisfied. What has no value for a key
does not match it. A comma cannot be written in a pattern: `?` stands for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from mosaic_framework.errors import InvalidInput
from mosaic_framework.names import nearest

EVERYTHING = "*"
SELECTOR_LIMIT = 1_000
"""The most characters that a selector has."""

Facts = Mapping[str, tuple[str, ...]]
"""What is known of a thing, by key: `{"class": ("builder",), "label.team": ("search",)}`."""

_LABEL = "label."
_LABEL_KEY = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


class SelectorError(InvalidInput):
    """This selector cannot be read."""

    code = "selector-invalid"


class Of(Enum):
    """What a selector chooses among; the values are the keys it may name beside `label.KEY`."""

    AGENTS = ("class", "host", "agent", "runtime")
    CARDS = ("class", "mission")


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector: keys with their alternatives, in canonical order. Without keys it is everything."""

    chosen: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __str__(self) -> str:
        return ",".join(f"{key}={pattern}" for key, patterns in self.chosen for pattern in patterns) or EVERYTHING

    def matches(self, facts: Facts) -> bool:
        """Return whether the thing of which `facts` are known is chosen."""
        return all(
            any(fnmatchcase(value, pattern) for value in facts.get(key, ()) for pattern in patterns)
            for key, patterns in self.chosen
        )

    @property
    def keys(self) -> frozenset[str]:
        """The keys that it names."""
        return frozenset(key for key, _ in self.chosen)


def parse(text: str, of: Of = Of.AGENTS) -> Selector:
    """Return the selector that `text` says. Raises SelectorError, with the nearest key for one that is not known."""
    text = text.strip()
    if not text:
        raise SelectorError("the selector is empty", why="it must say what is meant", next_step=_example(of))
    if len(text) > SELECTOR_LIMIT:
        raise SelectorError(f"the selector is too long ({len(text)} characters)", why=f"the most is {SELECTOR_LIMIT}")
    if text == EVERYTHING:
        return Selector()
    chosen: dict[str, list[str]] = {}
    for part in text.split(","):
        key, pattern = _pair(part.strip(), of)
        patterns = chosen.setdefault(key, [])
        if pattern not in patterns:
            patterns.append(pattern)
    order = {key: place for place, key in enumerate(of.value)}
    ordered = sorted(chosen.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    return Selector(tuple((key, tuple(patterns)) for key, patterns in ordered))


def agent_facts(
    *, host: str, agent: str, agent_class: str = "", runtime: str = "", labels: Mapping[str, str] | None = None
) -> Facts:
    """Return what a selector of agents can ask about one. Something empty is not known, and is matched by nothing."""
    facts = {"host": host, "agent": agent, "class": agent_class, "runtime": runtime}
    facts |= {f"{_LABEL}{key}": value for key, value in (labels or {}).items()}
    return {key: (value,) for key, value in facts.items() if value}


def card_facts(*, card_class: str, mission: str = "", labels: Sequence[str] = ()) -> Facts:
    """Return what a selector of cards can ask about one. A card's label is `KEY=VALUE`, or a bare `KEY` of no value."""
    facts: dict[str, tuple[str, ...]] = {
        key: (value,) for key, value in (("class", card_class), ("mission", mission)) if value
    }
    for label in labels:
        key, _, value = label.partition("=")
        facts[f"{_LABEL}{key}"] = (*facts.get(f"{_LABEL}{key}", ()), value)
    return facts


def _pair(part: str, of: Of) -> tuple[str, str]:
    key, equals, pattern = (piece.strip() for piece in part.partition("="))
    if not equals:
        why = "'*' stands alone" if part == EVERYTHING else "every part of a selector is key=pattern"
        raise SelectorError(f"{part!r} is not a part of a selector", why=why, next_step=_example(of))
    if key.startswith(_LABEL):
        if not _LABEL_KEY.fullmatch(key[len(_LABEL) :]):
            raise SelectorError(f"{key!r} names no label", why="a label's name has letters, digits and _.:/- only")
    elif key not in of.value:
        near = nearest(key, [*of.value, "label."], limit=1)
        raise SelectorError(
            f"a selector has no key {key!r}",
            why=f"the keys are {', '.join(of.value)} and label.KEY",
            next_step=f"did you mean {near[0]}{'KEY' if near[0] == _LABEL else ''}=…?" if near else _example(of),
            details={"key": key, "nearest": near[0] if near else ""},
        )
    if not pattern:
        raise SelectorError(f"{key}= has no pattern", why="what is meant stands after '='", next_step=_example(of))
    if not pattern.isprintable():
        raise SelectorError(f"the pattern of {key} has characters that cannot be printed")
    return key, pattern


def _example(of: Of) -> str:
    example = "class=builder,host=web-*" if of is Of.AGENTS else "class=builder,label.team=search"
    return f"write it as {example}, or '*' for everything"
