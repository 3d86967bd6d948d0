"""Cards made and changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.backlog import writing
from mosaic_controlplane.backlog.claiming import Claiming
from mosaic_controlplane.backlog.drafts import (
    Draft,
    Problem,
    check,
    check_content,
    check_dependencies,
    shown_path,
)
from mosaic_controlplane.backlog.errors import CardNotFound
from mosaic_controlplane.backlog.graph import depths, order
from mosaic_controlplane.backlog.standing import actor_of, resolve
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register import card as card_table
from mosaic_controlplane.register import card_graph as graph_table
from mosaic_controlplane.register import card_transition as transition_table
from mosaic_controlplane.register.card import CONTENT_FIELDS, CardRow, Maker, NewCard
from mosaic_controlplane.register.card_graph import Dependency
from mosaic_controlplane.register.database import Connection, Database

BATCH_LIMIT = 5_000


class _Refused(Exception):
    """Ends a transaction in which nothing may be created."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Created:
    """What came of drafts: all cards, in their order; or problems, and nothing was created."""

    cards: list[CardRow]
    existed: list[bool]
    problems: list[Problem]


class Cards:
    """The cards of every tenant; each call names its caller's."""

    def __init__(self, database: Database, claiming: Claiming) -> None:
        self._database = database
        self._claiming = claiming

    async def create(
        self,
        drafts: Sequence[Draft],
        *,
        caller: Caller,
        tenant_id: UUID,
        request_id: UUID,
        payload: bytes,
        check_only: bool = False,
    ) -> Created:
        """Make cards, all or none. A draft whose idempotency key is known is the card that was made with it.

        `check_only`: make none; return what is wrong with them, but for chains that are too deep.
        """
        if not drafts:
            raise InvalidInput("there is no card to create")
        if len(drafts) > BATCH_LIMIT:
            raise InvalidInput(
                f"{len(drafts):,} cards at once are too many", why=f"at most {BATCH_LIMIT:,} are allowed"
            )
        problems = check(drafts)
        if problems or check_only:
            return Created([], [], problems + await self._wrong_with_others(drafts, tenant_id))
        try:
            async with self._database.transaction() as connection:

                async def write() -> list[str]:
                    return await self._add(connection, drafts, caller, tenant_id, request_id)

                answer = await writing.once(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method="Create",
                    request_id=request_id,
                    payload=payload,
                    write=write,
                )
                ids = [word.removeprefix("+") for word in answer]
                found = await card_table.get(connection, tenant_id=tenant_id, card_ids=ids)
        except _Refused as refused:
            return Created([], [], refused.problems)
        cards = [found[card_id] for card_id in ids]
        ready = [card.place for card in cards if card.claimable]
        if ready:
            self._claiming.claimable(tenant_id, min(ready))
        return Created(cards, [not word.startswith("+") for word in answer], [])

    async def _wrong_with_others(self, drafts: Sequence[Draft], tenant_id: UUID) -> list[Problem]:
        """Return what clashes with cards there are: of drafts that are refused anyway, all is told at once."""
        ids = {draft.card_id for draft in drafts}
        outside = sorted({one for draft in drafts for one in draft.depends_on if "\x00" not in one} - ids)
        async with self._database.connection() as connection:
            found = await card_table.get(connection, tenant_id=tenant_id, card_ids=outside)
            keys = [draft.idempotency_key for draft in drafts if "\x00" not in draft.idempotency_key]
            made = await card_table.by_keys(connection, tenant_id=tenant_id, keys=[key for key in keys if key])
            told = [draft for draft in drafts if "\x00" not in draft.card_id + draft.idempotency_key]
            taken = await self._check_known(connection, told, made, tenant_id)
        indices = {id(draft): index for index, draft in enumerate(drafts)}
        taken = [replace(one, index=indices[id(told[one.index])]) for one in taken]
        known = {card_id: Dependency(card_id, card.status, card.depth) for card_id, card in found.items()}
        return taken + check_dependencies(drafts, known, {})

    async def _add(
        self, connection: Connection, drafts: Sequence[Draft], caller: Caller, tenant_id: UUID, request_id: UUID
    ) -> list[str]:
        """Add what is new; returns every draft's card, new ones with a +."""
        keys = [draft.idempotency_key for draft in drafts if draft.idempotency_key]
        known = await card_table.by_keys(connection, tenant_id=tenant_id, keys=keys) if keys else {}
        new = [draft for draft in drafts if draft.idempotency_key not in known]
        problems = await self._check_known(connection, drafts, known, tenant_id)
        # A draft may depend on another that exists already under its key, by the id it was given now.
        renamed = {
            draft.card_id: known[draft.idempotency_key].card_id for draft in drafts if draft.idempotency_key in known
        }
        wanted = {draft.card_id: [renamed.get(one, one) for one in dict.fromkeys(draft.depends_on)] for draft in new}
        outside = sorted({one for needed in wanted.values() for one in needed if one not in wanted})
        if outside:
            await graph_table.share_graph(connection, tenant_id=tenant_id)
        existing = await graph_table.lock_dependencies(connection, tenant_id=tenant_id, card_ids=outside)
        ordered, _ = order(wanted)
        depth_of = depths(ordered, wanted, {one.card_id: one.depth for one in existing.values()})
        index_of = {id(draft): index for index, draft in enumerate(drafts)}
        found = check_dependencies(
            [replace(draft, depends_on=tuple(wanted[draft.card_id])) for draft in new], existing, depth_of
        )
        problems += [replace(one, index=index_of[id(new[one.index])]) for one in found]
        if problems:
            known_depths = depth_of | {one.card_id: one.depth for one in existing.values()}
            raise _Refused(await self._with_chains(connection, problems, wanted, known_depths, tenant_id))
        cards = {
            draft.card_id: NewCard(
                card_id=draft.card_id,
                content=draft.content,
                unmet=sum(1 for one in wanted[draft.card_id] if one not in existing or existing[one].status != "done"),
                depth=depth_of[draft.card_id],
                idempotency_key=draft.idempotency_key or None,
                draft_digest=draft.digest if draft.idempotency_key else None,
            )
            for draft in new
        }
        # In the order of the request, which is the order of age.
        await card_table.add(connection, tenant_id=tenant_id, cards=list(cards.values()), maker=_maker(caller))
        edges = [(card_id, one) for card_id, needed in wanted.items() for one in needed]
        await graph_table.add_edges(connection, tenant_id=tenant_id, edges=edges)
        target = new[0].card_id if len(new) == 1 else f"{len(new)} cards"
        if new:
            await writing.record(
                connection, caller, tenant_id=tenant_id, method="Create", target=target, request_id=request_id
            )
        return [f"+{d.card_id}" if d.card_id in cards else renamed[d.card_id] for d in drafts]

    async def _check_known(
        self, connection: Connection, drafts: Sequence[Draft], known: dict[str, CardRow], tenant_id: UUID
    ) -> list[Problem]:
        """Return the problems of drafts whose key or id is taken already."""
        given = [draft.card_id for draft in drafts if draft.id_was_given and draft.idempotency_key not in known]
        taken = await card_table.get(connection, tenant_id=tenant_id, card_ids=given) if given else {}
        problems = []
        for index, draft in enumerate(drafts):
            made = known.get(draft.idempotency_key) if draft.idempotency_key else None
            # What a key stood for is not known of a card from an export that did not tell.
            if made is not None and made.draft_digest not in (None, draft.digest):
                what = f"the key was used for another card, {made.card_id}"
                problems.append(Problem(index, draft.card_id, "idempotency_key", "key-reused", what))
            elif made is None and draft.card_id in taken:
                what = f"there is a card {draft.card_id!r} already"
                problems.append(Problem(index, draft.card_id, "id", "exists", what))
        return problems

    async def _with_chains(
        self,
        connection: Connection,
        problems: list[Problem],
        wanted: dict[str, list[str]],
        depth_of: dict[str, int],
        tenant_id: UUID,
    ) -> list[Problem]:
        """Name the path of each chain that is too deep."""
        told = []
        for problem in problems:
            if problem.code == "too-deep":
                path = [problem.card_id]
                while path[-1] in wanted and wanted[path[-1]]:
                    path.append(max(wanted[path[-1]], key=lambda one: depth_of.get(one, 0)))
                below = await graph_table.deepest_chain(connection, tenant_id=tenant_id, card_id=path[-1])
                path += below[1:]
                problem = replace(problem, path=path, what=f"{problem.what}: {shown_path(path)}")
            told.append(problem)
        return told

    async def update(
        self,
        card_id: str,
        changes: dict[str, object],
        *,
        caller: Caller,
        tenant_id: UUID,
        request_id: UUID,
        payload: bytes,
    ) -> CardRow:
        """Change what a card says: names of CardContent's fields, and what they become. Raises InvalidInput."""
        unknown = sorted(set(changes) - set(CONTENT_FIELDS))
        if unknown or not changes:
            raise InvalidInput(f"there is no field {unknown[0]!r}" if unknown else "no field to change is named")
        async with self._database.transaction() as connection:

            async def write() -> list[str]:
                named = await resolve(connection, tenant_id=tenant_id, card_id=card_id)
                card = await card_table.lock(connection, tenant_id=tenant_id, card_id=named)
                if card is None:
                    raise CardNotFound(f"there is no card {card_id!r}")
                content = replace(card.content, **changes)  # type: ignore[arg-type]
                for _field, _code, what in check_content(content):
                    raise InvalidInput(f"card {named} cannot say that", why=what)
                await card_table.set_content(connection, tenant_id=tenant_id, card_id=named, content=content)
                actor = actor_of(caller)
                fields = ", ".join(sorted(changes))
                await transition_table.note(
                    connection, tenant_id=tenant_id, card_id=named, kind="changed", actor=actor, reason=fields
                )
                await writing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method="Update",
                    target=named,
                    request_id=request_id,
                    detail={"fields": fields},
                )
                return [named]

            (named,) = await writing.once(
                connection,
                caller,
                tenant_id=tenant_id,
                method="Update",
                request_id=request_id,
                payload=payload,
                write=write,
            )
            card = (await card_table.get(connection, tenant_id=tenant_id, card_ids=[named]))[named]
        if card.claimable:  # its place may be another one now
            self._claiming.claimable(tenant_id, card.place)
        return card


def _maker(caller: Caller) -> Maker:
    return Maker(caller.kind, caller.id, caller.name)
