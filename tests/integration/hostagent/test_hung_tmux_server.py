"""What a host-agent tells of seats whose tmux server hangs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from mosaic_hostagent.terminal import server as server_module
from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.fakes.host_link import FakeHostLinks, HeldLink
from tests.support.hostagent import eventually
from tests.support.linked import Running, want
from tests.support.tmux import PrivateTmux


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
