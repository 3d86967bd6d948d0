"""RuntimeService: updates of the runtimes' own programs. Policy: policy.yaml."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

from mosaic_framework.ids import new_id
from mosaic_proto.v1 import runtimes_pb2 as pb
from mosaic_proto.v1 import runtimes_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.mesh import runtime_updates
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import replica, request
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.runtime_update import UpdateRow

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

_METHOD = "RuntimeService/UpdateRuntime"


class RuntimeService(runtimes_pb2_grpc.RuntimeServiceServicer):
    """Updates of the runtimes' own programs."""

    def __init__(self, database: Database, wakes: Wakes) -> None:
        self._database = database
        self._wakes = wakes

    async def PlanUpdates(
        self, request_: pb.PlanUpdatesRequest, context: ServicerContext[pb.PlanUpdatesRequest, pb.PlanUpdatesReply]
    ) -> pb.PlanUpdatesReply:
        tenant_id = tenant_of(caller_of(context), request_.tenant)
        async with self._database.connection() as connection:
            found = await runtime_updates.planned(
                connection, tenant_id=tenant_id, host=request_.host, runtime=request_.runtime
            )
        return pb.PlanUpdatesReply(
            updates=[
                pb.PlannedUpdate(host=one.host, runtime=one.runtime, command=one.command, agents=one.agents)
                for one in found
            ]
        )

    async def UpdateRuntime(
        self,
        request_: pb.UpdateRuntimeRequest,
        context: ServicerContext[pb.UpdateRuntimeRequest, pb.UpdateRuntimeReply],
    ) -> pb.UpdateRuntimeReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request_.tenant)
        request_id = encode.identifier(request_.request_id, what="request id")
        wakes: list[replica.WakeKey] = []
        async with self._database.transaction() as connection:

            async def write() -> bytes:
                row, keys = await runtime_updates.ask(
                    connection,
                    tenant_id=tenant_id,
                    update_id=new_id(),
                    host=request_.host,
                    runtime=request_.runtime,
                    relaunch=request_.relaunch,
                    drain=timedelta(milliseconds=min(max(0, request_.drain_ms), 2**40)),
                    asked_by=caller.name,
                )
                wakes.extend(keys)
                await auditing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method=_METHOD,
                    target=f"{request_.host}/{request_.runtime}",
                    request_id=str(request_id),
                )
                return pb.UpdateRuntimeReply(update=_update(row)).SerializeToString()

            kept = await request.once(
                connection,
                tenant_id=tenant_id,
                caller=caller.key,
                request_id=request_id,
                method=_METHOD,
                payload=request_.SerializeToString(deterministic=True),
                write=write,
            )
        self._wakes.tell(*wakes)
        return pb.UpdateRuntimeReply.FromString(kept)

    async def FollowUpdate(
        self, request_: pb.FollowUpdateRequest, context: ServicerContext[pb.FollowUpdateRequest, pb.RuntimeUpdate]
    ) -> AsyncIterator[pb.RuntimeUpdate]:
        async for row in runtime_updates.follow(
            self._database,
            self._wakes,
            tenant_id=tenant_of(caller_of(context), request_.tenant),
            update_id=encode.identifier(request_.id, what="update id"),
        ):
            yield _update(row)


def _update(row: UpdateRow) -> pb.RuntimeUpdate:
    told = pb.RuntimeUpdate.FromString(row.seats)
    told.MergeFrom(
        pb.RuntimeUpdate(
            id=str(row.update_id),
            host=row.host,
            runtime=row.runtime,
            relaunch=row.relaunch,
            state=pb.UpdateState.Value(f"UPDATE_STATE_{row.state.upper()}"),
            version_before=row.version_before,
            version_after=row.version_after,
            problem=row.problem,
            output=row.output,
            asked_by=row.asked_by,
            asked_at=encode.timestamp(row.asked_at),
            changed_at=encode.timestamp(row.changed_at),
        )
    )
    return told
