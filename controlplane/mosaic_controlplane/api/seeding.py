"""SeedingService: what a seat boots with. Policy: policy.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_framework.errors import InvalidInput
from mosaic_framework.manifest import Manifest
from mosaic_framework.seeding import compose, delivery, own_comms_block
from mosaic_proto.v1 import fleet_pb2, seeding_pb2_grpc
from mosaic_proto.v1 import seeding_pb2 as pb
from pydantic import ValidationError

from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.mesh import addresses
from mosaic_controlplane.register import briefing as briefing_table
from mosaic_controlplane.register import shared
from mosaic_controlplane.register.database import Database

if TYPE_CHECKING:
    from grpc.aio import ServicerContext


class SeedingService(seeding_pb2_grpc.SeedingServiceServicer):
    """Seeds, composed of what was applied: the same function composes them on the seat's host."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetSeed(
        self, request: pb.GetSeedRequest, context: ServicerContext[pb.GetSeedRequest, pb.GetSeedReply]
    ) -> pb.GetSeedReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        async with self._database.connection() as connection:
            seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=request.address)
            row = await shared.agent(connection, tenant_id=tenant_id, agent_id=seat.agent_id)
            briefing = pb.Briefing.FromString(await briefing_table.get(connection, tenant_id=tenant_id))
        spec = fleet_pb2.SeatSpec.FromString(row.spec)
        spec.host = seat.host
        try:
            manifest = Manifest.from_json(spec.manifest_json)
        except ValidationError as error:
            raise InvalidInput(
                f"the runtime manifest that was applied for {seat.host}/{seat.name} is not valid",
                next_step="mosaic fleet apply",
            ) from error
        seed = compose(spec, briefing, manifest)
        return pb.GetSeedReply(
            host=seat.host,
            name=seat.name,
            parts=[pb.SeedPart(name=part.name, text=part.text, digest=part.digest) for part in seed.parts],
            text=seed.text,
            digest=seed.digest,
            delivery=delivery(manifest),
            comms_block=own_comms_block(spec, briefing, manifest, most=None),
        )
