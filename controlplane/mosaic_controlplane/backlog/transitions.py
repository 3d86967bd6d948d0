"""What becomes of a card under a claim and by a person's hand: renewed, proposed, given back, blocked, taken back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.backlog import writing
from mosaic_controlplane.backlog.claiming import Claiming
from mosaic_controlplane.backlog.drafts import LONGEST_CLAIM, require
from mosaic_controlplane.backlog.errors import CardNotFound, refused
from mosaic_controlplane.backlog.standing import actor_of, named_or_held, resolve, seen_by
from mosaic_controlplane.backlog.wishes import LONGEST_LEASE
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import addresses
from mosaic_controlplane.register import card as card_table
from mosaic_controlplane.register import card_claim as claim_table
from mosaic_controlplane.register import card_lease as lease_table
from mosaic_controlplane.register import card_transition as transition_table
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import Actor, PauseRow, Spent
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.request import RequestReused

RECLAIM_LIMIT = 1_000

Change = Callable[[Connection, str], Awaitable[CardRow]]


@dataclass(frozen=True, slots=True)
class Under:
    """Under which claim somebody writes: the card ('': the one held), its fence (0: that of the claim), and who."""

    request_id: UUID
    actor: Actor
    card_id: str = ""
    fence: int = 0


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is put up for review; empty: as on the card."""

    branch: str = ""
    head: str = ""
    pull_request: str = ""
    evidence: Sequence[str] = ()
    note: str = ""
    spent: Spent = field(default_factory=Spent)


class Transitions:
    """Transitions of the cards of every tenant; each call names its caller's. All raise what backlog/errors.py has.

    With `caller` a transition has a row in the audit beside its entry in the card's history.
    """

    def __init__(self, database: Database, claiming: Claiming) -> None:
        self._database = database
        self._claiming = claiming

    async def renew(
        self, tenant_id: UUID, under: Under, *, lease: timedelta | None = None, extend: timedelta | None = None
    ) -> CardRow:
        """Begin the lease anew; `extend` moves the claim's limit to that long from now."""
        if lease is not None and not timedelta(seconds=1) <= lease <= LONGEST_LEASE:
            raise InvalidInput("the lease is out of range", why="it lies between 1 second and 24 hours")
        if extend is not None and not timedelta(seconds=1) <= extend <= LONGEST_CLAIM:
            raise InvalidInput("the extension is out of range", why="it lies between 1 second and 7 days")

        async def change(connection: Connection, card_id: str) -> CardRow:
            return await transition_table.renew(
                connection, tenant_id=tenant_id, card_id=card_id, lease=lease, extend=extend
            )

        reason = f"limit moved to {extend} from now" if extend is not None else ""
        return await self._move(tenant_id, under, "renew", "renewed", change, reason)

    async def propose(
        self, tenant_id: UUID, under: Under, proposal: Proposal, *, caller: Caller | None = None
    ) -> CardRow:
        """Put a card into review: its claim ends, its gate decides."""
        for text, what in (
            (proposal.branch, "branch"),
            (proposal.head, "head"),
            (proposal.pull_request, "pull request"),
            (proposal.note, "note"),
            *((one, "evidence") for one in proposal.evidence),
        ):
            require(text, what=what)

        async def change(connection: Connection, card_id: str) -> CardRow:
            return await transition_table.propose(
                connection,
                tenant_id=tenant_id,
                card_id=card_id,
                branch=proposal.branch,
                head=proposal.head,
                pull_request=proposal.pull_request,
                evidence=proposal.evidence,
                spent=proposal.spent,
            )

        details = {
            name: text
            for name, text in (
                ("branch", proposal.branch),
                ("head", proposal.head),
                ("pull_request", proposal.pull_request),
            )
            if text
        }
        return await self._move(tenant_id, under, "propose", "proposed", change, proposal.note, details, caller=caller)

    async def release(
        self, tenant_id: UUID, under: Under, *, reason: str, spent: Spent, caller: Caller | None = None
    ) -> CardRow:
        """Give a card back to whoever claims next."""
        require(reason, what="reason")

        async def change(connection: Connection, card_id: str) -> CardRow:
            return await transition_table.release(
                connection, tenant_id=tenant_id, card_id=card_id, reason=reason, spent=spent
            )

        return await self._move(tenant_id, under, "release", "released", change, reason, caller=caller)

    async def block(
        self, tenant_id: UUID, under: Under, *, reason: str, spent: Spent, caller: Caller | None = None
    ) -> CardRow:
        """Take a card out until somebody unblocks it."""
        require(reason, what="reason", needed=True)

        async def change(connection: Connection, card_id: str) -> CardRow:
            return await transition_table.block(
                connection, tenant_id=tenant_id, card_id=card_id, reason=reason, spent=spent
            )

        return await self._move(tenant_id, under, "block", "blocked", change, reason, caller=caller)

    async def unblock(self, tenant_id: UUID, under: Under, *, reason: str, caller: Caller) -> CardRow:
        """Make a blocked card ready, its attempts counted anew."""
        require(reason, what="reason")

        async def change(connection: Connection, card_id: str) -> CardRow:
            return await transition_table.unblock(connection, tenant_id=tenant_id, card_id=card_id, reason=reason)

        return await self._move(tenant_id, under, "unblock", "unblocked", change, reason, caller=caller)

    async def cancel(self, tenant_id: UUID, under: Under, *, reason: str, caller: Caller) -> CardRow:
        """End a card that is not to be done. What depends on it waits until it is unlinked."""
        require(reason, what="reason")

        async def change(connection: Connection, card_id: str) -> CardRow:
            return await transition_table.cancel(connection, tenant_id=tenant_id, card_id=card_id, reason=reason)

        return await self._move(tenant_id, under, "cancel", "cancelled", change, reason, caller=caller)

    async def _judged(self, connection: Connection, tenant_id: UUID, under: Under, verb: str, card_id: str) -> None:
        """Lock a card for a change under a claim of it. Raises CardNotFound, or why that may not be."""
        held = await transition_table.hold(
            connection, tenant_id=tenant_id, card_id=card_id, verb=verb, fence=under.fence, actor=under.actor
        )
        if held is None:
            raise CardNotFound(f"there is no card {card_id!r}")
        card, refusal = held
        if refusal:
            raise refused(refusal, seen_by(card, under.actor), card_id=card_id, verb=verb, fence=under.fence)

    async def _move(
        self,
        tenant_id: UUID,
        under: Under,
        verb: str,
        kind: str,
        change: Change,
        reason: str = "",
        details: dict[str, str] | None = None,
        *,
        caller: Caller | None = None,
    ) -> CardRow:
        """Lock a card, judge, change and note it, in one transaction; a request that was carried out is not again."""
        async with self._database.transaction() as connection:
            written = await transition_table.written_by(
                connection, request_id=under.request_id, actor_id=under.actor.id
            )
            if written is not None:
                if written[0] != kind or (under.card_id and not written[1].startswith(under.card_id)):
                    raise RequestReused(details={"request_id": str(under.request_id)})
                if kind == "renewed":  # what is told of a lease has to be so now, and of the caller's own claim
                    await self._judged(connection, tenant_id, under, verb, written[1])
                    return await change(connection, written[1])
                return (await card_table.get(connection, tenant_id=tenant_id, card_ids=[written[1]]))[written[1]]
            card_id = await named_or_held(connection, tenant_id=tenant_id, card_id=under.card_id, actor=under.actor)
            await self._judged(connection, tenant_id, under, verb, card_id)
            card = await change(connection, card_id)
            await transition_table.note(
                connection,
                tenant_id=tenant_id,
                card_id=card_id,
                kind=kind,
                actor=under.actor,
                reason=reason,
                details=details,
                request_id=under.request_id,
            )
            if caller is not None:
                await writing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method=verb.capitalize(),
                    target=card_id,
                    request_id=under.request_id,
                )
        if card.claimable:
            self._claiming.claimable(tenant_id, card.place)
        return card

    async def reclaim(
        self,
        tenant_id: UUID,
        *,
        caller: Caller,
        card_ids: Sequence[str],
        agent: str,
        expired: bool,
        reason: str,
        request_id: UUID,
    ) -> list[CardRow]:
        """Take cards from their holders: those named, all of an agent, or all whose lease is over."""
        require(reason, what="reason")
        if sum((bool(card_ids), bool(agent), expired)) != 1:
            raise InvalidInput("it is not clear what to reclaim", why="name cards, or an agent, or say: expired")
        if len(card_ids) > RECLAIM_LIMIT:
            raise InvalidInput(f"{len(card_ids):,} cards are named", why=f"at most {RECLAIM_LIMIT:,} may be")
        async with self._database.transaction() as connection:

            async def write() -> list[str]:
                if expired:
                    over = await lease_table.expire(connection, limit=RECLAIM_LIMIT, tenant_id=tenant_id)
                    taken = [card for card, _ in over]
                else:
                    named = [await resolve(connection, tenant_id=tenant_id, card_id=one) for one in card_ids]
                    holder = None
                    if agent:
                        holder = (await addresses.one_seat(connection, tenant_id=tenant_id, address=agent)).agent_id
                    taken = await transition_table.reclaim(
                        connection,
                        tenant_id=tenant_id,
                        card_ids=named if card_ids else None,
                        holder_id=holder,
                        reason=reason or f"reclaimed by {caller.name}",
                        actor=actor_of(caller).maker,
                    )
                if taken:
                    await writing.record(
                        connection,
                        caller,
                        tenant_id=tenant_id,
                        method="Reclaim",
                        target=taken[0].card_id if len(taken) == 1 else f"{len(taken)} cards",
                        request_id=request_id,
                    )
                return [card.card_id for card in taken]

            # Once: repeated later, it would take the card from whoever has claimed it since.
            ids = await writing.once(
                connection,
                caller,
                tenant_id=tenant_id,
                method="Reclaim",
                request_id=request_id,
                payload=json.dumps([sorted(card_ids), agent, expired, reason]).encode(),
                write=write,
            )
            found = await card_table.get(connection, tenant_id=tenant_id, card_ids=ids)
        cards = [found[card_id] for card_id in ids]
        ready = [card.place for card in cards if card.claimable]
        if ready:
            self._claiming.claimable(tenant_id, min(ready))
        return cards

    async def pause(
        self, tenant_id: UUID, *, paused: bool, reason: str, caller: Caller, request_id: UUID
    ) -> tuple[PauseRow, bool]:
        """Pause or resume a tenant; returns how it is now, and whether that is new."""
        require(reason, what="reason")
        method = "Pause" if paused else "Resume"
        async with self._database.transaction() as connection:

            async def write() -> list[str]:
                new = await claim_table.pause(
                    connection, tenant_id=tenant_id, paused=paused, by=caller.name, reason=reason
                )
                if new:
                    await writing.record(
                        connection,
                        caller,
                        tenant_id=tenant_id,
                        method=method,
                        target=caller.tenant,
                        request_id=request_id,
                        detail={"reason": reason[:500]},
                    )
                return ["changed"] if new else []

            # Once: repeated later, it would undo what somebody else has decided since.
            changed = bool(
                await writing.once(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method=method,
                    request_id=request_id,
                    payload=reason.encode(),
                    write=write,
                )
            )
            row = await claim_table.paused(connection, tenant_id=tenant_id)
        if changed and not paused:
            self._claiming.claimable(tenant_id)
        return row, changed
