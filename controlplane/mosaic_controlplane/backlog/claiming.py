"""Claims and completions: gathered, so that what many ask for at one moment is one statement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import structlog
from mosaic_framework.errors import FleetError

from mosaic_controlplane.backlog.errors import CardNotReady, refused
from mosaic_controlplane.backlog.gather import Gatherer
from mosaic_controlplane.backlog.wishes import MOST_CARDS, Filter, Wish, check, not_claimable
from mosaic_controlplane.mesh.wakes import RESCAN_SECONDS, Wakes, wait_for_wake
from mosaic_controlplane.register import card as card_table
from mosaic_controlplane.register import card_claim as claim_table
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import FIRST_PLACE, Completed, Completion, Slot, Taken
from mosaic_controlplane.register.database import Connection, Database, RegisterBusy
from mosaic_controlplane.register.replica import WakeKey

_LOOK_WHOLE_SECONDS = 0.5
_RETRIES = 4
_GIVE_BACK_AGAIN = (0.1, 1.0, 5.0, 20.0, 60.0)
"""Seconds until a claim is given back again when the register was lost meanwhile; done twice, it does nothing."""

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Ask:
    """What one call asks for: cards to be completed, cards to be claimed, or both."""

    done: tuple[Completion, ...] = ()
    wish: Wish | None = None

    @property
    def apart(self) -> set[Hashable]:
        """No card is completed twice in one statement, and no request is made twice."""
        keys: set[Hashable] = {one.card_id for one in self.done}
        if self.wish is not None:
            keys.add((self.wish.request_id, self.wish.actor.id))
        return keys

    @property
    def weight(self) -> int:
        return len(self.done) + (self.wish.most if self.wish is not None else 0)


_Got = tuple[list[Completed], list[Taken]]
_Claims = dict[tuple[UUID, UUID], list[Taken]]


@dataclass(slots=True)
class _Lane:
    """What is asked of one tenant by one filter. `begin`: no card before it can be claimed, as far as is known here."""

    gatherer: Gatherer[_Ask, _Got]
    begin: tuple[int, int] = FIRST_PLACE
    looked_whole: float = field(default_factory=time.monotonic)


class Claiming:
    """Claims and completions of every tenant; each call names its caller's.

    A lane remembers where in the order of claims the last card was taken, and looks from there: before it lie only
    entries of cards that are taken already, which nobody can clean up while an old snapshot is open. A card that
    becomes claimable before that place moves it back; one that does so through another replica is passed over for half
    a second at most, and never when nothing else is left.
    """

    def __init__(self, hot: Database, wakes: Wakes) -> None:
        self._hot = hot
        self._wakes = wakes
        self._lanes: dict[tuple[UUID, Filter], _Lane] = {}
        self._under_way: set[asyncio.Task[Any]] = set()

    def claimable(self, tenant_id: UUID, place: tuple[int, int] | None = None) -> None:
        """Cards at or after `place` (None: anywhere) can be claimed now that could not before: wake whoever waits."""
        for (tenant, _), lane in self._lanes.items():
            if tenant == tenant_id:
                lane.begin = min(lane.begin, place or FIRST_PLACE)
        self._wakes.tell(WakeKey.cards(tenant_id))

    async def claim(self, tenant_id: UUID, wish: Wish) -> list[Taken]:
        """Return what the wish gets, best first; waits for work as long as it says. Empty: there was none.

        A request that was made before gets what it got then. Raises CardNotFound or CardNotReady for a card by id.
        """
        check(wish)
        if wish.card_id:
            return [await self._claim_named(tenant_id, wish)]
        return (await self.work(tenant_id, (), wish))[1]

    async def _claim_named(self, tenant_id: UUID, wish: Wish) -> Taken:
        """Claim the card that is named; waits until it can be claimed for as long as the wish says."""
        until = time.monotonic() + wish.wait.total_seconds()
        try:
            return await self._claim_whole(tenant_id, wish)
        except CardNotReady as error:
            if not wish.wait or error.for_good:
                raise
        async with self._wakes.watching(WakeKey.cards(tenant_id)) as wake:
            while True:
                try:
                    return await self._claim_whole(tenant_id, wish)
                except CardNotReady as error:
                    left = until - time.monotonic()
                    if left <= 0 or error.for_good:
                        raise
                await wait_for_wake(wake, min(left, RESCAN_SECONDS))

    async def _claim_whole(self, tenant_id: UUID, wish: Wish) -> Taken:
        """Claim one card, and give it back when the caller is gone by then."""

        async def claim() -> list[Taken]:
            return [await self._claim_one(tenant_id, wish)]

        return (await self.surely_told(tenant_id, wish, claim()))[0]

    async def surely_told(self, tenant_id: UUID, wish: Wish, claim: Coroutine[Any, Any, list[Taken]]) -> list[Taken]:
        """Return what `claim` gets for a wish; it is given back when the caller is gone by then."""
        call = self._go_on(claim)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            call.add_done_callback(
                lambda done: (
                    None if done.cancelled() or done.exception() else self.untold(tenant_id, wish, done.result())
                )
            )
            raise

    def untold(self, tenant_id: UUID, wish: Wish | None, taken: Sequence[Taken]) -> None:
        """Give back what a request got whose caller went away before it was told; begins it, and returns at once.

        A card that nobody knows to hold would be out of reach until its lease is over; for an agent, whose host renews,
        until its limit. The same request made again meanwhile keeps what it is told then.
        """
        if wish is not None and taken:
            self._go_on(self._give_back(tenant_id, wish))

    async def _give_back(self, tenant_id: UUID, wish: Wish) -> None:
        async def once() -> list[CardRow]:
            async with self._hot.connection() as connection:
                return await claim_table.give_back(
                    connection, tenant_id=tenant_id, request_id=wish.request_id, actor_id=wish.actor.id
                )

        for seconds in _GIVE_BACK_AGAIN:
            try:
                cards = await _patiently(once)
                break
            except FleetError as error:
                why = error.why or error.what
            await asyncio.sleep(seconds)
        else:
            log.warning("a claim that nobody was told of is held until its lease is over", why=why)
            return
        for card in cards:
            log.info("a claim was given back: nobody was there to be told", card=card.card_id, holder=wish.actor.name)
        ready = [card.place for card in cards if card.claimable]
        if ready:
            self.claimable(tenant_id, min(ready))

    def _go_on(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Carry out `work` to its end, whoever is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def complete(self, tenant_id: UUID, completion: Completion) -> CardRow:
        """Complete a card; returns it. The same completion again is accepted. Raises what backlog/errors.py has."""
        ((answer,), _) = await self.work(tenant_id, (completion,), None)
        return completed(completion, answer)

    async def work(self, tenant_id: UUID, done: Sequence[Completion], wish: Wish | None) -> _Got:
        """Complete what is done and claim what is wished for; returns the answers to each, and the claims.

        Waits for work as long as the wish says. The answers to completions are judged by `completed`.
        """
        if wish is not None:
            check(wish)
        which = wish.which if wish is not None else Filter()
        answers, taken = await self._ask(tenant_id, which, _Ask(tuple(done), wish))
        if taken or wish is None or not wish.wait:
            return answers, taken
        until = time.monotonic() + wish.wait.total_seconds()
        async with self._wakes.watching(WakeKey.cards(tenant_id)) as wake:
            while not taken:
                _, taken = await self._ask(tenant_id, which, _Ask((), wish))
                left = until - time.monotonic()
                if taken or left <= 0:
                    break
                await wait_for_wake(wake, min(left, RESCAN_SECONDS))
        return answers, taken

    async def _ask(self, tenant_id: UUID, which: Filter, asked: _Ask) -> _Got:
        key = (tenant_id, which)
        lane = self._lanes.get(key)
        if lane is None:

            async def carry_out(asks: Sequence[_Ask]) -> Sequence[_Got]:
                return await self._work_all(tenant_id, which, lane_of, asks)

            lane_of = _Lane(
                Gatherer(
                    carry_out,
                    apart=lambda one: one.apart,
                    weight=lambda one: one.weight,
                    most=2 * MOST_CARDS,
                    untold=lambda one, got: self.untold(tenant_id, one.wish, got[1]),
                )
            )
            lane = self._lanes[key] = lane_of
            self._forget_idle_lanes()
        return await lane.gatherer.ask(asked)

    def _forget_idle_lanes(self) -> None:
        if len(self._lanes) > 1000:
            for key in [key for key, lane in self._lanes.items() if lane.gatherer.idle][:-1]:
                del self._lanes[key]

    async def _work_all(self, tenant_id: UUID, which: Filter, lane: _Lane, asks: Sequence[_Ask]) -> Sequence[_Got]:
        wishes = [asked.wish for asked in asks if asked.wish is not None]
        completions = [one for asked in asks for one in asked.done]

        async def once() -> tuple[list[Completed], _Claims]:
            got: _Claims = {(wish.request_id, wish.actor.id): [] for wish in wishes}
            async with self._hot.connection() as connection:
                # Only with several cards could a repeated request get some of them anew.
                await _add_repeated(connection, tenant_id, [wish for wish in wishes if wish.most > 1], got)
                slots = _slots(wishes, got)
                begin = self._begin(lane)
                answers, taken = await self._take(connection, tenant_id, which, lane, begin, slots, completions)
                freed = any(answer.freed is not None for answer in answers)
                if len(taken) < len(slots) and (freed or begin != FIRST_PLACE):
                    # Nobody is told that there is none before everything has been looked at.
                    lane.looked_whole = time.monotonic()
                    served = {(one.request_id, one.place) for one in taken}
                    rest = [slot for slot in slots if (slot.request_id, slot.place) not in served]
                    _, more = await self._take(connection, tenant_id, which, lane, FIRST_PLACE, rest, ())
                    taken += more
                actor_of = {(slot.request_id, slot.place): slot.actor.id for slot in slots}
                for one in taken:
                    got[one.request_id, actor_of[one.request_id, one.place]].append(one)
                without = [wish for wish in wishes if not got[wish.request_id, wish.actor.id]]
                await _add_repeated(connection, tenant_id, without, got)
            return answers, got

        answers, got = await _patiently(once)
        freed = next((answer.freed for answer in answers if answer.freed is not None), None)
        if freed is not None:
            self.claimable(tenant_id, freed)
        left = iter(answers)
        return [
            (
                [next(left) for _ in asked.done],
                []
                if asked.wish is None
                else sorted(got[asked.wish.request_id, asked.wish.actor.id], key=lambda one: one.card.place),
            )
            for asked in asks
        ]

    def _begin(self, lane: _Lane) -> tuple[int, int]:
        if time.monotonic() - lane.looked_whole < _LOOK_WHOLE_SECONDS:
            return lane.begin
        lane.looked_whole = time.monotonic()
        return FIRST_PLACE

    async def _take(
        self,
        connection: Connection,
        tenant_id: UUID,
        which: Filter,
        lane: _Lane,
        begin: tuple[int, int],
        slots: Sequence[Slot],
        completions: Sequence[Completion],
    ) -> _Got:
        before = lane.begin
        answers, taken = await claim_table.work(
            connection,
            tenant_id=tenant_id,
            completions=completions,
            classes=which.classes,
            labels=which.labels,
            begin=begin,
            slots=slots,
        )
        if taken and lane.begin == before:  # nothing became claimable meanwhile
            lane.begin = max(one.card.place for one in taken)
        return answers, taken

    async def _claim_one(self, tenant_id: UUID, wish: Wish) -> Taken:
        async with self._hot.connection() as connection:
            taken = await claim_table.claim_one(
                connection,
                tenant_id=tenant_id,
                card_id=wish.card_id,
                classes=wish.which.classes,
                labels=wish.which.labels,
                slot=Slot(wish.request_id, 0, wish.actor, wish.lease),
            )
            if taken is not None:
                return taken
            repeated = await claim_table.claimed_by_requests(
                connection, tenant_id=tenant_id, requests=[(wish.request_id, wish.actor.id)]
            )
            if repeated:
                return repeated[0]
            found = await card_table.get(connection, tenant_id=tenant_id, card_ids=[wish.card_id])
            paused = await claim_table.paused(connection, tenant_id=tenant_id)
        raise not_claimable(wish, found.get(wish.card_id), paused=paused.paused)


async def _add_repeated(connection: Connection, tenant_id: UUID, wishes: Sequence[Wish], got: _Claims) -> None:
    """Give to requests that were made before what they claimed then."""
    if not wishes:
        return
    asked = [(wish.request_id, wish.actor.id) for wish in wishes]
    found = await claim_table.claimed_by_requests(connection, tenant_id=tenant_id, requests=asked)
    actors = dict(asked)
    for one in found:
        got[one.request_id, actors[one.request_id]].append(one)


def completed(completion: Completion, answer: Completed) -> CardRow:
    """Return the card that is done. Raises what backlog/errors.py has when the completion was refused."""
    if answer.refusal in ("", "already") and answer.card is not None:
        return answer.card
    raise refused(answer.refusal, answer.card, card_id=completion.card_id, verb="complete", fence=completion.fence)


def _slots(wishes: Sequence[Wish], got: _Claims) -> list[Slot]:
    """Return a slot for every card wanted: everybody's first one before anybody's second."""
    open_wishes = [wish for wish in wishes if not got[wish.request_id, wish.actor.id]]
    return [
        Slot(wish.request_id, place, wish.actor, wish.lease)
        for place in range(max((wish.most for wish in open_wishes), default=0))
        for wish in open_wishes
        if place < wish.most
    ]


async def _patiently(work: Callable[[], Awaitable[Result]]) -> Result:
    """Do `work`, again when the register chose it to give way to another transaction."""
    for attempt in range(_RETRIES):
        try:
            return await work()
        except RegisterBusy as error:
            log.info("the register asks to try again", why=error.why)
            await asyncio.sleep(0.01 * 2**attempt)
    return await work()
