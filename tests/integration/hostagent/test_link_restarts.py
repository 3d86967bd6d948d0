"""A host-agent that is begun anew, while its control plane is there or away: what it keeps, tells and types."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest
from mosaic_framework.ids import new_id
from mosaic_hostagent.seats import ServerKey
from mosaic_hostagent.terminal.panes import Observed
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.fakes.host_link import FakeHostLinks
from tests.support.hostagent import Step, eventually
from tests.support.linked import Running, dispatch, steps, submitted, want
from tests.support.tmux import PrivateTmux


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
