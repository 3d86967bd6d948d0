"""A whole host-agent in this process, on the link of a control plane that can be rude, and what tests say over it."""

from __future__ import annotations

import asyncio

from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_hostagent.agent import HostAgent
from mosaic_hostagent.config import Config
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.fakes.host_link import HeldLink
from tests.support.hostagent import Step, eventually
from tests.support.tmux import PrivateTmux


class Running:
    """A host-agent in this process, which can be ended and begun again on the same home."""

    def __init__(self, home: Home, private: PrivateTmux) -> None:
        self.home, self.private = home, private
        self.agent: HostAgent | None = None
        self.task: asyncio.Task[None] | None = None

    async def start(self, **settings: object) -> None:
        config = Config(stop_grace_seconds=1.0, **settings)  # type: ignore[arg-type]
        self.agent = await HostAgent.open(home=self.home, config=config, environment=self.private.environment)
        self.task = asyncio.create_task(self.agent.run())

    async def stop(self) -> None:
        if self.agent is not None and self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            await self.agent.close()
            self.agent = None


def want(link: HeldLink, *seats: pb.DesiredSeat, generation: int = 1) -> None:
    link.send(desired=pb.DesiredState(generation=generation, seats=seats))


def dispatch(link: HeldLink, name: str, body: str, *, seq: int = 1, message_id: str = "") -> str:
    message_id = message_id or str(new_id())
    link.send(
        dispatch=pb.Dispatch(
            message_id=message_id,
            agent_id=f"agent-{name}",
            seat_seq=seq,
            body=body,
            payload_digest="d",
            remaining_ms=30_000,
            sender="anna",
        )
    )
    return message_id


def steps(link: HeldLink, message_id: str) -> list[int]:
    return [f.event.step.step for f in link.of("event") if f.event.step.message_id == message_id]


async def submitted(link: HeldLink, message_id: str) -> None:
    await eventually(lambda: Step.MESSAGE_STEP_SUBMITTED in steps(link, message_id), "submitted")
