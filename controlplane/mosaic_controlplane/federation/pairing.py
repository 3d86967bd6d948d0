"""Pairing, on the side that made the token: a secret and a proof become a peer, exactly once for one cluster."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from mosaic_framework import pki
from mosaic_framework.enrolment import PEER
from mosaic_framework.errors import FleetError, TokenExpired, TokenInvalid, TokenSpent, TokenWrongName
from mosaic_proto.v1 import federation_pb2 as pb

from mosaic_controlplane.federation import proof
from mosaic_controlplane.federation.errors import AlreadyPaired, OwnCluster, WrongAudience
from mosaic_controlplane.federation.proof import Proven
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.tokens import secret_hash
from mosaic_controlplane.register import audit, join_token, replica
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.join_token import TokenRow
from mosaic_controlplane.register.peer import NewPeer
from mosaic_controlplane.register.replica import Doors

METHOD = "mosaic.v1.PairingService/Pair"

log = structlog.get_logger(__name__)


class Pairing:
    """Answers those who hold a token. `here` are this replica's own doors, asked at each call."""

    def __init__(self, database: Database, cluster: ClusterIdentity, here: Callable[[], Doors]) -> None:
        self._database = database
        self._cluster = cluster
        self._here = here

    async def accept(self, request: pb.PairRequest, *, peer_address: str, audit_unknown: bool) -> pb.PairReply:
        """Pair with the cluster that asks; the same one gets the same answer until the token expires.

        Token, peer and audit row are one transaction; a refusal writes its audit row only, and without
        `audit_unknown` not even that for a token that nobody made. Raises TokenInvalid, TokenWrongName, TokenExpired,
        TokenSpent, WrongAudience, BadPairing, OwnCluster, AlreadyPaired.
        """
        async with self._database.transaction() as connection:
            token = await join_token.hold_by_secret(connection, secret_hash(request.secret))
            outcome = await self._decide(connection, token, request)
            if token is not None or audit_unknown:
                await _record(connection, token, request, outcome, peer_address)
            doors = await doors_of(connection, self._here())
        if isinstance(outcome, FleetError):
            raise outcome
        return pb.PairReply(
            peer_id=str(outcome.token_id),
            trust_domain=self._cluster.trust_domain,
            cluster=self._cluster.alias,
            tenant=outcome.tenant,
            authority_der=[pki.certificate_to_der(root) for root in self._cluster.roots],
            addresses=doors.peer,
            enrol_addresses=doors.enrol,
        )

    async def _decide(
        self, connection: Connection, token: TokenRow | None, request: pb.PairRequest
    ) -> TokenRow | FleetError:
        if token is None or not hmac.compare_digest(token.secret_hash, secret_hash(request.secret)):
            return TokenInvalid(
                why="this cluster has never made it, or it ended long ago", next_step=_make_another("NAME")
            )
        if (token.kind, token.name) != (PEER, request.name):
            return TokenWrongName(
                f"this token was made for {token.kind} {token.name}, not for peer {request.name[:80]}",
                why="a token gives one name only; it is still unused",
                next_step=f"use it there, or {_make_another(request.name)}",
            )
        if token.expired:
            return TokenExpired(
                why=f"it expired at {token.expires_at:%Y-%m-%d %H:%M:%S} UTC", next_step=_make_another(token.name)
            )
        if request.audience != self._cluster.trust_domain:
            return WrongAudience(why=f"it says that it is meant for {request.audience[:80] or 'nobody'}")
        if request.trust_domain == self._cluster.trust_domain:
            return OwnCluster()
        try:
            proven = proof.check(request, ours=self._cluster.roots, now=datetime.now(UTC))
        except FleetError as error:
            return error
        if token.spent_at is not None:
            return await self._again(connection, token, proven)
        return await self._admit(connection, token, proven)

    async def _again(self, connection: Connection, token: TokenRow, proven: Proven) -> TokenRow | FleetError:
        """Answer a cluster whose reply was lost; refuse everybody else, and one whose pairing has ended since."""
        peer = await peer_table.find(connection, token.token_id)
        same = hmac.compare_digest(token.spent_key_hash or b"", proven.key_digest)
        if same and peer is not None and peer.stands:
            return token
        return TokenSpent(
            why=f"cluster {token.name} was paired with it at {token.spent_at:%Y-%m-%d %H:%M:%S} UTC"
            + ("" if same else ", and that was another one"),
            next_step=_make_another(token.name) if same else f"if that was not you, revoke {token.name}",
        )

    async def _admit(self, connection: Connection, token: TokenRow, proven: Proven) -> TokenRow | FleetError:
        present = await peer_table.of_trust_domain(
            connection, tenant_id=token.tenant_id, trust_domain=proven.trust_domain
        )
        if present is not None:
            return AlreadyPaired(
                why=f"it is called {present.name} there", next_step="revoke that pairing on either side first"
            )
        new = NewPeer(
            tenant_id=token.tenant_id,
            peer_id=token.token_id,
            name=token.name,
            trust_domain=proven.trust_domain,
            cluster=proven.cluster,
            their_tenant=proven.tenant,
            role=token.role or "viewer",
            bundle=proven.bundle,
            addresses=proven.addresses,
            enrol_addresses=proven.enrol_addresses,
            paired_by=token.made_by,
        )
        if not await peer_table.add(connection, new):
            return AlreadyPaired(f"another cluster is called {token.name} there", next_step=_make_another("NAME"))
        if not await join_token.spend(
            connection, token, key_hash=proven.key_digest, certificate=proven.certificate_der
        ):
            raise AssertionError("a token that this transaction holds was spent by another")
        log.info("paired with a cluster", peer=token.name, pairing=str(token.token_id))
        return token


async def doors_of(connection: Connection, here: Doors) -> Doors:
    """Return the doors of all replicas, this one's first."""
    known = await replica.doors(connection)
    return Doors(tuple(dict.fromkeys((*here.peer, *known.peer))), tuple(dict.fromkeys((*here.enrol, *known.enrol))))


async def _record(
    connection: Connection,
    token: TokenRow | None,
    request: pb.PairRequest,
    outcome: TokenRow | FleetError,
    peer_address: str,
) -> None:
    detail = {
        "claimed_name": _clean(request.name),
        "claimed_cluster": _clean(request.cluster),
        "claimed_trust_domain": _clean(request.trust_domain),
    }
    if token is not None:
        detail |= {"pairing": str(token.token_id), "token_made_by": token.made_by}
    paired = not isinstance(outcome, FleetError)
    if isinstance(outcome, TokenRow):
        detail["again"] = str(outcome.spent_at is not None).lower()
        detail["role"] = outcome.role or ""
    await audit.record(
        connection,
        tenant_id=token.tenant_id if token else None,
        caller_kind="joiner",
        caller_id=str(token.token_id) if token and paired else "",
        caller_name=token.name if token else "",
        peer_address=peer_address,
        method=METHOD,
        target=f"{token.kind}/{token.name}" if token else "",
        outcome=type(outcome).code if isinstance(outcome, FleetError) else "done",
        detail=detail,
    )


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:80])


def _make_another(name: str) -> str:
    return f"make a new one there with: mosaic peer token {name[:64] or 'NAME'}"
