"""HostLifeService: hosts drained, taken out, lost. Policy: policy.yaml."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from mosaic_framework.errors import Conflict, InvalidInput, NotFound
from mosaic_framework.names import nearest
from mosaic_proto.v1 import host_life_pb2 as pb
from mosaic_proto.v1 import host_life_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import host_life
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.replica import WakeKey

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from mosaic_controlplane.identity.caller import Caller

SHORTEST_LOST_AFTER = 20.0  # seconds; four beats of the fastest pace: sooner, one lost packet could end it
LONGEST_LOST_AFTER = 30 * 86_400.0


class HostHasSeats(Conflict):
    """The roster still gives this host seats."""

    code = "host-has-seats"


class HostLifeService(host_life_pb2_grpc.HostLifeServiceServicer):
    """Hosts that come and go."""

    def __init__(self, database: Database, wakes: Wakes) -> None:
        self._database = database
        self._wakes = wakes

    async def Drain(
        self, request: pb.DrainHostRequest, context: ServicerContext[pb.DrainHostRequest, pb.DrainHostReply]
    ) -> pb.DrainHostReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        async with self._database.transaction() as connection:
            before = await host_table.list_hosts(connection, tenant_id=tenant_id, name=request.name)
            host_id = await host_life.drain(connection, tenant_id=tenant_id, name=request.name, by=caller.name)
            if host_id is None:
                raise await _no_such_host(connection, tenant_id, request.name)
            if before and before[0].draining_since is None:  # asked again it only looks
                await _audit(connection, caller, tenant_id, "Drain", request.name, request.request_id)
            return await self._drained(connection, tenant_id, host_id)

    async def Undrain(
        self, request: pb.DrainHostRequest, context: ServicerContext[pb.DrainHostRequest, pb.DrainHostReply]
    ) -> pb.DrainHostReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        async with self._database.transaction() as connection:
            host_id = await host_life.undrain(connection, tenant_id=tenant_id, name=request.name)
            if host_id is None:
                raise await _no_such_host(connection, tenant_id, request.name)
            await _audit(connection, caller, tenant_id, "Undrain", request.name, request.request_id)
            reply = await self._drained(connection, tenant_id, host_id)
        self._wakes.tell(WakeKey.cards(tenant_id))  # its agents may wait for work
        return reply

    async def _drained(self, connection: Connection, tenant_id: UUID, host_id: UUID) -> pb.DrainHostReply:
        (row,) = await host_table.list_hosts(connection, tenant_id=tenant_id, host_id=host_id)
        held = await host_life.held_by_host(connection, tenant_id=tenant_id, host_id=host_id)
        self._wakes.tell(WakeKey.change(tenant_id))
        return pb.DrainHostReply(
            host=encode.host(row),
            held=[pb.CardOfAgent(agent=one.agent, card_id=one.card_id, title=one.title) for one in held],
        )

    async def Remove(
        self, request: pb.RemoveHostRequest, context: ServicerContext[pb.RemoveHostRequest, pb.RemoveHostReply]
    ) -> pb.RemoveHostReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        async with self._database.transaction() as connection:
            found = await host_life.lock(connection, tenant_id=tenant_id, name=request.name)
            if found is None:
                raise await _no_such_host(connection, tenant_id, request.name)
            if found.seats:
                raise HostHasSeats(
                    f"the roster has {found.seats} {'agent' if found.seats == 1 else 'agents'} on {request.name}",
                    why="they would be nowhere",
                    next_step=f"take them out of the roster, or move them: mosaic agent ls --host {request.name}",
                )
            if found.state == "revoked":
                raise Conflict(
                    f"host {request.name} is revoked",
                    why="its row is what keeps it out",
                    next_step=f"let it stay; to let it in again: mosaic host token {request.name}",
                )
            if not request.dry_run and found.state != "left":
                await host_life.leave(connection, tenant_id=tenant_id, host_id=found.host_id)
                await _audit(connection, caller, tenant_id, "Remove", request.name, request.request_id)
            (row,) = await host_table.list_hosts(connection, tenant_id=tenant_id, host_id=found.host_id)
        if not request.dry_run:
            self._wakes.tell(WakeKey.host(tenant_id, found.host_id), WakeKey.change(tenant_id))
        return pb.RemoveHostReply(host=encode.host(row))

    async def GetLostPolicy(
        self, request: pb.GetLostPolicyRequest, context: ServicerContext[pb.GetLostPolicyRequest, pb.LostPolicy]
    ) -> pb.LostPolicy:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        async with self._database.connection() as connection:
            return _encode_policy(await host_life.lost_policy(connection, tenant_id=tenant_id))

    async def SetLostPolicy(
        self, request: pb.SetLostPolicyRequest, context: ServicerContext[pb.SetLostPolicyRequest, pb.LostPolicy]
    ) -> pb.LostPolicy:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        lost_after = None
        if request.lost_after_ms:
            if not SHORTEST_LOST_AFTER <= request.lost_after_ms / 1000 <= LONGEST_LOST_AFTER:
                why = "a host is lost after 20 s to 30 days without a beat"
                raise InvalidInput("that time is out of range", why=why)
            lost_after = timedelta(milliseconds=request.lost_after_ms)
        if request.lost_claims not in ("", *host_life.LOST_CLAIMS):
            raise InvalidInput(
                f"{request.lost_claims[:40]!r} is nothing that can become of claims",
                why=f"they are one of {', '.join(host_life.LOST_CLAIMS)}",
            )
        async with self._database.transaction() as connection:
            await host_life.set_lost_policy(
                connection, tenant_id=tenant_id, lost_after=lost_after, lost_claims=request.lost_claims or None
            )
            policy = await host_life.lost_policy(connection, tenant_id=tenant_id)
            await _audit(connection, caller, tenant_id, "SetLostPolicy", policy.lost_claims, request.request_id)
        self._wakes.tell(WakeKey.change(tenant_id))
        return _encode_policy(policy)


def _encode_policy(policy: host_life.LostPolicy) -> pb.LostPolicy:
    return pb.LostPolicy(lost_after_ms=round(policy.lost_after.total_seconds() * 1000), lost_claims=policy.lost_claims)


async def _no_such_host(connection: Connection, tenant_id: UUID, name: str) -> NotFound:
    known = await host_table.ids_by_name(connection, tenant_id=tenant_id)
    close = nearest(name[:200], known)
    return NotFound(
        f"there is no host {name[:80]!r}",
        why=f"the nearest names are {', '.join(close)}" if close else "no host has a name like it",
        next_step="mosaic host ls",
        details={"nearest": " ".join(close)} if close else {},
    )


async def _audit(
    connection: Connection, caller: Caller, tenant_id: UUID, verb: str, target: str, request_id: str
) -> None:
    await auditing.record(
        connection,
        caller,
        tenant_id=tenant_id,
        method=f"HostLifeService/{verb}",
        target=target,
        request_id=request_id,
    )
