"""What the backlog shows: pages, one card with its history and trees, statistics, proofs."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.backlog.errors import CardNotFound
from mosaic_controlplane.backlog.graph import DrawnNode, draw
from mosaic_controlplane.backlog.standing import named_or_held
from mosaic_controlplane.register import card as card_table
from mosaic_controlplane.register import card_claim as claim_table
from mosaic_controlplane.register import card_graph as graph_table
from mosaic_controlplane.register import card_history as history_table
from mosaic_controlplane.register import card_view as view_table
from mosaic_controlplane.register import replica
from mosaic_controlplane.register.card import STATUSES, CardRow
from mosaic_controlplane.register.card_claim import FIRST_PLACE, Actor, PauseRow
from mosaic_controlplane.register.card_history import EventRow
from mosaic_controlplane.register.card_view import CountRow, FlowRow, Mismatch, PageFilter
from mosaic_controlplane.register.database import Database

PAGE_DEFAULT = 100
PAGE_LIMIT = 1_000
HISTORY_DEFAULT = 100
HISTORY_LIMIT = 1_000
TREE_DEFAULT = 5
TREE_LIMIT = 50
TREE_NODES = 500
LONGEST_WINDOW = timedelta(days=30)
DEFAULT_WINDOW = timedelta(hours=24)
MISMATCH_LIMIT = 1_000

_OPEN = tuple(status for status in STATUSES if status not in ("done", "cancelled"))


_FIRST = "mosaic backlog ls (without --cursor it begins at the first page)"


@dataclass(frozen=True, slots=True)
class Page:
    """Cards, where the next page begins ('' after the last), and when this was read."""

    cards: list[CardRow]
    depends_on: dict[str, list[str]]
    next_cursor: str
    at: datetime
    paused: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One card with all that is known of it. The trees are drawn with itself first."""

    card: CardRow
    depends_on: list[str]
    history: list[EventRow]
    history_cut: bool
    below: list[DrawnNode]
    above: list[DrawnNode]
    nodes: dict[str, CardRow]
    at: datetime


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts now, and what flowed within a window."""

    counts: list[CountRow]
    flow: dict[str, FlowRow]
    oldest: tuple[str, datetime] | None
    pause: PauseRow
    window: timedelta
    at: datetime


class Views:
    """Reads of every tenant's backlog; each call names its caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        tenant_id: UUID,
        *,
        wanted: PageFilter,
        statuses: Sequence[str] = (),
        everything: bool = False,
        ready: bool = False,
        cursor: str = "",
        limit: int = PAGE_DEFAULT,
        dependencies: bool = False,
    ) -> Page:
        """Return a page of cards: by status and age, or (`ready`) what can be claimed now in the order of claims."""
        limit = min(limit, PAGE_LIMIT) if limit > 0 else PAGE_DEFAULT
        chosen = [one for one in STATUSES if one in statuses] or list(STATUSES if everything else _OPEN)
        async with self._database.connection() as connection:
            cards: list[CardRow] = []
            if ready:
                rank, seq = _parse_cursor(cursor, "claim", FIRST_PLACE)
                cards = await view_table.page_ready(
                    connection, tenant_id=tenant_id, after=(rank, seq), wanted=wanted, limit=limit + 1
                )
            else:
                first, seq = _parse_cursor(cursor, "listed", (0, 0))
                for index in range(first, len(chosen)):
                    cards += await view_table.page(
                        connection,
                        tenant_id=tenant_id,
                        status=chosen[index],
                        after=seq if index == first else 0,
                        wanted=wanted,
                        limit=limit + 1 - len(cards),
                    )
                    if len(cards) > limit:
                        break
            more, cards = len(cards) > limit, cards[:limit]
            edges: dict[str, list[str]] = {}
            if dependencies and cards:
                edges = await graph_table.dependencies(
                    connection, tenant_id=tenant_id, card_ids=[card.card_id for card in cards]
                )
            pause = await claim_table.paused(connection, tenant_id=tenant_id)
            at = await replica.database_time(connection)
        following = ""
        if more:
            last = cards[-1]
            place = last.place if ready else (chosen.index(last.status), last.seq)
            following = _cursor("claim" if ready else "listed", place)
        return Page(cards, edges, following, at, pause.paused)

    async def show(
        self, tenant_id: UUID, *, card_id: str, actor: Actor, history_limit: int = 0, tree_depth: int = 0
    ) -> Shown:
        """Return one card; without an id the one that the actor holds. Raises CardNotFound, NotHolder or Ambiguous."""
        newest = min(history_limit, HISTORY_LIMIT) if history_limit > 0 else HISTORY_DEFAULT
        levels = min(tree_depth, TREE_LIMIT) if tree_depth > 0 else TREE_DEFAULT
        async with self._database.transaction() as connection:
            named = await named_or_held(connection, tenant_id=tenant_id, card_id=card_id, actor=actor)
            cards = await card_table.get(connection, tenant_id=tenant_id, card_ids=[named])
            if named not in cards:
                raise CardNotFound(f"there is no card {named!r}")
            history = await history_table.history(connection, tenant_id=tenant_id, card_id=named, limit=newest + 1)
            edges = await graph_table.dependencies(connection, tenant_id=tenant_id, card_ids=[named])
            trees: list[list[DrawnNode]] = [[], []]
            if tree_depth >= 0:
                for upward in (False, True):
                    children = await graph_table.tree(
                        connection,
                        tenant_id=tenant_id,
                        card_id=named,
                        levels=levels,
                        limit=4 * TREE_NODES,
                        upward=upward,
                    )
                    trees[upward] = draw(named, children, levels=levels, most=TREE_NODES)
            drawn = {node.card_id for tree in trees for node in tree}
            nodes = await card_table.get(connection, tenant_id=tenant_id, card_ids=sorted(drawn)) if drawn else {}
            at = await replica.database_time(connection)
        cut = len(history) > newest
        return Shown(
            card=cards[named],
            depends_on=edges.get(named, []),
            history=history[-newest:],
            history_cut=cut,
            below=trees[False],
            above=trees[True],
            nodes=nodes,
            at=at,
        )

    async def statistics(self, tenant_id: UUID, *, window: timedelta | None = None) -> Statistics:
        """Return counts, and what flowed within `window`."""
        window = DEFAULT_WINDOW if window is None else window
        if not timedelta(0) < window <= LONGEST_WINDOW:
            raise InvalidInput("the window is out of range", why="it lies between now and 30 days ago")
        async with self._database.transaction() as connection:
            return Statistics(
                counts=await view_table.counts(connection, tenant_id=tenant_id),
                flow={row.kind: row for row in await view_table.flow(connection, tenant_id=tenant_id, window=window)},
                oldest=await view_table.oldest_ready(connection, tenant_id=tenant_id),
                pause=await claim_table.paused(connection, tenant_id=tenant_id),
                window=window,
                at=await replica.database_time(connection),
            )

    async def verify(self, tenant_id: UUID) -> tuple[int, int, list[Mismatch], bool]:
        """Compute anew what is kept: returns (cards, edges, what differs, whether more differs than is told)."""
        async with self._database.transaction() as connection:
            cards, edges = await view_table.size(connection, tenant_id=tenant_id)
            found = await view_table.verify(connection, tenant_id=tenant_id, limit=MISMATCH_LIMIT + 1)
        return cards, edges, found[:MISMATCH_LIMIT], len(found) > MISMATCH_LIMIT


def _cursor(kind: str, place: tuple[int, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps([kind, *place]).encode()).decode().rstrip("=")


def _parse_cursor(text: str, kind: str, first: tuple[int, int]) -> tuple[int, int]:
    """Return the place that a cursor tells. Raises InvalidInput for one that is not of this kind of listing."""
    if not text:
        return first
    try:
        found, rank, seq = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        place = (int(rank), int(seq))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidInput("this cursor is not one of ours", why=f"it reads {text[:80]!r}", next_step=_FIRST) from None
    if found != kind or not (-(2**31) <= place[0] < 2**31 and 0 <= place[1] < 2**63):
        raise InvalidInput(
            "this cursor is of another listing",
            why="filters and order stay the same from page to page",
            next_step=_FIRST,
        )
    return place
