"""What goes down to a host, as frames. Each function returns when its frame is in the stream's queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from mosaic_proto.v1 import fleet_pb2, runtimes_pb2, seeding_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from mosaic_controlplane.api import encode
from mosaic_controlplane.mesh.held_link import Downward
from mosaic_controlplane.mesh.pace import answer_within
from mosaic_controlplane.register.agent import DesiredSeat
from mosaic_controlplane.register.message import Offer
from mosaic_controlplane.register.runtime_update import WantedUpdate


def milliseconds(span: timedelta) -> int:
    """Return a span as the wire has it."""
    return round(span.total_seconds() * 1000)


def downward(down: asyncio.Queue[pb.ControlFrame | None], host_name: str) -> Downward:
    """Return the ways to put frames for `host_name` into `down`."""

    async def desired(generation: int, seats: list[DesiredSeat], briefing: bytes) -> None:
        state = pb.DesiredState(generation=generation, briefing=seeding_pb2.Briefing.FromString(briefing))
        for seat in seats:
            state.seats.add(
                agent_id=str(seat.agent_id),
                generation=seat.generation,
                running=seat.running,
                restart=seat.restart,
                spec=fleet_pb2.SeatSpec.FromString(seat.spec),
                reset=seat.reset,
                reset_way=seat.reset_way,
            ).spec.host = host_name
        await down.put(pb.ControlFrame(desired=state))

    async def dispatch(offer: Offer) -> None:
        await down.put(
            pb.ControlFrame(
                dispatch=pb.Dispatch(
                    message_id=str(offer.message_id),
                    agent_id=str(offer.recipient_id),
                    seat_seq=offer.seat_seq,
                    body=offer.body,
                    payload_digest=offer.payload_digest,
                    remaining_ms=offer.remaining_ms,
                    sender=f"{offer.sender_host}/{offer.sender_name}" if offer.sender_host else offer.sender_name,
                    sender_is_person=offer.sender_kind == "operator",
                    mode=encode.DELIVERY_MODES[offer.mode],
                )
            )
        )

    async def cancel(message_id: UUID) -> None:
        await down.put(pb.ControlFrame(cancel=pb.CancelDelivery(message_id=str(message_id))))

    async def capture(call_id: str, agent_id: UUID, lines: int) -> None:
        await down.put(
            pb.ControlFrame(capture=pb.CaptureTerminal(call_id=call_id, agent_id=str(agent_id), lines=lines))
        )

    async def explain(call_id: str, agent_id: UUID) -> None:
        await down.put(pb.ControlFrame(explain=pb.ExplainSeat(call_id=call_id, agent_id=str(agent_id))))

    async def update(wanted: WantedUpdate) -> None:
        await down.put(
            pb.ControlFrame(
                update=runtimes_pb2.WantedUpdate(
                    id=str(wanted.update_id),
                    runtime=wanted.runtime,
                    relaunch=wanted.relaunch,
                    drain_ms=wanted.drain_ms,
                )
            )
        )

    async def open_view(call_id: str, agent_id: UUID, scrolled: bool) -> None:
        await down.put(
            pb.ControlFrame(open_view=pb.OpenView(call_id=call_id, agent_id=str(agent_id), scrolled=scrolled))
        )

    async def pace(interval: timedelta) -> None:
        told = pb.Pace(beat_interval_ms=milliseconds(interval), answer_within_ms=milliseconds(answer_within(interval)))
        await down.put(pb.ControlFrame(pace=told))

    async def roots(digest: bytes) -> None:
        await down.put(pb.ControlFrame(roots=pb.Roots(digest=digest)))

    def replicas(addresses: Sequence[str]) -> bool:
        try:
            down.put_nowait(pb.ControlFrame(replicas=pb.Replicas(fleet_addresses=addresses)))
        except asyncio.QueueFull:
            return False
        return True

    return Downward(desired, dispatch, cancel, capture, explain, open_view, update, pace, roots, replicas)
