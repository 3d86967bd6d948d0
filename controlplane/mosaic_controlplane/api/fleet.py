"""FleetService: the desired roster, the seats it makes, their terminals. Policy: policy.yaml."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from mosaic_framework import __version__
from mosaic_framework.briefing import changed_texts, laid_over
from mosaic_framework.errors import InvalidInput, TooLarge
from mosaic_framework.names import check_name
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import fleet_pb2_grpc, seeding_pb2

from mosaic_controlplane.api import clusters, encode, listing
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.federation import watching
from mosaic_controlplane.federation.elsewhere import of_peer
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.mesh import addresses, rosters, watch
from mosaic_controlplane.mesh.clusters import Choice, Clusters
from mosaic_controlplane.mesh.forwarding import Forwarder
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.rosters import WantedSeat
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import briefing, replica, request, shared
from mosaic_controlplane.register import roster as roster_table
from mosaic_controlplane.register.agent import AgentRow, SeatSpecRow
from mosaic_controlplane.register.change import Cursor
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.host import HostRow
from mosaic_controlplane.register.migrate import newest_version
from mosaic_controlplane.register.peer_row import SharedRow

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from mosaic_controlplane.identity.bootstrap import ClusterIdentity
    from mosaic_controlplane.identity.caller import Caller

_ACTIONS = {
    pb.SEAT_ACTION_START: "start",
    pb.SEAT_ACTION_STOP: "stop",
    pb.SEAT_ACTION_RESTART: "restart",
    pb.SEAT_ACTION_RESET: "reset",
}
_SEAT_LIMIT = 1000
_TOLD = 20  # seats that an audit row names
_SPECS_LIMIT = 3 * 1024 * 1024  # they go to a host in one frame of 4 MiB
_TAIL_LIMIT = 10_000

Reply = TypeVar("Reply", bound=Message)


class FleetService(fleet_pb2_grpc.FleetServiceServicer):
    """The fleet of a tenant."""

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        wakes: Wakes,
        links: Links,
        forwarder: Forwarder,
        replica_id: UUID,
        cursor_stall: Callable[[], float],
        outgoing: Outgoing,
    ) -> None:
        self._outgoing = outgoing
        self._database = database
        self._cluster = cluster
        self._wakes = wakes
        self._links = links
        self._forwarder = forwarder
        self._replica_id = replica_id
        self._cursor_stall = cursor_stall

    async def ApplyRoster(
        self, request_: pb.ApplyRosterRequest, context: ServicerContext[pb.ApplyRosterRequest, pb.ApplyRosterReply]
    ) -> pb.ApplyRosterReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request_.tenant)
        wanted = decode_seats(request_)
        wakes: list[replica.WakeKey] = []

        async def write(connection: Connection) -> pb.ApplyRosterReply:
            done = await rosters.apply(
                connection,
                tenant_id=tenant_id,
                document=request_.document,
                wanted=wanted,
                base_version=request_.base_version,
                default_host=request_.default_host,
                applied_by=caller.name,
                briefing=request_.briefing,
                force_moves=request_.force_moves,
            )
            wakes.extend(done.wakes)
            return pb.ApplyRosterReply(
                version=done.version,
                changes=[pb.SeatChange(name=c.name, host=c.host, change=c.change) for c in done.changes],
                generations=_generations(done.generations),
                briefing_changes=done.briefing_changes,
            )

        reply = await self._write_once(
            caller, tenant_id, "FleetService/ApplyRoster", request_, write, pb.ApplyRosterReply
        )
        self._wakes.tell(*wakes)
        return reply

    async def PreviewRoster(
        self, request_: pb.ApplyRosterRequest, context: ServicerContext[pb.ApplyRosterRequest, pb.ApplyRosterReply]
    ) -> pb.ApplyRosterReply:
        tenant_id = tenant_of(caller_of(context), request_.tenant)
        async with self._database.connection() as connection:
            version, changes = await rosters.preview(
                connection,
                tenant_id=tenant_id,
                wanted=decode_seats(request_),
                default_host=request_.default_host,
            )
            told = seeding_pb2.Briefing.FromString(await briefing.get(connection, tenant_id=tenant_id))
        return pb.ApplyRosterReply(
            version=version,
            changes=[pb.SeatChange(name=c.name, host=c.host, change=c.change) for c in changes],
            briefing_changes=changed_texts(told, laid_over(told, request_.briefing)),
        )

    async def GetRoster(
        self, request_: pb.GetRosterRequest, context: ServicerContext[pb.GetRosterRequest, pb.GetRosterReply]
    ) -> pb.GetRosterReply:
        async with self._database.connection() as connection:
            row = await roster_table.newest(
                connection, tenant_id=tenant_of(caller_of(context), request_.tenant), version=request_.version
            )
        if row is None:
            return pb.GetRosterReply()
        return pb.GetRosterReply(
            version=row.version,
            document=row.document,
            applied_by=row.applied_by,
            applied_at=encode.timestamp(row.applied_at),
        )

    async def ChangeSeats(
        self, request_: pb.ChangeSeatsRequest, context: ServicerContext[pb.ChangeSeatsRequest, pb.ChangeSeatsReply]
    ) -> pb.ChangeSeatsReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request_.tenant)
        action = _ACTIONS.get(request_.action)
        if action is None:
            raise InvalidInput("the action is not known", why="it is start, stop, restart or reset")
        if len(request_.agents) > _SEAT_LIMIT:
            raise InvalidInput(f"{len(request_.agents)} agents are named", why=f"at most {_SEAT_LIMIT} may be")
        wakes: list[replica.WakeKey] = []

        async def write(connection: Connection) -> pb.ChangeSeatsReply:
            done = await rosters.act(
                connection,
                tenant_id=tenant_id,
                action=action,
                targets=list(request_.agents),
                reset_way=request_.reset_way,
            )
            wakes.extend(done.wakes)
            rows = await shared.agents(connection, tenant_id=tenant_id, ids=done.agent_ids)
            return pb.ChangeSeatsReply(
                agents=[encode.agent(row) for row in sorted(rows.values(), key=lambda row: (row.host, row.name))],
                generations=_generations(done.generations),
            )

        reply = await self._write_once(
            caller, tenant_id, "FleetService/ChangeSeats", request_, write, pb.ChangeSeatsReply
        )
        self._wakes.tell(*wakes)
        return reply

    async def _write_once(
        self,
        caller: Caller,
        tenant_id: UUID,
        method: str,
        request_: pb.ApplyRosterRequest | pb.ChangeSeatsRequest,
        write: Callable[[Connection], Awaitable[Reply]],
        reply_type: type[Reply],
    ) -> Reply:
        """Carry out a write and its audit row in one transaction, or return the reply it had the first time."""
        request_id = encode.identifier(request_.request_id, what="request id")
        async with self._database.transaction() as connection:

            async def carry_out() -> bytes:
                reply = await write(connection)
                await auditing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method=method,
                    target=_target(reply),
                    request_id=str(request_id),
                )
                return reply.SerializeToString()

            kept = await request.once(
                connection,
                tenant_id=tenant_id,
                caller=caller.key,
                request_id=request_id,
                method=method,
                payload=request_.SerializeToString(deterministic=True),
                write=carry_out,
            )
        return reply_type.FromString(kept)

    async def ListAgents(
        self, request_: pb.ListAgentsRequest, context: ServicerContext[pb.ListAgentsRequest, pb.ListAgentsReply]
    ) -> pb.ListAgentsReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request_.tenant)
        choice = Choice(tenant_id, request_.cluster, self._cluster.alias)
        async with self._database.connection() as connection:
            return await listing.list_agents(connection, request_, caller, choice)

    async def Watch(
        self, request_: pb.WatchRequest, context: ServicerContext[pb.WatchRequest, pb.WatchEvent]
    ) -> AsyncIterator[pb.WatchEvent]:
        tenant_id = tenant_of(caller_of(context), request_.tenant)
        choice = Choice(tenant_id, request_.cluster, self._cluster.alias)
        async with self._database.connection() as connection:
            await choice.peers(connection)  # a name that nobody has is told at once
        stream = watch.watch(
            self._database,
            self._wakes,
            tenant_id=tenant_id,
            register_epoch=self._cluster.register_epoch,
            resume=Cursor.parse(request_.cursor) if request_.cursor else None,
            subject=Clusters(choice),
        )
        async for watched in stream:
            event = pb.WatchEvent(cursor=str(watched.cursor or ""))
            match watched.what:
                case AgentRow():
                    event.agent.CopyFrom(encode.agent(watched.what))
                case HostRow():
                    event.host.CopyFrom(encode.host(watched.what))
                case SharedRow():
                    if not clusters.put_row(event, watched.what):
                        continue
                case watch.PeerSeen():
                    event.peer.CopyFrom(clusters.peer(watched.what))
                case watch.Complete():
                    event.bookmark.snapshot_complete = watched.what.snapshot
                case watch.Restart():
                    event.reset.reason = watched.what.reason
            yield event

    async def Tail(
        self, request_: pb.TailRequest, context: ServicerContext[pb.TailRequest, pb.TailReply]
    ) -> pb.TailReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request_.tenant)
        if not 0 <= request_.lines <= _TAIL_LIMIT:
            raise InvalidInput(f"{request_.lines} lines cannot be shown", why=f"0 to {_TAIL_LIMIT:,} can")
        elsewhere = await of_peer(self._database, tenant_id=tenant_id, address=request_.address)
        if elsewhere is not None:
            shown = await watching.text(self._outgoing, elsewhere, caller, lines=request_.lines)
            host, _, name = elsewhere.address.partition("/")
            return pb.TailReply(text=shown, agent=pb.Agent(cluster=elsewhere.peer.name, host=host, name=name))
        async with self._database.connection() as connection:
            seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=request_.address)
            row = await shared.agent(connection, tenant_id=tenant_id, agent_id=seat.agent_id)
        holder = await self._links.elsewhere(tenant_id=tenant_id, host_id=seat.host_id)
        if holder is not None:
            async with self._forwarder.to(holder) as onward:
                stub: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(onward.channel)
                return await stub.Tail(request_, metadata=onward.metadata, timeout=onward.timeout)
        text = await self._links.capture(seat.host_id, seat.host, seat.agent_id, request_.lines)
        return pb.TailReply(text=text, agent=encode.agent(row))

    async def GetCluster(
        self, _request: pb.GetClusterRequest, context: ServicerContext[pb.GetClusterRequest, pb.GetClusterReply]
    ) -> pb.GetClusterReply:
        caller = caller_of(context)
        async with self._database.connection() as connection:
            replicas = await replica.addresses(connection)
            versions = await replica.versions(connection)
            register_version = await replica.register_version(connection)
            at = await replica.database_time(connection)
        return pb.GetClusterReply(
            trust_domain=self._cluster.trust_domain,
            cluster=self._cluster.alias,
            version=__version__,
            replica_id=str(self._replica_id),
            register_epoch=str(self._cluster.register_epoch),
            replicas=len(replicas),
            at=encode.timestamp(at),
            caller=encode.caller_principal(caller),
            caller_role=caller.role,
            cursor_stall_ms=round(self._cursor_stall() * 1000),
            replica_at=encode.timestamp(datetime.now(UTC)),
            register_version=register_version,
            known_register_version=newest_version(),
            replica_versions=versions,
        )


def decode_seats(request_: pb.ApplyRosterRequest) -> list[WantedSeat]:
    """Return the seats that a request wants, checked again: a client's checks are a courtesy. Raises InvalidInput."""
    try:
        json.loads(request_.document)
    except (ValueError, RecursionError):
        raise InvalidInput("the roster is not JSON", why="the document of an apply is the normalised roster") from None
    if len(request_.seats) > _SEAT_LIMIT:
        raise InvalidInput(f"the roster has {len(request_.seats)} agents", why=f"at most {_SEAT_LIMIT} are allowed")
    size = sum(spec.ByteSize() for spec in request_.seats) + request_.briefing.ByteSize()
    if size > _SPECS_LIMIT:
        raise TooLarge(
            f"what the roster says of its agents has {size:,} bytes", why=f"a host can be told {_SPECS_LIMIT:,} at once"
        )
    if any("\x00" in text for one in request_.briefing.texts for text in (one.name, one.text)):
        raise InvalidInput("a text that all agents are told holds a NUL character", why="no program can be given one")
    wanted: list[WantedSeat] = []
    for spec in request_.seats:
        check_name(spec.name, what="agent")
        if spec.host:
            check_name(spec.host, what="host")
        if not spec.runtime or not spec.manifest_json:
            raise InvalidInput(f"agent {spec.name!r} has no runtime")
        if any("\x00" in text for text in (getattr(spec, "class"), spec.runtime, spec.alias)):
            raise InvalidInput(f"agent {spec.name!r}: a text holds a NUL character")
        placed = pb.SeatSpec()
        placed.CopyFrom(spec)
        placed.host = ""
        content = placed.SerializeToString(deterministic=True)
        class_name: str = getattr(spec, "class")
        wanted.append(
            WantedSeat(
                spec.host,
                SeatSpecRow(
                    host_id=UUID(int=0),
                    name=spec.name,
                    class_name=class_name,
                    runtime=spec.runtime,
                    alias=spec.alias,
                    spec=content,
                    spec_digest=hashlib.sha256(content).digest(),
                    desired_running=spec.lifecycle != "on-demand",
                ),
            )
        )
    return wanted


def _target(reply: Message) -> str:
    """Return which rows a write was about, for the audit: a roster's version, or seats."""
    if isinstance(reply, pb.ApplyRosterReply):
        return f"roster/{reply.version}"
    if not isinstance(reply, pb.ChangeSeatsReply):
        return ""
    names = [f"{agent.host}/{agent.name}" for agent in reply.agents]
    return ",".join(names) if len(names) <= _TOLD else f"{','.join(names[:_TOLD])} and {len(names) - _TOLD} more"


def _generations(found: dict[str, int]) -> list[pb.HostGeneration]:
    return [pb.HostGeneration(host=name, generation=generation) for name, generation in sorted(found.items())]
