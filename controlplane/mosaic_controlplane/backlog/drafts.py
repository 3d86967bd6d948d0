"""Drafts of cards, checked purely: everything that is wrong with them, told at once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.backlog.graph import find_path, order
from mosaic_controlplane.register.card import CardContent
from mosaic_controlplane.register.card_graph import DEPTH_LIMIT, Dependency

CARD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/=-]{0,127}")
_CLASS = re.compile(r"[a-z][a-z0-9-]{0,63}")
URGENCIES = ("low", "normal", "high", "critical")

TITLE_LIMIT = 300
BODY_LIMIT = 256 * 1024
TEXT_LIMIT = 2_000
LIST_LIMIT = 100
DEPENDENCY_LIMIT = 1_000
KEY_LIMIT = 200
PRIORITY_LIMIT = 1_000_000
ATTEMPTS_LIMIT = 1_000
LONGEST_CLAIM = timedelta(days=7)
_AMOUNT_LIMIT = 2**53

_LINES = ("mission", "phase", "repository", "branch", "head", "pull_request", "estimate_basis")
_LISTS = ("acceptance", "goals", "requirements", "evidence")
_AMOUNTS = ("estimate_cost_micros", "estimate_tokens", "estimate_seconds")


@dataclass(frozen=True, slots=True)
class Draft:
    """A card somebody wants made. `card_id` is never empty: one is made for those that came without."""

    card_id: str
    content: CardContent
    depends_on: tuple[str, ...] = ()
    idempotency_key: str = ""
    id_was_given: bool = True

    @property
    def digest(self) -> bytes:
        """Return what makes it the same draft again: everything but an id that was made for it."""
        said = asdict(self.content)
        said["time_limit"] = self.content.time_limit.total_seconds()
        parts = [self.card_id if self.id_was_given else "", said, sorted(self.depends_on)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a draft. `index`: its place in the request. `path`: of a cycle, or of a chain too deep."""

    index: int
    card_id: str
    field: str
    code: str
    what: str
    path: list[str] = dataclasses.field(default_factory=list)


def check_content(content: CardContent) -> Iterator[tuple[str, str, str]]:
    """Yield (field, code, what) for everything that a card may not say."""
    if not content.title.strip():
        yield "title", "missing", "a card needs a title"
    elif len(content.title) > TITLE_LIMIT:
        yield "title", "too-long", f"the title has {len(content.title):,} characters; at most {TITLE_LIMIT} are allowed"
    elif "\n" in content.title:
        yield "title", "invalid", "the title is one line"
    if len(content.body.encode()) > BODY_LIMIT:
        yield "body", "too-long", f"the body has over {BODY_LIMIT:,} bytes"
    for name in _LINES:
        text: str = getattr(content, name)
        if len(text) > TEXT_LIMIT:
            yield name, "too-long", f"{name} has {len(text):,} characters; at most {TEXT_LIMIT:,} are allowed"
    for name in _LISTS:
        yield from _check_list(name, getattr(content, name))
    yield from _check_list("labels", content.labels)
    for label in content.labels:
        if not _LABEL.fullmatch(label):
            yield "labels", "invalid", f"{label[:64]!r} is no label: letters, digits and _.:/=-, at most 128"
    if content.required_class and not _CLASS.fullmatch(content.required_class):
        yield "class", "invalid", f"{content.required_class[:64]!r} is no class: lowercase letters, digits and -"
    if content.urgency not in URGENCIES:
        yield "urgency", "invalid", f"the urgency is one of {', '.join(URGENCIES)}"
    if not -PRIORITY_LIMIT <= content.priority <= PRIORITY_LIMIT:
        yield "priority", "invalid", f"the priority lies between -{PRIORITY_LIMIT:,} and {PRIORITY_LIMIT:,}"
    for name in _AMOUNTS:
        if not 0 <= getattr(content, name) <= _AMOUNT_LIMIT:
            yield "estimate", "invalid", f"{name.removeprefix('estimate_')} of the estimate is out of range"
    if not 1 <= content.attempt_limit <= ATTEMPTS_LIMIT:
        yield "attempt_limit", "invalid", f"the limit of attempts lies between 1 and {ATTEMPTS_LIMIT:,}"
    if not timedelta(seconds=1) <= content.time_limit <= LONGEST_CLAIM:
        yield "time_limit", "invalid", "the limit of a claim lies between one second and 7 days"
    for name, value in asdict(content).items():
        texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
        if any("\x00" in text for text in texts):
            yield name, "invalid", f"{name} holds a NUL character, which the register cannot keep"


def _check_list(name: str, entries: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    if len(entries) > LIST_LIMIT:
        yield name, "too-long", f"{name} has {len(entries):,} entries; at most {LIST_LIMIT} are allowed"
    if any(len(entry) > TEXT_LIMIT for entry in entries):
        yield name, "too-long", f"an entry of {name} has over {TEXT_LIMIT:,} characters"


def check(drafts: Sequence[Draft]) -> list[Problem]:
    """Return all that is wrong with the drafts by themselves: content, ids, and edges among them."""
    problems: list[Problem] = []
    first_of: dict[str, int] = {}
    first_key: dict[str, int] = {}
    for index, draft in enumerate(drafts):

        def wrong(where: str, code: str, what: str, index: int = index, draft: Draft = draft) -> None:
            problems.append(Problem(index, draft.card_id, where, code, what))

        for where, code, what in check_content(draft.content):
            wrong(where, code, what)
        if not CARD_ID.fullmatch(draft.card_id):
            wrong("id", "invalid", f"{draft.card_id[:64]!r} is no card id: letters, digits and _.-, at most 128")
        elif draft.card_id in first_of:
            wrong("id", "duplicate", f"the id is that of card {first_of[draft.card_id] + 1} of this request too")
        first_of.setdefault(draft.card_id, index)
        if len(draft.idempotency_key) > KEY_LIMIT or "\x00" in draft.idempotency_key:
            wrong("idempotency_key", "invalid", f"the key has at most {KEY_LIMIT} characters, and no NUL")
        elif draft.idempotency_key:
            if draft.idempotency_key in first_key:
                other = first_key[draft.idempotency_key] + 1
                wrong("idempotency_key", "duplicate", f"the key is that of card {other} of this request too")
            first_key.setdefault(draft.idempotency_key, index)
        if len(draft.depends_on) > DEPENDENCY_LIMIT:
            wrong("depends_on", "too-long", f"a card depends on at most {DEPENDENCY_LIMIT:,} others")
        if draft.card_id in draft.depends_on:
            problems.append(
                Problem(
                    index,
                    draft.card_id,
                    "depends_on",
                    "self-dependency",
                    "a card cannot depend on itself",
                    [draft.card_id, draft.card_id],
                )
            )
    edges = {draft.card_id: [one for one in draft.depends_on if one != draft.card_id] for draft in drafts}
    _, cycles = order(edges)
    for cycle in cycles:
        index = first_of[cycle[0]]
        what = f"these cards wait for one another: {shown_path(cycle)}"
        problems.append(Problem(index, cycle[0], "depends_on", "cycle", what, cycle))
    return problems


def check_dependencies(
    drafts: Sequence[Draft], known: Mapping[str, Dependency], depth_of: Mapping[str, int]
) -> list[Problem]:
    """Return what is wrong with the edges from drafts to cards there are. `depth_of`: of each draft's id."""
    ids = {draft.card_id for draft in drafts}
    problems = []
    for index, draft in enumerate(drafts):
        for needed in draft.depends_on:
            if needed in ids:
                continue
            if needed not in known:
                what = f"there is no card {needed[:128]!r} to depend on"
                problems.append(Problem(index, draft.card_id, "depends_on", "unknown-dependency", what, [needed]))
            elif known[needed].status == "cancelled":
                what = f"card {needed!r} is cancelled, and will never be done"
                problems.append(Problem(index, draft.card_id, "depends_on", "cancelled-dependency", what, [needed]))
        if depth_of.get(draft.card_id, 0) > DEPTH_LIMIT:
            what = f"the chain of dependencies below it is longer than {DEPTH_LIMIT:,} cards"
            problems.append(Problem(index, draft.card_id, "depends_on", "too-deep", what))
    return problems


def cycle_through(edges: Sequence[tuple[str, str]], card_id: str, needed: str) -> list[str]:
    """Return the cycle that an edge from `card_id` to `needed` would close, from `card_id` to itself; or nothing."""
    back = find_path(edges, needed, card_id)
    return [card_id, *back] if back else []


def shown_path(path: Sequence[str], most: int = 12) -> str:
    """Return a path as a person reads it; the middle of a long one is left out."""
    if len(path) <= most:
        return " → ".join(path)
    half = most // 2
    return " → ".join([*path[:half], f"… {len(path) - 2 * half} more …", *path[-half:]])


def require(text: str, *, what: str, limit: int = TEXT_LIMIT, needed: bool = False) -> str:
    """Return a text of a write under a claim. Raises InvalidInput when it is too long, or missing."""
    if needed and not text.strip():
        raise InvalidInput(f"the {what} is missing", why="whoever reads the card next must know it")
    if len(text) > limit:
        raise InvalidInput(f"the {what} is too long", why=f"it has {len(text):,} of at most {limit:,} characters")
    if "\x00" in text:
        raise InvalidInput(f"the {what} holds a NUL character")
    return text
