"""Cards of this cluster that peers claim: within their grants, never more at once than those say, and no others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid5

from mosaic_framework import selector
from mosaic_framework.errors import LimitReached
from mosaic_framework.selector import Of

from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.backlog.claiming import completed
from mosaic_controlplane.backlog.errors import CardNotFound
from mosaic_controlplane.backlog.standing import named_or_held, seen_by
from mosaic_controlplane.backlog.transitions import Under
from mosaic_controlplane.backlog.wishes import Wish, check
from mosaic_controlplane.federation import granted, patterns
from mosaic_controlplane.federation.errors import NotGranted, PeerRevoked
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.wakes import RESCAN_SECONDS, Wakes, wait_for_wake
from mosaic_controlplane.register import card_claim as claim_table
from mosaic_controlplane.register import card_transition as transition_table
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_claim
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import Actor, Completion, Slot, Taken
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.peer_claim import Bounds, Candidate
from mosaic_controlplane.register.peer_grant import GrantRow
from mosaic_controlplane.register.replica import WakeKey

SERVICE = "FederationService"


class HoldsEnough(LimitReached):
    """Your cluster holds as many cards as it may."""

    code = "holds-enough"
    hint = "complete or release one first: what a grant says is how many may be held at once"


@dataclass(slots=True)
class _Room:
    """A grant, which cards it is about, and how many more of them may be claimed under it."""

    grant: GrantRow
    bounds: Bounds
    left: int


def actor_of(caller: Caller, *, claimant: UUID | None, speaker: str) -> Actor:
    """Return a peer as the one who claims. Its workers are told apart by `claimant`, an id that it makes.

    The id of a run is made of both, so that no peer can name a run of this cluster's.
    """
    return Actor("peer", caller.id, speaker, uuid5(caller.id, str(claimant or caller.id)))


class PeerClaims:
    """What peers do with cards."""

    def __init__(self, database: Database, backlog: Backlog, wakes: Wakes) -> None:
        self._database = database
        self._backlog = backlog
        self._wakes = wakes

    async def claim(self, caller: Caller, wish: Wish) -> list[Taken]:
        """Return what the wish gets within the peer's grants, best first; waits for work as long as it says.

        Empty: there was none. A request that was made before gets what it got then. Raises NotGranted; HoldsEnough;
        CardNotFound for a card by id that is not there, not granted, or cannot be claimed now.
        """
        check(wish)
        until = time.monotonic() + wish.wait.total_seconds()
        async with self._wakes.watching(WakeKey.cards(caller.tenant_id)) as wake:
            while True:
                taken = await self._backlog.claiming.surely_told(caller.tenant_id, wish, self._claim_now(caller, wish))
                left = until - time.monotonic()
                if taken or left <= 0:
                    break
                await wait_for_wake(wake, min(left, RESCAN_SECONDS))
        if not taken and wish.card_id:
            raise CardNotFound(f"there is no card {wish.card_id[:80]!r} that you can claim now")
        return taken

    async def _claim_now(self, caller: Caller, wish: Wish) -> list[Taken]:
        async with self._database.transaction() as connection:
            # One claim of a peer at a time, and none beside its revocation: so no two of them count the same cards.
            if not await peer_table.hold(connection, tenant_id=caller.tenant_id, peer_id=caller.id):
                raise PeerRevoked
            again = await claim_table.claimed_by_requests(
                connection, tenant_id=caller.tenant_id, requests=[(wish.request_id, wish.actor.id)]
            )
            if again:
                return again
            rooms = await self._rooms(connection, caller)
            chosen = await self._choose(connection, caller, wish, rooms)
            if not chosen:
                return []
            slots = [Slot(wish.request_id, place, wish.actor, wish.lease) for place in range(len(chosen))]
            taken = await peer_claim.take(connection, tenant_id=caller.tenant_id, card_ids=chosen, slots=slots)
            for one in taken:
                await self._record(connection, caller, "Claim", one.card, wish.request_id)
        return sorted(taken, key=lambda one: one.card.place)

    async def _rooms(self, connection: Connection, caller: Caller) -> list[_Room]:
        """Return the grants under which more may be claimed. Raises NotGranted or HoldsEnough."""
        rooms = []
        for grant in await granted.grants(connection, caller, "claim"):
            bounds = patterns.bounds(selector.parse(grant.selector, Of.CARDS))
            held = await peer_claim.held(connection, tenant_id=caller.tenant_id, peer_id=caller.id, bounds=bounds)
            rooms.append(_Room(grant, bounds, grant.most - held))
        if all(room.left <= 0 for room in rooms):
            most = ", ".join(f"{room.grant.most} of {room.grant.selector}" for room in rooms)
            raise HoldsEnough(why=f"what it may hold at once: {most}")
        return [room for room in rooms if room.left > 0]

    async def _choose(self, connection: Connection, caller: Caller, wish: Wish, rooms: Sequence[_Room]) -> list[str]:
        """Return the best cards that the rooms are big enough for. A card counts in every room that it fits."""
        candidates: dict[str, tuple[Candidate, list[_Room]]] = {}
        for room in rooms:
            for found in await peer_claim.claimable(
                connection,
                tenant_id=caller.tenant_id,
                bounds=room.bounds,
                classes=wish.which.classes,
                labels=wish.which.labels,
                card_id=wish.card_id,
                limit=wish.most,
            ):
                candidates.setdefault(found.card_id, (found, []))[1].append(room)
        chosen: list[str] = []
        for candidate, within in sorted(candidates.values(), key=lambda entry: entry[0].place):
            if len(chosen) < wish.most and any(room.left > 0 for room in within):
                chosen.append(candidate.card_id)
                for room in within:
                    room.left -= 1
        return chosen

    async def renew(
        self, caller: Caller, under: Under, *, lease: timedelta | None, extend: timedelta | None
    ) -> CardRow:
        """Begin the lease of a card anew, as long as a grant covers it: else it ends with the lease that it has.

        Raises NotGranted, and as Transitions.renew.
        """
        async with self._database.connection() as connection:
            bounds = [
                patterns.bounds(selector.parse(grant.selector, Of.CARDS))
                for grant in await granted.grants(connection, caller, "claim")
            ]
            card_id = await named_or_held(
                connection, tenant_id=caller.tenant_id, card_id=under.card_id, actor=under.actor
            )
            for one in bounds:
                if await peer_claim.covers(connection, tenant_id=caller.tenant_id, card_id=card_id, bounds=one):
                    break
            else:
                raise NotGranted(
                    f"this cluster does not grant card {card_id} to yours any more",
                    next_step="complete or release it before its lease ends",
                )
        return await self._backlog.transitions.renew(caller.tenant_id, under, lease=lease, extend=extend)

    async def complete(self, caller: Caller, completion: Completion) -> CardRow:
        """Complete a card that the peer holds; the same completion again is accepted. Raises as Backlog.complete."""
        async with self._database.transaction() as connection:
            written = await transition_table.written_by(
                connection, request_id=completion.request_id, actor_id=completion.actor.id, place=completion.place
            )
            card_id = (
                written[1]
                if written is not None and written[1].startswith(completion.card_id)
                else await named_or_held(
                    connection, tenant_id=caller.tenant_id, card_id=completion.card_id, actor=completion.actor
                )
            )
            completion = replace(completion, card_id=card_id)
            ((answer,), _) = await claim_table.work(connection, tenant_id=caller.tenant_id, completions=[completion])
            if answer.card is not None:
                answer = replace(answer, card=seen_by(answer.card, completion.actor))
            card = completed(completion, answer)
            if answer.refusal == "":
                await self._record(connection, caller, "Complete", card, completion.request_id)
        if answer.freed is not None:
            self._backlog.claiming.claimable(caller.tenant_id, answer.freed)
        return card

    async def _record(
        self, connection: Connection, caller: Caller, method: str, card: CardRow, request_id: UUID
    ) -> None:
        await auditing.record(
            connection,
            caller,
            method=f"{SERVICE}/{method}",
            target=card.card_id,
            request_id=str(request_id),
            detail={"fence": str(card.fence)},
        )
