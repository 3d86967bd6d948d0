"""The host's end of its link, over real mTLS, against a control plane that can be rude."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from mosaic_framework import protocol
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_hostagent import beats
from mosaic_hostagent import link as link_module
from mosaic_hostagent.agent import HostAgent
from mosaic_hostagent.config import Config
from mosaic_hostagent.link import HostReplaced
from mosaic_hostagent.seats import ServerKey
from mosaic_hostagent.terminal import server as server_module
from mosaic_hostagent.terminal.panes import Observed
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.fakes.host_link import FakeHostLinks, HeldLink
from tests.support.hostagent import HOLDER, Step, eventually
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


@pytest.fixture
async def plane(tmp_path: Path, private: PrivateTmux) -> AsyncIterator[FakeHostLinks]:
    plane = FakeHostLinks(tmp_path)
    await plane.start()
    yield plane
    await plane.stop()


@pytest.fixture
async def host(tmp_path: Path, plane: FakeHostLinks, private: PrivateTmux) -> AsyncIterator[Running]:
    home = Home(tmp_path / "home")
    plane.write_identity(home.pki / "host")
    running = Running(home, private)
    yield running
    await running.stop()


@pytest.fixture
def seat(private: PrivateTmux, manifest: Callable[[str], Manifest]) -> Callable[..., pb.DesiredSeat]:
    def make(name: str, *, generation: int = 1, running: bool = True) -> pb.DesiredSeat:
        spec = fleet_pb2.SeatSpec(
            name=name,
            working_directory="~",
            tmux_socket_name=private.socket_name,
            tmux_holder_session=HOLDER,
            manifest_json=manifest("shell").as_json(),
        )
        return pb.DesiredSeat(agent_id=f"agent-{name}", generation=generation, running=running, spec=spec)

    return make


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


async def test_the_whole_way_of_a_message(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    await host.start()
    link = await plane.link()
    assert (link.hello.host_id, link.hello.journal_epoch) == (plane.host_id, 0)
    assert (link.hello.protocol_version, link.hello.oldest_protocol) == (protocol.VERSION, protocol.OLDEST)
    (ready,) = await link.has("ready")
    assert ready.ready.link_epoch == 1
    assert json.loads((host.home.run / "hostagent.json").read_bytes()) == {"pid": os.getpid()}
    want(link, seat("a"), generation=4)
    (applied,) = await link.has("applied")
    assert applied.applied.generation == 4
    message_id = dispatch(link, "a", "echo x > out")
    await submitted(link, message_id)
    assert steps(link, message_id) == [
        Step.MESSAGE_STEP_DISPATCHED,
        Step.MESSAGE_STEP_TYPED,
        Step.MESSAGE_STEP_SUBMITTED,
    ]
    link.send(capture=pb.CaptureTerminal(call_id="c1", agent_id="agent-a", lines=10))
    (answer,) = await link.has("terminal")
    assert (answer.terminal.call_id, answer.terminal.problem) == ("c1", "")
    assert "echo x > out" in answer.terminal.text
    link.send(capture=pb.CaptureTerminal(call_id="c2", agent_id="agent-nobody"))
    assert (await link.has("terminal", 2))[1].terminal.problem


async def test_seats_are_told_before_the_generation_that_they_make(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"), seat("b", running=False), generation=2)
    await link.has("applied")
    kinds = [frame.WhichOneof("frame") for frame in link.frames]
    told = {frame.seat.name for frame in link.frames[: kinds.index("applied")] if frame.WhichOneof("frame") == "seat"}
    assert told == {"a", "b"}


async def test_beats_come_at_the_interval_that_was_set(host: Running, plane: FakeHostLinks) -> None:
    plane.beat_ms = 100
    await host.start()
    link = await plane.link()
    began = time.monotonic()
    beats = await link.has("beat", 6)
    assert 0.3 < time.monotonic() - began < 3
    assert [beat.beat.sequence for beat in beats[:6]] == [1, 2, 3, 4, 5, 6]


async def test_a_silent_link_is_given_up_and_dialled_anew(
    host: Running, plane: FakeHostLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beats, "SHORTEST_ANSWER", 0.5)
    plane.deaf = True
    await host.start()
    await plane.link()
    plane.deaf = False
    second = await plane.link(count=2)
    await eventually(lambda: plane.links[0].ended, "the half-open stream is closed")
    await second.has("beat", 8)
    assert len(plane.links) == 2


async def test_the_pace_changes_while_the_link_is_up(host: Running, plane: FakeHostLinks) -> None:
    plane.beat_ms = 60_000
    await host.start()
    link = await plane.link()
    await link.has("beat", 1)
    link.send(pace=pb.Pace(beat_interval_ms=100, answer_within_ms=4000))
    await link.has("beat", 5)
    assert len(plane.links) == 1


async def test_a_control_plane_of_the_release_before_is_worked_with(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    plane.welcome = pb.Welcome(protocol_version=protocol.VERSION - 1)
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    await link.has("applied")
    await submitted(link, dispatch(link, "a", "true"))
    await link.has("beat", 3)


async def test_a_control_plane_that_speaks_no_protocol_of_ours_is_left_and_asked_again(
    host: Running, plane: FakeHostLinks
) -> None:
    plane.welcome = pb.Welcome(protocol_version=protocol.VERSION + 2, oldest_protocol=protocol.VERSION + 1)
    await host.start()
    refused = await plane.link()
    await eventually(lambda: refused.ended, "the link is ended")
    assert not refused.of("ready"), "nothing is done for it"
    plane.welcome = pb.Welcome(protocol_version=protocol.VERSION)
    await (await plane.link(count=len(plane.links) + 1)).has("ready")


async def test_facts_go_again_in_order_from_the_oldest_that_was_not_acknowledged(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    plane.acknowledges = False
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    message_id = dispatch(link, "a", "true")
    await submitted(link, message_id)
    link.send(acknowledged=pb.EventsAcknowledged(sequence=2))
    await asyncio.sleep(0.1)
    link.drop()
    second = await plane.link(count=2)
    assert second.hello.journal_epoch == 1
    await submitted(second, message_id)
    sequences = [frame.event.sequence for frame in second.of("event")]
    assert sequences == list(range(3, 3 + len(sequences)))
    await second.has("ready")
    assert [seat.name for seat in second.hello.seats] == ["a"]


async def test_nothing_is_sent_twice_on_one_link(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    for seq in range(5):
        await submitted(link, dispatch(link, "a", "true", seq=seq))
    sequences = [frame.event.sequence for frame in link.of("event")]
    assert sequences == sorted(set(sequences))


async def test_a_message_that_is_pushed_on_two_links_is_typed_once(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], private: PrivateTmux
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    message_id = dispatch(link, "a", "echo x >> out")
    await submitted(link, message_id)
    link.drop()
    second = await plane.link(count=2)
    dispatch(second, "a", "echo x >> out", message_id=message_id)
    await submitted(second, message_id)
    await asyncio.sleep(0.3)
    assert (private.folder / "home" / "out").read_text() == "x\n"


async def test_an_older_desired_state_is_ignored(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"), generation=5)
    await link.has("applied")
    want(link, generation=4)
    link.send(capture=pb.CaptureTerminal(call_id="c", agent_id="agent-a"))
    (answer,) = await link.has("terminal")
    assert answer.terminal.problem == "", "the seat is still held"
    want(link, seat("a"), seat("b"), generation=6)
    await link.has("applied", 2)
    assert [frame.applied.generation for frame in link.of("applied")] == [5, 6]
    assert [told.reason for frame in link.of("event") if (told := frame.event.run_ended).run_id] == []


async def test_seats_go_on_and_are_kept_while_the_control_plane_is_away(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], private: PrivateTmux
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"), seat("b"), generation=3)
    await link.has("applied")
    port = await plane.stop()
    await host.stop()
    pids = private.tmux("list-panes", "-a", "-F", "#{pane_pid} #{session_name}").split("\n")
    private.tmux("kill-session", "-t", "=b:")
    await host.start()
    await eventually(lambda: "b" in private.tmux("list-sessions", "-F", "#{session_name}").split(), "b runs again")
    assert next(line for line in pids if line.endswith(" a")) in private.tmux(
        "list-panes", "-a", "-F", "#{pane_pid} #{session_name}"
    )
    await plane.start(port)
    second = await plane.link(count=2)
    said = second.hello
    await eventually(lambda: said.observed_generation == 3 or second.of("applied"), "all is as it was wanted last")
    reasons = []
    await eventually(
        lambda: reasons.extend(f.event.run_ended.reason for f in second.of("event")) or "vanished" in reasons,
        "the lost run is told",
    )


async def test_the_next_address_is_tried_when_one_does_not_answer(host: Running, plane: FakeHostLinks) -> None:
    await host.start(addresses=["127.0.0.1:1", "127.0.0.1:2", plane.address])
    await plane.link()


async def test_a_refused_link_is_tried_again_and_seats_are_left_alone(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], private: PrivateTmux
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"))
    await link.has("applied")
    plane.refuse = RuntimeError("revoked")
    link.drop()
    await asyncio.sleep(0.6)
    assert "a" in private.tmux("list-sessions", "-F", "#{session_name}").split()
    plane.refuse = None
    await plane.link(count=2)


async def test_dials_that_fail_are_spread_wider_each_time_and_after_a_link_that_held_begin_anew(
    host: Running, plane: FakeHostLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def spread(attempt: int, _failure: FleetError | None) -> float:
        attempts.append(attempt)
        return 0.01

    monkeypatch.setattr(link_module, "before_next_dial", spread)
    monkeypatch.setattr(link_module, "STABLE_SECONDS", 0.3)
    plane.refuse = RuntimeError("away")
    await host.start()
    await eventually(lambda: len(attempts) >= 4, "it dials again and again")
    assert attempts[:4] == [1, 2, 3, 4]
    plane.refuse = None
    link = await plane.link()
    await asyncio.sleep(0.4)
    attempts.clear()
    link.drop()
    await plane.link(count=2)
    assert attempts == [0]


async def test_a_home_that_was_given_to_another_host_ends_the_process(host: Running, plane: FakeHostLinks) -> None:
    await host.start()
    link = await plane.link()
    plane.host_id = str(new_id())
    plane.write_identity(host.home.pki / "host")
    link.drop()
    assert host.task is not None
    with pytest.raises(ExceptionGroup) as ended:
        await asyncio.wait_for(host.task, 10)
    assert ended.group_contains(HostReplaced)


async def test_a_seat_is_told_after_a_restart_only_when_somebody_has_looked_for_it(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"), seat("b"), generation=1)
    await link.has("applied")
    await host.stop()
    host.private.tmux("kill-session", "-t", "=b:")
    may_look, observe = asyncio.Event(), ServerPool.observe

    async def late(pool: ServerPool, key: ServerKey, *, start: bool) -> Observed:
        await may_look.wait()
        return await observe(pool, key, start=start)

    monkeypatch.setattr(ServerPool, "observe", late)
    await host.start()
    second = await plane.link(count=2)
    assert list(second.hello.seats) == [], "the register knows better: a runs"
    may_look.set()
    await second.has("applied")
    told = [frame.seat for frame in second.of("seat")]
    assert all(report.pid for report in told if report.name == "a")
    states = [report.state for report in told if report.name == "b"]
    assert states[:2] == [fleet_pb2.AGENT_STATE_EXITED, fleet_pb2.AGENT_STATE_STARTING], "b was seen not to run"


async def linked_with_two(host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat]) -> HeldLink:
    """Start the host-agent with seats a and b, and return its link when both are as wanted."""
    await host.start()
    link = await plane.link()
    want(link, seat("a"), seat("b"), generation=1)
    await link.has("applied")
    return link


@contextlib.contextmanager
def hung_tmux_server(host: Running) -> Iterator[None]:
    """The tmux server of the host's seats answers nobody meanwhile."""
    server = int(host.private.tmux("display-message", "-p", "#{pid}"))
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


@pytest.mark.parametrize("lives", [True, False])
async def test_a_seat_whose_tmux_server_hangs_when_a_host_agent_starts_is_told_as_unknown_in_the_run_that_it_had(
    host: Running,
    plane: FakeHostLinks,
    seat: Callable[..., pb.DesiredSeat],
    monkeypatch: pytest.MonkeyPatch,
    private: PrivateTmux,
    lives: bool,
) -> None:
    monkeypatch.setattr(server_module, "REPLY_SECONDS", 0.3)
    link = await linked_with_two(host, plane, seat)
    runs = {frame.seat.name: frame.seat.run_id for frame in link.of("seat") if frame.seat.pid}
    await host.stop()
    if not lives:
        host.private.tmux("kill-session", "-t", "=a:")
    with hung_tmux_server(host):
        await host.start()
        second = await plane.link(count=2)

        def unseen() -> list[pb.SeatReport]:
            return [*second.hello.seats, *(frame.seat for frame in second.of("seat"))]

        await eventually(lambda: {report.name for report in unseen()} == {"a", "b"}, "both are told")
        for report in unseen():
            assert (report.state, report.pid) == (fleet_pb2.AGENT_STATE_UNKNOWN, 0)
            assert report.run_id == runs[report.name]
            assert "does not answer" in report.problem
    seen = len(second.of("seat"))
    await eventually(
        lambda: {frame.seat.name for frame in second.of("seat")[seen:] if frame.seat.pid} == {"a", "b"}, "both run"
    )
    told = [frame.seat for frame in second.of("seat")[seen:] if frame.seat.name == "a"]
    assert (told[0].run_id == runs["a"]) == lives
    assert (told[0].state == fleet_pb2.AGENT_STATE_EXITED) == (not lives), "a was seen not to run"


async def test_a_seat_that_cannot_be_ended_since_its_tmux_server_hangs_is_told_with_that_and_ends_when_it_can(
    host: Running,
    plane: FakeHostLinks,
    seat: Callable[..., pb.DesiredSeat],
    monkeypatch: pytest.MonkeyPatch,
    private: PrivateTmux,
) -> None:
    monkeypatch.setattr(server_module, "REPLY_SECONDS", 0.3)
    link = await linked_with_two(host, plane, seat)
    want(link, seat("a"), seat("b", generation=2, running=False), generation=2)
    await link.has("applied", 2)
    await host.stop()
    with hung_tmux_server(host):
        await host.start()
        second = await plane.link(count=2)

        def told(name: str) -> list[pb.SeatReport]:
            reports = [*second.hello.seats, *(frame.seat for frame in second.of("seat"))]
            return [report for report in reports if report.name == name]

        await eventually(lambda: told("a") and told("b"), "both are told")
        assert {report.state for report in told("b")} == {fleet_pb2.AGENT_STATE_EXITED}, "its run is known to be over"
        want(second, seat("a", generation=3, running=False), seat("b", generation=2, running=False), generation=3)
        await eventually(lambda: told("a")[-1].generation == 3, "it is told that its end was tried")
        assert told("a")[-1].state == fleet_pb2.AGENT_STATE_UNKNOWN
        assert "does not answer" in told("a")[-1].problem
    await eventually(lambda: told("a")[-1].state == fleet_pb2.AGENT_STATE_EXITED, "it ends")
    await eventually(lambda: not told("a")[-1].problem, "nothing is wrong with it any more")


async def test_a_desired_state_of_another_host_identity_is_not_used(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], private: PrivateTmux
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a", running=False), generation=9)
    await link.has("applied")
    await host.stop()
    plane.host_id = str(new_id())
    plane.write_identity(host.home.pki / "host")
    await host.start()
    second = await plane.link(count=2)
    assert (second.hello.observed_generation, list(second.hello.seats)) == (0, [])
    want(second, seat("a"), generation=1)
    await second.has("applied")


async def test_what_waits_in_the_journal_is_typed_only_when_a_control_plane_has_taken_it_for_the_newest(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], private: PrivateTmux
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a"), generation=1)
    pipe = private.folder / "home" / "pipe"
    os.mkfifo(pipe)
    await submitted(link, dispatch(link, "a", "cat pipe"))
    message_id = dispatch(link, "a", "echo x >> out", seq=2)
    await eventually(lambda: steps(link, message_id), "it is in the journal, and waits for a busy seat")
    await host.stop()
    port = await plane.stop()
    await host.start()
    await asyncio.to_thread(pipe.write_text, "go\n")
    await asyncio.sleep(1)  # the shell is ready again within a fraction of that
    assert not (private.folder / "home" / "out").exists()
    await plane.start(port)
    await submitted(await plane.link(count=2), message_id)


async def test_a_disowned_journal_gets_a_new_id_and_what_was_open_in_it_is_unknown(
    host: Running, plane: FakeHostLinks, seat: Callable[..., pb.DesiredSeat], private: PrivateTmux
) -> None:
    await host.start()
    link = await plane.link()
    want(link, seat("a", running=False), generation=1)
    message_id = dispatch(link, "a", "echo x >> out")
    await eventually(lambda: steps(link, message_id), "it is in the journal")
    await host.stop()
    plane.disowns = 1
    await host.start()
    third = await plane.link(count=3)
    assert plane.links[1].hello.journal_id == link.hello.journal_id
    assert plane.links[1].hello.journal_sequence >= 1
    assert third.hello.journal_id != link.hello.journal_id
    assert third.hello.journal_epoch == 0
    await eventually(lambda: Step.MESSAGE_STEP_UNKNOWN in steps(third, message_id), "it is told as unknown")
    want(third, seat("a", generation=2), generation=2)
    await submitted(third, dispatch(third, "a", "echo y >> out", seq=2))
    await eventually((private.folder / "home" / "out").exists, "the next one ran")
    assert (private.folder / "home" / "out").read_text() == "y\n"


async def test_a_host_moves_to_a_replica_that_it_heard_of_by_its_link_alone_and_remembers_it(
    host: Running, plane: FakeHostLinks
) -> None:
    other = plane.twin()
    await other.start()
    try:
        plane.fleet_addresses = [plane.address, other.address]
        await host.start()
        await (await plane.link()).has("ready")
        await plane.stop()
        await other.link()
        await host.stop()
        await host.start()  # with an identity that knows only the first, which is gone
        await other.link(count=2)
    finally:
        await other.stop()


async def test_a_replica_that_comes_while_the_link_holds_is_known_at_once(host: Running, plane: FakeHostLinks) -> None:
    other = plane.twin()
    await other.start()
    try:
        plane.fleet_addresses = [plane.address]
        await host.start()
        link = await plane.link()
        await link.has("ready")
        link.send(replicas=pb.Replicas(fleet_addresses=[plane.address, other.address, "no address"]))
        await eventually((host.home.state / "addresses.json").exists, "it is on disk")
        await eventually(lambda: other.address in (host.home.state / "addresses.json").read_text(), "it is kept")
        await plane.stop()
        await other.link()
    finally:
        await other.stop()


async def test_addresses_that_make_no_sense_are_not_taken(host: Running, plane: FakeHostLinks) -> None:
    plane.fleet_addresses = ["", "no port", "a:b", "x:99999", "$(reboot):1"]
    await host.start()
    await (await plane.link()).has("beat")
    assert not (host.home.state / "addresses.json").exists()
