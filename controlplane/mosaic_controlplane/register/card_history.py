"""The history of cards: every transition, by whom, under which fence."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("card_history")


@dataclass(frozen=True, slots=True)
class EventRow:
    """One transition of a card. `status` and `fence` are those afterwards."""

    at: datetime
    kind: str
    status: str
    fence: int
    actor_kind: str
    actor_id: UUID
    actor_name: str
    run_id: UUID | None
    reason: str
    details: dict[str, str]
    waited: timedelta | None = None


_EVENT_FIELDS = tuple(one.name for one in fields(EventRow))


async def add_events(
    connection: Connection, *, tenant_id: UUID, events: Sequence[tuple[str, EventRow]], now: bool = False
) -> None:
    """Add transitions to histories. `now`: their time is the transaction's."""
    await connection.executemany(
        SQL.add_event,
        [
            (
                tenant_id,
                card_id,
                None if now else event.at,
                event.kind,
                event.status,
                event.fence,
                event.actor_kind,
                event.actor_id,
                event.actor_name,
                event.run_id,
                event.reason,
                json.dumps(event.details) if event.details else None,
            )
            for card_id, event in events
        ],
    )


async def history(connection: Connection, *, tenant_id: UUID, card_id: str, limit: int) -> list[EventRow]:
    """Return the newest transitions of a card, oldest first."""
    rows = await connection.fetch(SQL.history, tenant_id, card_id, limit)
    return [_event(row) for row in reversed(rows)]


async def histories(connection: Connection, *, tenant_id: UUID, card_ids: Sequence[str]) -> dict[str, list[EventRow]]:
    """Return all transitions of these cards, oldest first."""
    found: dict[str, list[EventRow]] = defaultdict(list)
    for row in await connection.fetch(SQL.histories, tenant_id, list(card_ids)):
        found[row["card_id"]].append(_event(row))
    return dict(found)


def _event(row: Any) -> EventRow:
    values = {name: row[name] for name in _EVENT_FIELDS}
    return EventRow(**{**values, "details": json.loads(row["details"] or "{}")})
