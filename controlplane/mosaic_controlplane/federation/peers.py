"""Peers as the people of this cluster deal with them: what each may do here, what its people count as, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from mosaic_framework import selector
from mosaic_framework.errors import Ambiguous, Conflict, FleetError, InvalidInput, NotFound
from mosaic_framework.ids import new_id
from mosaic_framework.names import nearest
from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1.federation_pb2_grpc import FederationServiceStub

from mosaic_controlplane.federation.errors import NoSuchPeer, PeerRevoked
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import PEER_ROLES, Caller
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_grant, request
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.peer import BY_US, PeerRow
from mosaic_controlplane.register.peer_grant import KINDS, NewGrant

DEFAULT_GRANT = timedelta(days=30)
LONGEST_GRANT = timedelta(days=365)
SHORTEST_GRANT = timedelta(seconds=1)
DEFAULT_MOST = 1
LARGEST_MOST = 1_000
FIELDS = ("detail", "work", "process")
"""Groups of fields that `see` may show beside the basic ones."""
TELL_SECONDS = 2.5
"""How long whoever ends a pairing waits for the other side to be told: it is over here already."""
_REASON_LIMIT = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A grant that is asked for. `ttl` in seconds, 0: 30 days; `most` cards, 0: 1."""

    kind: str
    selector: str
    fields: Sequence[str]
    most: int
    ttl: int


class Peers:
    """Changes what is with a tenant's peers. Each change and its audit row are one transaction."""

    def __init__(self, database: Database, outgoing: Outgoing) -> None:
        self._database = database
        self._outgoing = outgoing

    async def grant(self, caller: Caller, name: str, asked: Asked, *, request_id: UUID, payload: bytes) -> PeerRow:
        """Let a peer do something until a time. The same request again, `payload` byte for byte, grants nothing more.

        Raises InvalidInput, NoSuchPeer, PeerRevoked, RequestReused.
        """
        chosen, ttl = _checked(asked)
        async with self._database.transaction() as connection:
            peer = await _held(connection, caller, name)
            new = NewGrant(
                tenant_id=peer.tenant_id,
                grant_id=new_id(),
                peer_id=peer.peer_id,
                kind=asked.kind,
                selector=chosen,
                fields=tuple(dict.fromkeys(asked.fields)),
                most=(asked.most or DEFAULT_MOST) if asked.kind == "claim" else 0,
                made_by=caller.name,
            )

            async def write() -> bytes:
                made = await peer_grant.add(connection, new, ttl=ttl)
                await peer_table.grants_changed(connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id)
                detail = {"grant": str(made.grant_id), "kind": made.kind, "selector": made.selector}
                detail |= {"fields": ",".join(made.fields)} if made.fields else {}
                detail |= {"max": str(made.most)} if made.most else {}
                detail |= {"expires_at": made.expires_at.isoformat(timespec="seconds")}
                await _record(connection, caller, "Grant", peer, str(request_id), detail)
                return made.grant_id.bytes

            await request.once(
                connection,
                tenant_id=peer.tenant_id,
                caller=caller.key,
                request_id=request_id,
                method="PeerService/Grant",
                payload=payload,
                write=write,
            )
        return peer

    async def ungrant(self, caller: Caller, name: str, *, grants: Sequence[str], kind: str, request_id: str) -> PeerRow:
        """End grants of a peer: those whose ids are said, in part, or all of a kind. Raises NotFound, Ambiguous."""
        if bool(grants) == bool(kind):
            raise InvalidInput("it is not said which grants to end", why="say their ids, or a kind", next_step=_LOOK)
        if kind and kind not in KINDS:
            raise _no_kind(kind)
        async with self._database.transaction() as connection:
            peer = await _held(connection, caller, name)
            active = await peer_grant.active(connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id)
            known = {row.grant_id: row.kind for row in active}
            chosen = {_one(word, list(known)) for word in grants} | {one for one in known if known[one] == kind}
            ended = await peer_grant.end(
                connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id, grants=chosen, by=caller.name
            )
            if ended:
                await peer_table.grants_changed(connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id)
            detail = {"grants": ",".join(str(one) for one in ended)} | ({"kind": kind} if kind else {})
            await _record(connection, caller, "Ungrant", peer, request_id, detail)
        return peer

    async def change_role(self, caller: Caller, name: str, role: str, *, request_id: str) -> PeerRow:
        """Let the people of a peer count as `role` here. Raises InvalidInput, NoSuchPeer."""
        if role not in PEER_ROLES:
            raise InvalidInput(f"there is no role {role[:64]!r}", why=f"it is one of {', '.join(PEER_ROLES)}")
        async with self._database.transaction() as connection:
            peer = await _held(connection, caller, name)
            await peer_table.change_role(connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id, role=role)
            await _record(connection, caller, "ChangeRole", peer, request_id, {"from": peer.role, "to": role})
        return peer

    async def revoke(self, caller: Caller, name: str, reason: str, *, request_id: str) -> PeerRow:
        """End a pairing, and tell the other side if it can be reached. A tombstone stays. Raises NoSuchPeer."""
        reason = reason[:_REASON_LIMIT].replace("\0", "")
        async with self._database.transaction() as connection:
            peer = await _named(connection, caller, name)
            tokens = await peer_table.void_tokens(connection, tenant_id=peer.tenant_id, name=peer.name)
            ended = await peer_table.revoke(
                connection,
                tenant_id=peer.tenant_id,
                peer_id=peer.peer_id,
                by=BY_US,
                by_name=caller.name,
                reason=reason,
            )
            detail = {"reason": reason, "already": str(not ended).lower(), "pairing": str(peer.peer_id)}
            await _record(connection, caller, "Revoke", peer, request_id, detail | {"tokens": str(tokens)})
        if ended:
            log.warning("a pairing was ended", peer=peer.name, pairing=str(peer.peer_id), by=caller.name)
            await self._tell(peer, caller, reason, request_id)
        return peer

    async def _tell(self, peer: PeerRow, caller: Caller, reason: str, request_id: str) -> None:
        """Tell the other side once that it is over. It finds out by itself when it cannot be told."""
        try:
            async with (
                asyncio.timeout(TELL_SECONDS),
                self._outgoing.to(peer, caller, request_id=request_id) as onward,
            ):
                stub = FederationServiceStub(onward.channel)
                await stub.Part(pb.PartRequest(reason=reason), metadata=onward.metadata, timeout=TELL_SECONDS)
        except PeerRevoked:
            pass  # both ended it at one moment
        except (FleetError, TimeoutError) as error:
            why = error.why if isinstance(error, FleetError) else f"no answer within {TELL_SECONDS:g} s"
            log.warning("a peer could not be told that the pairing is over", peer=peer.name, why=why)
            return
        async with self._database.connection() as connection:
            await peer_table.told(connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id)

    async def remove(self, caller: Caller, name: str, *, request_id: str) -> PeerRow:
        """Delete a tombstone. Raises Conflict for a peer that stands, and NoSuchPeer."""
        async with self._database.transaction() as connection:
            peer = await _named(connection, caller, name)
            if peer.stands:
                raise Conflict(
                    f"cluster {peer.name} is paired with this one",
                    why="only the tombstone of a pairing that is over can be removed",
                    next_step=f"end it first: mosaic peer revoke {peer.name}",
                )
            await peer_table.remove(connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id)
            await _record(connection, caller, "Remove", peer, request_id, {"pairing": str(peer.peer_id)})
        return peer


async def find_named(connection: Connection, caller: Caller, name: str) -> PeerRow:
    """Return the peer of that name that stands, of the caller's tenant. Raises NoSuchPeer, PeerRevoked."""
    peer = await _named(connection, caller, name)
    if not peer.stands:
        raise PeerRevoked(
            f"the pairing with cluster {peer.name} is over",
            why=peer.revoked_reason or f"it was ended at {peer.revoked_at:%Y-%m-%d %H:%M:%S} UTC",
            details={"peer": peer.name},
        )
    return peer


async def _held(connection: Connection, caller: Caller, name: str) -> PeerRow:
    """Return a peer that stands, and stands until the transaction ends."""
    peer = await find_named(connection, caller, name)
    if not await peer_table.hold(connection, tenant_id=peer.tenant_id, peer_id=peer.peer_id):
        raise PeerRevoked(
            f"the pairing with cluster {peer.name} is over", why=peer.revoked_reason, details={"peer": peer.name}
        )
    return peer


async def _named(connection: Connection, caller: Caller, name: str) -> PeerRow:
    found = await peer_table.named(connection, tenant_id=caller.tenant_id, name=name)
    if found is not None:
        return found
    rows = await peer_table.list_of_tenant(connection, tenant_id=caller.tenant_id)
    raise no_such_peer(name, [row.name for row in rows])


def no_such_peer(name: str, known: Sequence[str]) -> NoSuchPeer:
    """Return the error for a name that no peer has, with the nearest ones."""
    close = nearest(name[:200], known)
    if close:
        why = f"the nearest names are {', '.join(close)}"
    else:
        why = "no peer has a name like it" if known else "no other cluster is paired with this one"
    return NoSuchPeer(f"there is no peer {name[:80]!r}", why=why, details={"nearest": " ".join(close)} if close else {})


async def _record(
    connection: Connection, caller: Caller, verb: str, peer: PeerRow, request_id: str, detail: dict[str, str]
) -> None:
    await auditing.record(
        connection,
        caller,
        method=f"PeerService/{verb}",
        target=f"peer/{peer.name}",
        request_id=request_id,
        detail=detail,
    )


_LOOK = "mosaic peer show NAME"


def _checked(asked: Asked) -> tuple[str, timedelta]:
    """Return the selector as it is kept, and how long the grant lasts. Raises InvalidInput."""
    if asked.kind not in KINDS:
        raise _no_kind(asked.kind)
    of = selector.Of.CARDS if asked.kind == "claim" else selector.Of.AGENTS
    chosen = str(selector.parse(asked.selector, of))
    unknown = [field for field in asked.fields if field not in FIELDS]
    if unknown:
        raise InvalidInput(f"there is no group of fields {unknown[0][:64]!r}", why=f"they are {', '.join(FIELDS)}")
    if asked.fields and asked.kind != "see":
        raise InvalidInput(f"{asked.kind} shows no fields", why="groups of fields are of `see`")
    if asked.most and asked.kind != "claim":
        raise InvalidInput(f"{asked.kind} has no limit of cards", why="a limit is of `claim`")
    if not 0 <= asked.most <= LARGEST_MOST:
        raise InvalidInput("the limit of cards is out of range", why=f"it lies between 1 and {LARGEST_MOST}")
    ttl = timedelta(seconds=asked.ttl) if 0 < asked.ttl < 10**9 else DEFAULT_GRANT
    if asked.ttl < 0 or asked.ttl >= 10**9 or not SHORTEST_GRANT <= ttl <= LONGEST_GRANT:
        raise InvalidInput(
            "a grant cannot last that long" if asked.ttl > 0 else "a grant lasts for a second at least",
            why=f"it ends after {LONGEST_GRANT.days} days at most, and can be granted again",
        )
    return chosen, ttl


def _no_kind(kind: str) -> InvalidInput:
    close = nearest(kind[:64], KINDS)
    return InvalidInput(
        f"there is no grant of kind {kind[:64]!r}",
        why=f"did you mean {close[0]}?" if close else f"it is one of {', '.join(KINDS)}",
    )


def _one(word: str, known: Sequence[UUID]) -> UUID:
    """Return the id that begins, or ends, with `word`. Raises NotFound or Ambiguous."""
    found = [one for one in known if word and (str(one).startswith(word) or str(one).endswith(word))]
    if len(found) == 1:
        return found[0]
    if found:
        raise Ambiguous(f"{word[:64]!r} fits {len(found)} grants", why="say more of the id", next_step=_LOOK)
    raise NotFound(f"there is no grant {word[:64]!r} that counts now", next_step=_LOOK)
