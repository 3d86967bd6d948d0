"""From one root to the next without anybody having to join again: two overlap, each step is refused until it is safe.

`add`: a second root is made, which everybody is told of and trusts. `use`: new leaves are by it, those of replicas too.
`retire`: the old one is trusted no more. What hangs on the old one is in the register: every leaf names its root.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from mosaic_framework.errors import Conflict, FleetError, NotFound
from mosaic_framework.paths import Home

from mosaic_controlplane.identity.bootstrap import ClusterIdentity, add_authority
from mosaic_controlplane.register import audit, authority, leaf, peer
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.leaf import InUse

_MOST_NAMES = 5


class TooEarly(FleetError):
    """This step of the change of roots would shut somebody out."""

    code = "rollover-too-early"


@dataclass(frozen=True, slots=True)
class Root:
    """A root that is trusted. `state`: signs, next (trusted, not signing yet) or old (signs no more). Times are UTC."""

    authority_id: UUID
    state: str
    fingerprint: str
    """SHA-256 of its certificate, hex"""
    not_after: datetime
    in_use: InUse | None
    """leaves by it that are in use; None: there are none"""


async def roots(connection: Connection) -> list[Root]:
    """Return the roots that are trusted, the one that signs first."""
    in_use = await leaf.by_authority(connection)
    found = []
    for index, row in enumerate(await authority.list_authorities(connection)):
        state = "next" if row.signs_since is None else "signs" if index == 0 else "old"
        fingerprint = x509.load_der_x509_certificate(row.certificate).fingerprint(hashes.SHA256()).hex()
        found.append(Root(row.authority_id, state, fingerprint, row.not_after, in_use.get(row.authority_id)))
    return found


async def add(database: Database, cluster: ClusterIdentity, home: Home) -> UUID:
    """Make the next root; returns its id. Raises Conflict when there is one already."""
    async with database.transaction() as connection:
        await authority.lock_change(connection)
        if any(root.state == "next" for root in await roots(connection)):
            raise Conflict("the next root has been made already", next_step="mosaic-controlplane authority use")
        made = await add_authority(connection, cluster, home)
        await _audit(connection, "add", made)
    return made


async def use(database: Database, *, force: bool = False) -> UUID:
    """Let the next root sign; returns its id. Waits until every replica that serves knows it.

    Raises NotFound when there is none, and TooEarly (unless `force`) while somebody may not know it.
    """
    async with database.connection() as connection:
        following = _of_state(await roots(connection), "next", "mosaic-controlplane authority add")
        await _until_replicas_know(connection, following)
    async with database.transaction() as connection:
        await authority.lock_change(connection)
        if not force:
            await _check_told(connection, following)
        await authority.let_sign(connection, following)
        await _audit(connection, "use", following, force=force)
    return following


async def retire(database: Database, *, force: bool = False) -> list[UUID]:
    """Trust the roots that sign no more no longer; returns their ids. Waits until every replica shows the new one.

    Raises NotFound when there is none, and TooEarly (unless `force`) while leaves by it are in use.
    """
    async with database.connection() as connection:
        known = await roots(connection)
        _of_state(known, "old", "mosaic-controlplane authority use")
        await _until_replicas_know(connection, known[0].authority_id)
    async with database.transaction() as connection:
        await authority.lock_change(connection)
        old = [root for root in await roots(connection) if root.state == "old"]
        for root in old:
            if root.in_use is not None and not force:
                raise TooEarly(
                    f"{root.in_use.leaves} certificates by the old root are in use",
                    why=f"the last ends at {root.in_use.last_end:%Y-%m-%d %H:%M} UTC, unless it is renewed before",
                    next_step="wait for that; with --force their holders must join or log in again",
                )
        await authority.retire(connection, [root.authority_id for root in old])
        for root in old:
            await _audit(connection, "retire", root.authority_id, force=force)
    return [root.authority_id for root in old]


def _of_state(known: list[Root], state: str, next_step: str) -> UUID:
    for root in known:
        if root.state == state:
            return root.authority_id
    raise NotFound("there is no such root", why=f"none is in the state '{state}'", next_step=next_step)


async def _until_replicas_know(connection: Connection, authority_id: UUID) -> None:
    await asyncio.sleep(max(0.0, await authority.seconds_until_known(connection, authority_id)))


async def _check_told(connection: Connection, following: UUID) -> None:
    untold = await leaf.untold(connection, following)
    if untold:
        raise TooEarly(
            f"{_some([f'{one.kind} {one.name}' for one in untold])} may not know the next root yet",
            why=f"they learn of it with a renewal; their certificates end by {untold[0].not_after:%Y-%m-%d %H:%M} UTC",
            next_step="wait for that; with --force they must join or log in again",
        )
    peers = await peer.untold(connection, following)
    if peers:
        raise TooEarly(
            f"{_some(peers, 'cluster')} may not know the next root yet",
            why="a peer learns of it within half a minute of being connected: mosaic peer ls",
            next_step="wait for that; with --force it must be paired again",
        )
    tokens = await leaf.old_tokens(connection, following)
    if tokens:
        raise TooEarly(
            f"{tokens} unused join tokens are from before the next root",
            why="whoever joins with one could not check a certificate by it",
            next_step="wait until they expire; with --force they are of no use",
        )


def _some(names: Sequence[str], noun: str = "") -> str:
    """Return names as part of a sentence, not too many."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return " ".join(filter(None, [noun, ", ".join(names[:_MOST_NAMES]) + more]))


async def _audit(connection: Connection, verb: str, authority_id: UUID, *, force: bool = False) -> None:
    await audit.record(
        connection,
        tenant_id=None,
        caller_kind="local",
        caller_id=str(os.getuid()),
        caller_name="authority",
        peer_address="",
        method=f"authority {verb}",
        target=str(authority_id),
        detail={"force": str(force).lower()},
    )
