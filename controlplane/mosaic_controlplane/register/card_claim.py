"""Claims of cards, and their completion. Other writes under a claim: card_transition.py; leases: card_lease.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_controlplane.register.card import CardRow, Maker, card_row
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.sql import load

SQL = load("card_claim")

FIRST_PLACE = (-(2**31), 0)
"""Before every card in the order of claims."""

HOT_SETTINGS = {
    # Plans made while the table was tiny must not turn when it has grown: there is one right plan, by index.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""What the connections that claim have set on top of the others'."""

HOT_CONNECTIONS = 3


async def connect_hot(url: str) -> Database:
    """Open the connections for claims and completions: planned once, by index, and never reset in between."""
    return await Database.connect(url, pool_size=HOT_CONNECTIONS, settings=HOT_SETTINGS, reset=False)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes. `run_id`: an agent's run, or an operator's claimant id. `may_override`: an operator, or a gate."""

    kind: str
    id: UUID
    name: str
    run_id: UUID
    may_override: bool = False

    @property
    def maker(self) -> Maker:
        """Return who it is, without the run."""
        return Maker(self.kind, self.id, self.name)


@dataclass(frozen=True, slots=True)
class Slot:
    """One card wanted: by whom, for which request, which of its cards it would be (from 0), and for how long."""

    request_id: UUID
    place: int
    actor: Actor
    lease: timedelta


@dataclass(frozen=True, slots=True)
class Taken:
    """A card that a request got, or (`card` may be another's by now) had got under `fence`; as of `at`."""

    request_id: UUID
    place: int
    card: CardRow
    fence: int
    at: datetime

    @property
    def over(self) -> bool:
        """Whether the claim has ended since."""
        return self.card.status != "claimed" or self.card.fence != self.fence


@dataclass(frozen=True, slots=True)
class Spent:
    """What work has cost."""

    cost_micros: int = 0
    tokens: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A card said to be done. `place`: which one of its request, from 0."""

    card_id: str
    fence: int
    actor: Actor
    request_id: UUID
    place: int = 0
    result: str = ""
    head: str = ""
    pull_request: str = ""
    evidence: Sequence[str] = ()
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True)
class Completed:
    """The answer to a completion. `refusal` empty or `already`: it is done. `card` is None when there is none."""

    refusal: str
    card: CardRow | None
    freed: tuple[int, int] | None
    """the first place in the order of claims that can be claimed now because of the whole batch"""


@dataclass(frozen=True, slots=True)
class PauseRow:
    """Whether a tenant is paused, and who said so last."""

    paused: bool
    by: str
    at: datetime | None
    reason: str


def _slots(slots: Sequence[Slot]) -> list[list[object]]:
    return [
        [slot.request_id for slot in slots],
        [slot.place for slot in slots],
        [slot.actor.run_id for slot in slots],
        [slot.actor.kind for slot in slots],
        [slot.actor.id for slot in slots],
        [slot.actor.name for slot in slots],
        [slot.lease for slot in slots],
    ]


async def work(
    connection: Connection,
    *,
    tenant_id: UUID,
    completions: Sequence[Completion] = (),
    classes: Sequence[str] | None = None,
    labels: Sequence[str] = (),
    begin: tuple[int, int] = FIRST_PLACE,
    slots: Sequence[Slot] = (),
) -> tuple[list[Completed], list[Taken]]:
    """Complete cards, no card twice, and claim the best ready ones for `slots`, in their order, in one statement.

    `classes`: required classes that may be taken, None for any. `begin`: where in the order of claims to look from. The
    completions are answered in the order asked; claims may be fewer than slots; none while the tenant is paused.
    """
    rows = await connection.fetch(
        SQL.work,
        tenant_id,
        json.dumps([_asked(place, one) for place, one in enumerate(completions)]),
        *begin,
        None if classes is None else list(classes),
        list(labels),
        len(slots),
        *_slots(slots),
    )
    answers: dict[int, Completed] = {}
    taken: list[Taken] = []
    for row in rows:
        if row["what"] == "taken":
            taken.append(_taken(row))
            continue
        freed = None if row["freed_seq"] is None else (row["freed_rank"], row["freed_seq"])
        card = None if row["card"] is None or row["card"]["card_id"] is None else card_row(row["card"])
        answers[row["place"]] = Completed(row["refusal"], card, freed)
    return [answers[place] for place in range(len(completions))], taken


def _asked(slot: int, one: Completion) -> dict[str, object]:
    return {
        "slot": slot,
        "card_id": one.card_id,
        "fence": one.fence,
        "actor_kind": one.actor.kind,
        "actor_id": str(one.actor.id),
        "actor_name": one.actor.name,
        "run_id": str(one.actor.run_id),
        "may_override": one.actor.may_override,
        "request_id": str(one.request_id),
        "place": one.place,
        "result": one.result,
        "head": one.head,
        "pull_request": one.pull_request,
        "evidence": list(one.evidence),
        "cost_micros": one.spent.cost_micros,
        "tokens": one.spent.tokens,
        "seconds": one.spent.seconds,
    }


async def claim_one(
    connection: Connection,
    *,
    tenant_id: UUID,
    card_id: str,
    classes: Sequence[str] | None,
    labels: Sequence[str],
    slot: Slot,
) -> Taken | None:
    """Claim one card by its id, if it is ready; waits for a write of it that is under way."""
    row = await connection.fetchrow(
        SQL.claim_one,
        tenant_id,
        card_id,
        None if classes is None else list(classes),
        list(labels),
        slot.request_id,
        slot.actor.run_id,
        slot.actor.kind,
        slot.actor.id,
        slot.actor.name,
        slot.lease,
    )
    return None if row is None else _taken(row)


def _taken(row: object) -> Taken:
    card = card_row(row["card"])  # type: ignore[index]
    return Taken(row["request_id"], row["place"], card, card.fence, card.changed_at)  # type: ignore[index]


async def claimed_by_requests(
    connection: Connection, *, tenant_id: UUID, requests: Sequence[tuple[UUID, UUID]]
) -> list[Taken]:
    """Return what these requests (id, actor's id) have claimed, with the cards as they are now.

    From here on they have been told, and `give_back` leaves it to them.
    """
    rows = await connection.fetch(
        SQL.claimed_by_requests, tenant_id, [one for one, _ in requests], [actor for _, actor in requests]
    )
    return [Taken(row["request_id"], row["place"], card_row(row["card"]), row["fence"], row["at"]) for row in rows]


async def give_back(connection: Connection, *, tenant_id: UUID, request_id: UUID, actor_id: UUID) -> list[CardRow]:
    """Undo the claims of a request that nobody was told of; returns the cards that are ready again."""
    rows = await connection.fetch(SQL.give_back, tenant_id, request_id, actor_id)
    return [card_row(row["card"]) for row in rows]


async def paused(connection: Connection, *, tenant_id: UUID) -> PauseRow:
    """Return whether a tenant is paused."""
    row = await connection.fetchrow(SQL.paused, tenant_id)
    return PauseRow(**dict(row)) if row is not None else PauseRow(paused=False, by="", at=None, reason="")


async def pause(connection: Connection, *, tenant_id: UUID, paused: bool, by: str, reason: str) -> bool:
    """Pause or resume a tenant. False when it was so before."""
    return await connection.fetchval(SQL.pause, tenant_id, paused, by, reason) is not None
