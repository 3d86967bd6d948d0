"""From reports to whoever waits for prompts and turns: each once, with its own moment, and a text handed over."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest
from mosaic_framework.runtimes import read_manifest
from mosaic_hostagent.intake import Intake, NotAState
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.seats import Seat, ServerKey, Session
from mosaic_hostagent.sessions import PaneSession
from mosaic_hostagent.signals import HANDED_OVER, REPORTED, Report, SeatNotReady
from mosaic_proto.v1 import fleet_pb2, host_link_pb2, seeding_pb2

RUN = "01a221c6-9dff-746e-9b1a-694c821e51cb"
EARLIER = "01a221c6-9000-746e-9b1a-694c821e51cb"
SESSION = PaneSession(RUN, "a", Path("/nowhere"))


@functools.cache
def manifest(name: str) -> Manifest:
    return read_manifest(Catalog(Catalog.open().shipped), name)


class Listener:
    """Remembers what it was told; hands over one text."""

    def __init__(self, text: str | None = None) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.text = text

    async def prompt_accepted(
        self, agent_id: str, run_id: str, prompt: str, source: str, *, at_ms: int | None = None
    ) -> None:
        self.told.append(("accepted", agent_id, run_id, prompt, source, at_ms))

    async def turn_started(self, agent_id: str, run_id: str, source: str, *, at_ms: int | None = None) -> None:
        self.told.append(("started", agent_id, run_id, source, at_ms))

    async def turn_ended(self, agent_id: str, run_id: str, source: str, *, at_ms: int | None = None) -> None:
        self.told.append(("ended", agent_id, run_id, source, at_ms))

    async def handover(self, agent_id: str, run_id: str) -> str | None:
        self.told.append(("asked", agent_id, run_id))
        return self.text

    async def handover_taken(self, agent_id: str, run_id: str) -> None:
        self.told.append(("taken", agent_id, run_id))


def a_resident(runtime: str = "claude") -> Resident:
    spec = fleet_pb2.SeatSpec(name="coder", runtime=runtime)
    session = Session(
        server=ServerKey("s", "_holder"),
        session_id="$1",
        name="coder",
        pane_id="%1",
        pid=1,
        alive=True,
        exit_status=None,
        agent_id="a",
        run_id=RUN,
        generation=1,
        restart=0,
        launch_digest="",
    )
    wanted = host_link_pb2.DesiredSeat(agent_id="a", generation=1, running=True, spec=spec)
    seat = Seat.from_wire(wanted, seeding_pb2.Briefing())
    return Resident(seat, manifest=manifest(runtime), session=session)


def said(event: str, *, identity: str = "", ago: float = 0.0, **payload: Any) -> Report:
    return Report(identity or event, event, time.time() - ago, payload)


async def test_a_prompt_is_told_word_for_word_with_the_moment_at_which_it_was_taken() -> None:
    resident, listener, poked = a_resident(), Listener(), []
    intake = Intake({"a": resident}, poked.append, listener)
    report = said("UserPromptSubmit", prompt="[anna → x #m1] é\n\tx", ago=40)
    assert await intake.take(SESSION, report) == ""
    ((what, agent, run, prompt, source, at_ms),) = listener.told
    assert (what, agent, run, prompt, source) == ("accepted", "a", RUN, "[anna → x #m1] é\n\tx", "hook")
    assert abs(at_ms - report.at * 1000) < 1000
    assert (poked, resident.hooks.phase) == ([resident], "working")


async def test_a_report_that_comes_twice_is_told_once() -> None:
    listener = Listener()
    intake = Intake({"a": a_resident("pi")}, lambda _: None, listener)
    for _ in range(2):
        await intake.take(SESSION, said("agent_start", identity="1"))
        await intake.take(SESSION, said("agent_end", identity="2"))
    assert [one[0] for one in listener.told] == ["started", "ended"]


async def test_a_hook_that_asks_at_the_end_of_a_turn_is_given_the_next_text_and_works_on() -> None:
    resident, listener = a_resident(), Listener('next "task"')
    intake = Intake({"a": resident}, lambda _: None, listener)
    answer = await intake.take(SESSION, said("Stop"))
    assert json.loads(answer) == {"decision": "block", "reason": 'next "task"'}
    assert [one[0] for one in listener.told] == ["ended", "asked"]
    assert resident.hooks.phase == "working"
    assert await intake.take(SESSION, said(HANDED_OVER)) == ""
    assert listener.told[-1] == ("taken", "a", RUN)


async def test_nothing_is_handed_to_a_hook_that_has_long_gone() -> None:
    listener = Listener("next")
    assert await Intake({"a": a_resident()}, lambda _: None, listener).take(SESSION, said("Stop", ago=60)) == ""
    assert [one[0] for one in listener.told] == ["ended"]


async def test_reports_of_another_run_than_the_seats_wait() -> None:
    intake = Intake({"a": a_resident()}, lambda _: None)
    with pytest.raises(SeatNotReady):
        await intake.take(PaneSession("another", "a", Path("/nowhere")), said("Stop"))
    with pytest.raises(SeatNotReady):
        await intake.take(PaneSession(RUN, "unknown", Path("/nowhere")), said("Stop"))


async def test_what_a_run_said_before_it_ended_tells_of_its_messages_and_of_no_state() -> None:
    resident, listener, poked = a_resident(), Listener("next"), []
    intake = Intake({"a": resident}, poked.append, listener)
    before = PaneSession(EARLIER, "a", Path("/nowhere"), over=True)
    for _ in range(2):
        assert await intake.take(before, said("UserPromptSubmit", prompt="[anna → x #m1] do")) == ""
        assert await intake.take(before, said("Stop")) == ""
        assert await intake.take(before, said(REPORTED, state="stuck")) == ""
    assert [one[:3] for one in listener.told] == [("accepted", "a", EARLIER), ("ended", "a", EARLIER)]
    assert (poked, resident.hooks.phase, resident.speaks) == ([], "", False)


async def test_what_a_run_said_before_it_ended_waits_until_its_seat_is_known_again() -> None:
    resident, listener = a_resident(), Listener()
    manifest, resident.manifest = resident.manifest, None
    intake = Intake({"a": resident}, lambda _: None, listener)
    before = PaneSession(EARLIER, "a", Path("/nowhere"), over=True)
    with pytest.raises(SeatNotReady):
        await intake.take(before, said("Stop"))
    resident.manifest = manifest
    await intake.take(before, said("Stop"))
    assert [one[0] for one in listener.told] == ["ended"]
    assert await intake.take(PaneSession(EARLIER, "gone", Path("/nowhere"), over=True), said("Stop")) == ""


@pytest.mark.parametrize("state", ["", "exited", "lost", None, 7, ["working"]])
async def test_only_states_of_an_agent_can_be_reported(state: object) -> None:
    with pytest.raises(NotAState):
        await Intake({"a": a_resident("shell")}, lambda _: None).take(SESSION, said(REPORTED, state=state))


async def test_a_reported_reason_is_one_short_line() -> None:
    resident = a_resident("shell")
    await Intake({"a": resident}, lambda _: None).take(SESSION, said(REPORTED, state="stuck", detail="a\nb\t" * 999))
    assert "\n" not in resident.hooks.detail
    assert len(resident.hooks.detail) <= 200
