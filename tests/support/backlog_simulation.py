"""Many clients of one backlog, at random by a seed: they make, link, claim, write, die between call and answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from mosaic_controlplane.backlog.drafts import Draft
from mosaic_controlplane.backlog.transitions import Under
from mosaic_controlplane.register.card import CardContent, CardRow
from mosaic_controlplane.register.card_claim import Actor, Taken
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id

from tests.support.backlog import Yard
from tests.support.backlog_history import Acknowledged, Edge, Event, violations

KILLED = 0.12
RETRIED = 0.5

_WATCH_EDGES = """
create table fleet.edge_log (number bigint, card_id text, depends_on text, added boolean);
create function fleet.log_edge() returns trigger language plpgsql as $$
begin
  insert into fleet.edge_log
  select nextval('fleet.card_event_event_id_seq'), e.card_id, e.depends_on, tg_op = 'INSERT'
  from (select (coalesce(new, old)).*) e;
  return null;
end $$;
create trigger log_edge after insert or delete on fleet.card_edge for each row execute function fleet.log_edge();
"""

TAKE_THE_FENCE_OUT = """
create or replace function fleet.card_refusal(
  c fleet.card, verb text, asked_fence bigint, actor_id uuid, actor_run uuid, may_override boolean
) returns text language sql stable parallel safe as $$
  select case when c.status in ('done', 'cancelled') then 'ended' else '' end
$$;
"""


@dataclass
class Session:
    """One client: what it believes to hold, also what it has lost since without knowing."""

    actor: Actor
    yard: Yard
    random: random.Random
    held: list[tuple[str, int]] = field(default_factory=list)


class Simulation:
    """`sessions` clients over several replicas of one register."""

    def __init__(self, yards: list[Yard], *, seed: int, sessions: int = 12) -> None:
        self.yards = yards
        self.random = random.Random(seed)
        self.acknowledged: list[Acknowledged] = []
        self.cards: list[str] = []
        self.steps = 0
        self.killed = 0
        self.cuts = 0
        self.broken: list[str] = []
        self.sessions = [
            Session(yards[0].worker(f"w{n}"), yards[n % len(yards)], random.Random(self.random.random()))
            for n in range(sessions)
        ]
        self._actions: list[tuple[int, Callable[[Session], Coroutine[Any, Any, None]]]] = [
            (10, self._create),
            (8, self._link),
            (3, self._unlink),
            (30, self._claim),
            (22, self._complete),
            (4, self._renew),
            (8, self._release),
            (3, self._block),
            (4, self._unblock),
            (8, self._time_passes),
            (8, self._reap),
            (2, self._reclaim),
            (1, self._cut),
        ]

    async def watch(self, *, fence: bool = True) -> None:
        """Prepare the register: edges are logged; without `fence`, no write is refused for its fence or its holder."""
        async with self.yards[0].database.connection() as connection:
            await connection.execute(_WATCH_EDGES)
            if not fence:
                await connection.execute(TAKE_THE_FENCE_OUT)

    async def run(self, steps: int) -> None:
        """Let the clients take `steps` steps in all, side by side."""
        goal = self.steps + steps

        async def live(session: Session) -> None:
            weights = [weight for weight, _ in self._actions]
            while self.steps < goal:
                self.steps += 1
                (_, action) = session.random.choices(self._actions, weights)[0]
                with contextlib.suppress(FleetError):  # refused, in words: no promise is broken by that
                    await action(session)

        await asyncio.gather(*(live(session) for session in self.sessions))

    async def drain(self) -> None:
        """Do all that is left, as a healed fleet would: nothing may be forgotten."""
        yard, who = self.yards[0], self.yards[0].worker("last")
        async with yard.database.connection() as connection:
            await connection.execute(
                "update fleet.card set lease_until = now() - '1 second'::interval where status = 'claimed'"
            )
        while await yard.reap():
            pass
        for row in await yard.database.pool.fetch("select card_id from fleet.card where status = 'blocked'"):
            await yard.unblock(row["card_id"])
        while taken := await yard.claim(who, most=50):
            for one in taken:
                await yard.complete(who, one.card.card_id, one.fence)

    async def violations(self) -> list[str]:
        """Return every promise that was broken so far."""
        pool = self.yards[0].database.pool
        rows = await pool.fetch("select event_id, card_id, kind, status, fence, actor_id from fleet.card_event")
        edges = await pool.fetch("select number, card_id, depends_on, added from fleet.edge_log")
        final = await pool.fetch("select card_id, status, fence from fleet.card")
        found = violations(
            [Event(*row) for row in rows],
            [Edge(*row) for row in edges],
            self.acknowledged,
            {row["card_id"]: (row["status"], row["fence"]) for row in final},
        )
        return self.broken + found + [f"verify: {one}" for one in await self.yards[0].verify()]

    async def _call(self, session: Session, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call as a client that may die before the answer; None then, unless it comes back with the same request."""
        if session.random.random() >= KILLED:
            return await call()
        self.killed += 1
        task = asyncio.ensure_future(call())
        await asyncio.sleep(session.random.random() * 0.004)
        if not task.done():
            task.cancel()
        done = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(done, FleetError):
            raise done
        return await call() if session.random.random() < RETRIED else None

    def _note(self, session: Session, card: str, kind: str, fence: int) -> None:
        self.acknowledged.append(Acknowledged(card, kind, fence, session.actor.id))

    def _some_card(self, session: Session) -> str:
        return session.random.choice(self.cards) if self.cards else "none"

    def _some_claim(self, session: Session) -> tuple[str, int]:
        if not session.held:
            return (self._some_card(session), session.random.randint(0, 3))
        # Mostly the newest; now and then one it may have lost long ago.
        at = -1 if session.random.random() < 0.7 else session.random.randrange(len(session.held))
        return session.held[at]

    async def _create(self, session: Session) -> None:
        drafts = []
        for _ in range(session.random.randint(1, 3)):
            card_id = new_id().hex
            known = [*self.cards[-40:], *(draft.card_id for draft in drafts)]
            needed = session.random.sample(known, min(len(known), session.random.choice((0, 0, 1, 1, 2, 3))))
            priority = session.random.randint(-2, 2)
            drafts.append(Draft(card_id, CardContent("t", priority=priority, attempt_limit=3), tuple(needed)))
        request_id = new_id()

        async def call() -> None:
            await session.yard.backlog.cards.create(
                drafts,
                caller=session.yard.operator,
                tenant_id=session.yard.tenant_id,
                request_id=request_id,
                payload=request_id.bytes,
            )
            self.cards += [draft.card_id for draft in drafts if draft.card_id not in self.cards]

        await self._call(session, call)

    async def _link(self, session: Session) -> None:
        card, needed = self._some_card(session), self._some_card(session)
        await self._call(session, lambda: session.yard.link(card, needed))

    async def _unlink(self, session: Session) -> None:
        card = self._some_card(session)
        row = await session.yard.database.pool.fetchval(
            "select depends_on from fleet.card_edge where card_id = $1 limit 1", card
        )
        if row is not None:
            await self._call(session, lambda: session.yard.unlink(card, row))

    async def _claim(self, session: Session) -> None:
        request_id, most = new_id(), session.random.choice((1, 1, 1, 2, 3))
        card = self._some_card(session) if session.random.random() < 0.1 else ""
        taken: list[Taken] = await self._call(
            session,
            lambda: session.yard.claim(session.actor, card, most=1 if card else most, request_id=request_id),
        )
        for one in taken or ():
            self._note(session, one.card.card_id, "claimed", one.fence)
            session.held.append((one.card.card_id, one.fence))
        del session.held[:-8]

    async def _complete(self, session: Session) -> None:
        (card, fence), request_id = self._some_claim(session), new_id()
        done: CardRow | None = await self._call(
            session, lambda: session.yard.complete(session.actor, card, fence, request_id=request_id)
        )
        if done is not None:
            self._note(session, card, "completed", done.fence)

    async def _renew(self, session: Session) -> None:
        card, fence = self._some_claim(session)
        under = Under(new_id(), session.actor, card, fence)
        await self._call(
            session,
            lambda: session.yard.backlog.transitions.renew(session.yard.tenant_id, under, lease=timedelta(seconds=60)),
        )

    async def _release(self, session: Session) -> None:
        (card, fence), request_id = self._some_claim(session), new_id()
        done: CardRow | None = await self._call(
            session, lambda: session.yard.release(session.actor, card, fence, request_id=request_id)
        )
        if done is not None and fence:
            self._note(session, card, "released", fence + 1)

    async def _block(self, session: Session) -> None:
        card, fence = self._some_claim(session)
        await self._call(session, lambda: session.yard.block(session.actor, card, fence))

    async def _unblock(self, session: Session) -> None:
        card = await session.yard.database.pool.fetchval(
            "select card_id from fleet.card where status = 'blocked' order by random() limit 1"
        )
        if card is not None:
            await self._call(session, lambda: session.yard.unblock(card))

    async def _time_passes(self, session: Session) -> None:
        card = await session.yard.database.pool.fetchval(
            "select card_id from fleet.card where status = 'claimed' order by random() limit 1"
        )
        if card is not None:
            await session.yard.run_out(card)

    async def _reap(self, session: Session) -> None:
        await session.yard.reap()

    async def _reclaim(self, session: Session) -> None:
        card = await session.yard.database.pool.fetchval(
            "select card_id from fleet.card where status = 'claimed' order by random() limit 1"
        )
        if card is not None:
            await session.yard.backlog.transitions.reclaim(
                session.yard.tenant_id,
                caller=session.yard.operator,
                card_ids=[card],
                agent="",
                expired=False,
                reason="",
                request_id=new_id(),
            )

    async def _cut(self, session: Session) -> None:
        """Cut the connections on which cards are claimed and completed; what is kept must be right at once."""
        cut = await session.yard.database.pool.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
            " and query like '%fleet.take_cards(%' and query not like '%pg_terminate_backend%'"
        )
        if cut:
            self.cuts += cut
            self.broken += [f"verify after a fault: {one}" for one in await session.yard.verify()]
