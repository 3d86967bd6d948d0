"""SignalService: what is known of an agent's state, asked of its host now. Policy: policy.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_proto.v1 import signals_pb2 as pb
from mosaic_proto.v1 import signals_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.mesh import addresses
from mosaic_controlplane.mesh.forwarding import Forwarder
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.register import shared
from mosaic_controlplane.register.database import Database

if TYPE_CHECKING:
    from grpc.aio import ServicerContext


class SignalService(signals_pb2_grpc.SignalServiceServicer):
    """Signals of agents."""

    def __init__(self, database: Database, links: Links, forwarder: Forwarder) -> None:
        self._database = database
        self._links = links
        self._forwarder = forwarder

    async def Explain(
        self, request: pb.ExplainRequest, context: ServicerContext[pb.ExplainRequest, pb.ExplainReply]
    ) -> pb.ExplainReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        async with self._database.connection() as connection:
            seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=request.address)
            row = await shared.agent(connection, tenant_id=tenant_id, agent_id=seat.agent_id)
        holder = await self._links.elsewhere(tenant_id=tenant_id, host_id=seat.host_id)
        if holder is not None:
            async with self._forwarder.to(holder) as onward:
                stub: signals_pb2_grpc.SignalServiceAsyncStub = signals_pb2_grpc.SignalServiceStub(onward.channel)
                return await stub.Explain(request, metadata=onward.metadata, timeout=onward.timeout)
        explained = await self._links.explain(seat.host_id, seat.host, seat.agent_id)
        return pb.ExplainReply(agent=encode.agent(row), explanation=pb.Explanation.FromString(explained))
