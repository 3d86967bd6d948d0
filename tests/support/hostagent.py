"""The host-agent's parts without its link, and what tests say to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from mosaic_framework.ids import new_id
from mosaic_framework.manifest import Manifest
from mosaic_hostagent.clock import Clock
from mosaic_hostagent.desired import Desired
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.keeper import SeatKeeper
from mosaic_hostagent.mailroom import Mailroom
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.sessions import Sessions
from mosaic_hostagent.supervise import Supervisor
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.units.builtin import BuiltIn
from mosaic_hostagent.units.supervision import Supervision
from mosaic_hostagent.watching import Watching
from mosaic_proto.v1 import fleet_pb2, messages_pb2, seeding_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.standins import Outcomes
from tests.support.tmux import PrivateTmux

HOLDER = "_holder"
HOME_DIGEST = "aaaaaaaa"
Step = messages_pb2.MessageStep


async def eventually(condition: Callable[[], object], what: str, *, seconds: float = 15.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        await asyncio.sleep(0.01)


class World:
    """The parts, started with `start`. Every event the register would hear is in `events()`."""

    def __init__(
        self, private: PrivateTmux, journal: Journal, state: Path, manifest: Callable[[str], Manifest]
    ) -> None:
        self.private, self.journal, self.state, self._manifest = private, journal, state, manifest
        self.reports: list[pb.SeatReport] = []
        self.applied: list[int] = []
        self.waits: dict[str, list[str]] = {}
        self.outcomes = Outcomes(journal)
        self._wanted: dict[str, pb.DesiredSeat] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._open()

    def _open(self) -> None:
        environment = self.private.environment
        self.pool, self.supervision = self._supervise(environment)
        self.sessions = Sessions(self.state, host="here", socket=self.state / "agent.sock")
        self.keeper = SeatKeeper(
            journal=self.journal,
            pool=self.pool,
            supervision=self.supervision,
            state_folder=self.state,
            environment=environment,
            on_change=self._report,
            stop_grace=1.0,
            sessions=self.sessions,
        )
        self.supervisor = Supervisor(
            keeper=self.keeper,
            journal=self.journal,
            pool=self.pool,
            supervision=self.supervision,
            on_applied=self.applied.append,
        )
        self.watching = Watching(self.supervisor.residents, self.pool, self._report)
        self.mailroom = Mailroom(self.journal, self.supervisor.residents, Clock(), self._wait)

    def _wait(self, message_id: str, reason: str) -> None:
        told = self.waits.setdefault(message_id, [])
        if not told or told[-1] != reason:
            told.append(reason)

    def _supervise(self, environment: dict[str, str]) -> tuple[ServerPool, Supervision]:
        pool = ServerPool(self.state, home=HOME_DIGEST, environment=environment)
        return pool, BuiltIn(pool)

    def _report(self, resident: Resident) -> None:
        self.reports.append(resident.report())

    def seat(
        self,
        name: str,
        *,
        agent_id: str = "",
        generation: int = 1,
        running: bool = True,
        restart: int = 0,
        runtime: str = "shell",
        manifest: Manifest | None = None,
        **spec: object,
    ) -> pb.DesiredSeat:
        """A wanted seat; `spec` are fields of SeatSpec."""
        made = fleet_pb2.SeatSpec(
            name=name,
            runtime=runtime,
            working_directory="~",
            tmux_socket_name=self.private.socket_name,
            tmux_holder_session=HOLDER,
            manifest_json=(manifest or self._manifest(runtime)).as_json(),
            lifecycle="always",
        )
        made.MergeFrom(fleet_pb2.SeatSpec(**spec))  # type: ignore[arg-type]
        return pb.DesiredSeat(
            agent_id=agent_id or f"agent-{name}", generation=generation, running=running, restart=restart, spec=made
        )

    def add(self, seat: pb.DesiredSeat) -> None:
        """Want one seat more than so far."""
        self._wanted[seat.agent_id] = seat
        self.want(*self._wanted.values(), generation=len(self._wanted))

    def want(self, *seats: pb.DesiredSeat, generation: int, briefing: seeding_pb2.Briefing | None = None) -> None:
        """Tell the supervisor what is wanted, as the link would."""
        self.supervisor.want(Desired.from_wire(pb.DesiredState(generation=generation, seats=seats, briefing=briefing)))

    def start(self) -> None:
        """Run the supervisor and its eyes."""
        self._tasks = [asyncio.create_task(self.supervisor.run()), asyncio.create_task(self.watching.run())]

    async def stop(self) -> None:
        """End this host-agent as SIGTERM would; what runs in the seats goes on."""
        await self.mailroom.close(grace=3.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.keeper.close(list(self.supervisor.residents.values()))
        await self.pool.close()

    async def restart(self) -> None:
        """End this host-agent and begin another on the same journal and tmux."""
        await self.stop()
        self._open()

    def switch_off(self) -> None:
        """End everything that runs for the seats, as a machine does that loses power."""
        self.private.tmux("kill-server")

    def boot(self) -> None:
        """Start what starts with the machine: of a built-in supervision nothing but the host-agent, see `start`."""

    async def close(self) -> None:
        await self.stop()

    def resident(self, name: str) -> Resident:
        return next(one for one in self.supervisor.residents.values() if one.seat.name == name)

    async def available(self, name: str, *, seconds: float = 15.0) -> Resident:
        """Wait until a seat takes input."""
        await eventually(
            lambda: any(
                one.seat.name == name and one.state.state == "available" for one in self.supervisor.residents.values()
            ),
            f"{name} is available; told: {[str(report) for report in self.reports[-3:]]}",
            seconds=seconds,
        )
        return self.resident(name)

    async def reconciled(self, generation: int) -> None:
        await eventually(lambda: generation in self.applied, f"generation {generation} is applied")

    async def send(self, seat: pb.DesiredSeat, body: str, *, seq: int = 1, remaining_ms: int = 30_000) -> str:
        """Give the mailroom a message, and return its id."""
        message_id = str(new_id())
        await self.mailroom.take(
            pb.Dispatch(
                message_id=message_id,
                agent_id=seat.agent_id,
                seat_seq=seq,
                body=body,
                payload_digest="d",
                remaining_ms=remaining_ms,
                sender="anna",
                sender_is_person=True,
            )
        )
        return message_id

    async def events(self) -> list[pb.JournalEvent]:
        return await self.journal.events_after(0, 10_000)

    async def steps(self, message_id: str) -> list[str]:
        """The names of the steps that were told of a message."""
        return [
            Step.Name(event.step.step).removeprefix("MESSAGE_STEP_").lower()
            for event in await self.events()
            if event.WhichOneof("event") == "step" and event.step.message_id == message_id
        ]

    async def ended(self, message_id: str, *, seconds: float = 20.0) -> list[str]:
        """Wait until a message is submitted or at an end, and return its steps."""
        deadline = time.monotonic() + seconds
        while True:
            steps = await self.steps(message_id)
            if steps and steps[-1] in ("submitted", "unknown", "failed", "expired"):
                return steps
            assert time.monotonic() < deadline, f"stays at {steps}"
            await asyncio.sleep(0.02)

    async def runs(self) -> list[tuple[str, str, int]]:
        """What was told of runs: (started or ended, reason, exit status)."""
        told = []
        for event in await self.events():
            if event.WhichOneof("event") == "run_started":
                told.append(("started", "", 0))
            elif event.WhichOneof("event") == "run_ended":
                told.append(("ended", event.run_ended.reason, event.run_ended.exit_status))
        return told
