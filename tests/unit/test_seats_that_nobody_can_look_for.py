"""What is told of seats in the first rounds of a host-agent, while one of their tmux servers does not answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from unittest.mock import AsyncMock, Mock

import pytest
from mosaic_framework.errors import Unreachable
from mosaic_framework.ids import new_id
from mosaic_hostagent.desired import Desired
from mosaic_hostagent.journal_facts import OpenRun
from mosaic_hostagent.readiness import AgentState, State
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.seats import ServerKey, Session
from mosaic_hostagent.supervise import Supervisor
from mosaic_hostagent.terminal.panes import Observed
from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

UNKNOWN, EXITED = fleet_pb2.AGENT_STATE_UNKNOWN, fleet_pb2.AGENT_STATE_EXITED


@dataclass
class Machine:
    """A supervisor over tmux servers, by socket name, of which some hang; nothing is seen to run on the others."""

    runs: dict[str, str]
    hang: set[str]
    told: list[pb.SeatReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        keeper = Mock(carry_out=AsyncMock(), buries=lambda _run: False)
        keeper.tell = keeper.on_change = self.tell
        journal = Mock(open_runs=self.open_runs, run_ended=AsyncMock(), forget_leftovers=AsyncMock())
        pool = Mock(observe=self.observe, recorded=[], leave=AsyncMock())
        supervision = Mock(restarts=False, keep_only=AsyncMock())
        self.supervisor = Supervisor(
            keeper=keeper, journal=journal, pool=pool, supervision=supervision, on_applied=lambda _generation: None
        )

    def tell(self, resident: Resident) -> None:
        self.told.append(resident.report())

    async def open_runs(self) -> list[OpenRun]:
        return [OpenRun(run, agent) for agent, run in self.runs.items()]

    async def observe(self, key: ServerKey, *, start: bool) -> Observed:
        if key.socket_name in self.hang:
            raise Unreachable(f"{key.socket_name} does not answer")
        return Observed([], {})

    async def round(self) -> list[pb.SeatReport]:
        """Return what one round tells."""
        ended = asyncio.Event()
        self.supervisor.on_round = ended.set
        self.supervisor.look()
        self.told.clear()
        running = asyncio.create_task(self.supervisor.run())
        await ended.wait()
        running.cancel()
        return list(self.told)

    def want(self, **servers: str) -> None:
        seats = [
            pb.DesiredSeat(
                agent_id=name, generation=1, running=True, spec=fleet_pb2.SeatSpec(name=name, tmux_socket_name=server)
            )
            for name, server in servers.items()
        ]
        self.supervisor.want(Desired.from_wire(pb.DesiredState(generation=1, seats=seats)))


async def test_a_seat_that_is_seen_not_to_run_is_told_once_while_another_server_hangs() -> None:
    machine = Machine(runs={"b": "run-b"}, hang={"two"})
    machine.want(a="one", b="two")
    first = {report.name: report.state for report in await machine.round()}
    assert first == {"a": EXITED, "b": UNKNOWN}
    assert await machine.round() == []


async def test_a_seat_that_was_looked_for_does_not_become_unknown_when_its_server_hangs_too() -> None:
    machine = Machine(runs={"a": "run-a", "b": "run-b"}, hang={"two"})
    machine.want(a="one", b="two")
    await machine.round()
    works = State(AgentState.WORKING, "hook", "it began since")
    machine.supervisor.residents["a"].pane = Mock()
    machine.supervisor.residents["a"].state = works
    machine.hang = {"one", "two"}
    await machine.round()
    assert machine.supervisor.residents["a"].state == works


@pytest.mark.parametrize("healed", ["two", "all"])
async def test_a_seat_that_is_gone_when_its_server_answers_again_is_unknown_no_longer(healed: str) -> None:
    machine = Machine(runs={"b": "run-b", "c": "run-c"}, hang={"two", "three"})
    machine.want(b="two", c="three")
    assert {(one.name, one.state, one.run_id) for one in await machine.round()} == {
        ("b", UNKNOWN, "run-b"),
        ("c", UNKNOWN, "run-c"),
    }
    machine.hang = {"three"} if healed == "two" else set()
    told = {one.name: (one.state, one.run_id) for one in await machine.round()}
    assert told["b"] == (EXITED, "")
    assert ("c" in told) == (healed == "all")


async def test_a_seat_that_was_moved_is_not_begun_while_it_may_live_on_the_server_that_it_left() -> None:
    machine = Machine(runs={}, hang={"one"})
    machine.want(a="one")
    resident = machine.supervisor.residents["a"]
    left = resident.seat.server
    resident.pane, resident.session = (
        Mock(),
        Session(left, "$1", "a", "%1", 1, True, None, "a", str(new_id()), 1, 0, ""),
    )
    machine.supervisor._pool = Mock(observe=machine.observe, recorded=[left], leave=AsyncMock())
    machine.want(a="two")
    assert "does not answer" in (await machine.round())[0].problem
    begun = machine.supervisor._keeper.carry_out
    assert isinstance(begun, AsyncMock)
    begun.assert_not_called()
    resident.pane = None  # its program has ended
    await machine.round()
    assert [call.args[0].agent_id for call in begun.await_args_list] == ["a"]
