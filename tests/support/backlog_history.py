"""A checker of histories of a backlog: what it finds was promised never to happen. Pure; a test feeds it bad ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

_CLAIMABLE = {"ready"}
_RAISES_FENCE = {"claimed", "released", "blocked", "reclaimed"}


@dataclass(frozen=True, slots=True)
class Event:
    """A transition as the register wrote it, in the order of `number`."""

    number: int
    card: str
    kind: str
    status: str
    fence: int
    actor: UUID | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that was added (or removed), in the same order as events."""

    number: int
    card: str
    needed: str
    added: bool


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a client was told: its write of `kind` on a card was carried out, under `fence`."""

    card: str
    kind: str
    fence: int
    actor: UUID


def violations(
    events: Iterable[Event],
    edges: Iterable[Edge],
    acknowledged: Iterable[Acknowledged],
    final: Mapping[str, tuple[str, int]],
) -> list[str]:
    """Return what broke a promise. `final`: the status and fence of each card at the end."""
    found: list[str] = []
    history: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.number):
        history[event.card].append(event)
    needed_at: dict[str, list[Edge]] = defaultdict(list)
    for edge in sorted(edges, key=lambda edge: edge.number):
        needed_at[edge.card].append(edge)
    done_at = {
        card: next((one.number for one in told if one.kind == "completed"), None) for card, told in history.items()
    }
    for card, told in history.items():
        found += _of_one_card(card, told)
        for event in told:
            if event.kind == "claimed":
                found += _unmet(event, needed_at[card], done_at)
    for one in acknowledged:
        found += _acknowledged(one, history[one.card], final)
    for card, (status, fence) in final.items():
        last = history[card][-1] if history[card] else None
        if last is None or (last.status, last.fence) != (status, fence):
            found.append(f"{card}: is {status} under {fence}, its history ends otherwise")
    return found


def _of_one_card(card: str, told: Sequence[Event]) -> list[str]:
    found = []
    status, fence = "none", 0
    holder: UUID | None = None
    finished = 0
    for event in told:
        where = f"{card}: {event.kind} (event {event.number})"
        if event.fence < fence:
            found.append(f"{where}: the fence went back from {fence} to {event.fence}")
        if event.kind in _RAISES_FENCE and event.fence != fence + 1:
            found.append(f"{where}: the fence went from {fence} to {event.fence}")
        if event.kind not in _RAISES_FENCE and event.kind != "cancelled" and event.fence != fence:
            found.append(f"{where}: the fence changed from {fence} to {event.fence}")
        match event.kind:
            case "claimed":
                if status not in _CLAIMABLE:
                    found.append(f"{where}: claimed while it was {status}")
                holder = event.actor
            case "released" | "renewed" | "proposed":
                if status != "claimed" and event.kind != "proposed":
                    found.append(f"{where}: while it was {status}")
                if event.actor != holder:
                    found.append(f"{where}: by another than its holder")
            case "expired" | "reclaimed":
                if status != "claimed":
                    found.append(f"{where}: while it was {status}")
            case "completed":
                finished += 1
                if event.actor != holder:
                    found.append(f"{where}: completed by another than its holder")
                if finished > 1:
                    found.append(f"{where}: completed twice")
                if status not in ("claimed", "ready", "blocked"):
                    found.append(f"{where}: completed while it was {status}")
        if status in ("done", "cancelled") and event.status != status:
            found.append(f"{where}: came back from {status}")
        status, fence = event.status, event.fence
    return found


def _unmet(claimed: Event, edges: Sequence[Edge], done_at: Mapping[str, int | None]) -> list[str]:
    needed: set[str] = set()
    for edge in edges:
        if edge.number < claimed.number:
            (needed.add if edge.added else needed.discard)(edge.needed)
    unmet = [one for one in needed if (done := done_at.get(one)) is None or done > claimed.number]
    return [f"{claimed.card}: claimed (event {claimed.number}) while {one} was not done" for one in unmet]


def _acknowledged(one: Acknowledged, told: Sequence[Event], final: Mapping[str, tuple[str, int]]) -> list[str]:
    if not any((event.kind, event.fence, event.actor) == (one.kind, one.fence, one.actor) for event in told):
        return [f"{one.card}: a client was told {one.kind} under {one.fence}, and its history has no such transition"]
    if one.kind == "completed" and final[one.card][0] != "done":
        return [f"{one.card}: a completion that was acknowledged is lost: it is {final[one.card][0]}"]
    return []
