"""From a certificate to a caller: what the leaf proves, held against what the register says now."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from mosaic_framework.errors import Denied, IdentityRevoked, IdentitySuperseded, NotAuthenticated

from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.caller import NO_TENANT, Caller
from mosaic_controlplane.identity.origin import Origin
from mosaic_controlplane.identity.verify import Claims, verify
from mosaic_controlplane.register import host_identity, operator
from mosaic_controlplane.register.database import Connection, Database

_Key = tuple[bytes, str, str]

REMEMBER_SECONDS = 1.0  # how long a revocation may go unnoticed
_REMEMBER_CALLERS = 10_000


class RunOver(Denied):
    """This agent's session is over."""

    code = "session-over"
    hint = "the seat has been launched anew since: work from its new session"


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A verified caller, and when the certificate ends (aware UTC): no stream may outlive it."""

    caller: Caller
    not_after: datetime


class Identifies(Protocol):
    """Finds out who calls, from where a call says that it comes from."""

    async def identify(self, origin: Origin, *, at_most: datetime | None = None) -> Authenticated:
        """Return the caller. `at_most`: the end of a leaf that was accepted before. Raises Denied, Unreachable."""
        ...


class Authenticator:
    """Finds out who calls. Answers are remembered for a second, refusals never.

    `peers` is asked of a call of another cluster that a replica of this one hands on; without, there is none.
    """

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        *,
        peers: Identifies | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._peers = peers
        self._clock = clock
        self._known: OrderedDict[_Key, tuple[float, Authenticated]] = OrderedDict()
        self._forgotten = 0

    async def identify(self, origin: Origin, *, at_most: datetime | None = None) -> Authenticated:
        """Return who a call is from. Raises as `authenticate` does."""
        if origin.pairing and self._peers is not None:
            return await self._peers.identify(origin, at_most=at_most)
        return await self.authenticate(
            origin.leaf_pem,
            at_most=at_most,
            agent_id=origin.agent_id,
            run_id=origin.run_id,
            peer_address=origin.peer_address,
        )

    async def authenticate(
        self,
        certificate_pem: bytes,
        *,
        agent_id: str = "",
        run_id: str = "",
        peer_address: str = "",
        at_most: datetime | None = None,
    ) -> Authenticated:
        """Return who holds this certificate, or the agent `agent_id` that this host speaks for, in its run `run_id`.

        `at_most`: the end of a leaf that was accepted before; it is taken as of then, should it have ended meanwhile.
        Raises NotAuthenticated (or IdentityRevoked, IdentitySuperseded), Denied for an agent that does not sit there
        or a run of it that does not live, RegisterUnreachable.
        """
        key = (hashlib.sha256(certificate_pem).digest(), agent_id, run_id)
        found = self._remembered(key)
        if found is None:
            now = datetime.now(UTC)
            claims = verify(
                certificate_pem,
                trust_domain=self._cluster.trust_domain,
                roots=self._cluster.roots,
                now=now if at_most is None else min(now, at_most - timedelta(seconds=1)),
            )
            asked_at, forgotten = self._clock(), self._forgotten
            async with self._database.connection() as connection:
                caller = await _caller(connection, claims)
                if agent_id or run_id:
                    caller = await _agent(connection, caller, agent_id, run_id)
            found = Authenticated(caller, claims.not_after)
            if forgotten == self._forgotten:  # else what was read may be from before the change
                self._remember(key, asked_at, found)
        return replace(found, caller=replace(found.caller, peer_address=peer_address))

    def forget(self) -> None:
        """Ask the register again at every next call: somebody's standing has changed."""
        self._known.clear()
        self._forgotten += 1

    def _remembered(self, key: _Key) -> Authenticated | None:
        at, found = self._known.get(key, (0.0, None))
        if found is None or self._clock() - at >= REMEMBER_SECONDS or datetime.now(UTC) >= found.not_after:
            self._known.pop(key, None)
            return None
        return found

    def _remember(self, key: _Key, at: float, found: Authenticated) -> None:
        self._known.pop(key, None)
        self._known[key] = (at, found)
        if len(self._known) > _REMEMBER_CALLERS:
            self._known.popitem(last=False)


async def _caller(connection: Connection, claims: Claims) -> Caller:
    spiffe_id = claims.spiffe_id
    if spiffe_id.kind == "replica":
        return await _replica(connection, claims)
    if spiffe_id.kind == "host":
        standing = await host_identity.standing(connection, tenant=spiffe_id.tenant, host_id=claims.identity_id)
    else:
        standing = await operator.standing(connection, tenant=spiffe_id.tenant, operator_id=claims.identity_id)
    who = f"{spiffe_id.kind} {spiffe_id.name}"
    if standing is None or standing.name != spiffe_id.name:
        raise NotAuthenticated(
            f"this cluster does not know {who}", why="it has been removed", next_step=_come_back(spiffe_id.kind)
        )
    if standing.revoked:
        raise IdentityRevoked(
            f"{who} has been revoked",
            why="an admin shut it out",
            next_step=f"an admin can let it in again; {_come_back(spiffe_id.kind)}",
        )
    if standing.identity_epoch != claims.identity_epoch:
        raise IdentitySuperseded(
            f"{who} has joined again since, and this certificate is of the old identity",
            next_step=_come_back(spiffe_id.kind),
        )
    return Caller(
        kind=spiffe_id.kind,
        tenant_id=standing.tenant_id,
        tenant=spiffe_id.tenant,
        id=claims.identity_id,
        name=standing.name,
        role=standing.role,
        identity_epoch=claims.identity_epoch,
        peer_address="",
        host_id=claims.identity_id if spiffe_id.kind == "host" else None,
    )


async def _replica(connection: Connection, claims: Claims) -> Caller:
    known = await host_identity.replica_known(connection, replica_id=claims.identity_id)
    if not known or str(claims.identity_id) != claims.spiffe_id.name:
        raise NotAuthenticated("this cluster does not know this replica", next_step="restart it")
    return Caller(
        kind="replica",
        tenant_id=NO_TENANT,
        tenant="",
        id=claims.identity_id,
        name=claims.spiffe_id.name,
        role="",
        identity_epoch=claims.identity_epoch,
        peer_address="",
    )


async def _agent(connection: Connection, host: Caller, agent_id: str, run_id: str) -> Caller:
    refused = Denied(f"{host.kind} {host.name} does not speak for this agent", why="the agent does not sit there")
    try:
        wanted, run = UUID(agent_id), UUID(run_id)
    except ValueError:
        raise refused from None
    if host.kind != "host" or host.host_id is None:
        raise refused
    found = await host_identity.agent_on_host(
        connection, tenant_id=host.tenant_id, agent_id=wanted, host_id=host.host_id, run_id=run
    )
    if found is None:
        raise refused
    if not found.run_lives:
        raise RunOver(f"the session of agent {found.name} in which this was called is over")
    return replace(host, kind="agent", id=wanted, name=found.name, role=found.class_name, host=host.name, run_id=run)


def _come_back(kind: str) -> str:
    return (
        "mosaic login" if kind == "operator" else "join it again: mosaic host token NAME, then there mosaic host join"
    )
