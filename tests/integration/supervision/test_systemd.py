"""What only systemd's units promise: seats without a host-agent, a server of its own cgroup, a hand on systemctl."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from mosaic_framework.manifest import Manifest
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.units import launch_file

from tests.support.hostagent import World, eventually
from tests.support.seats import alive, last, nap, running, server_pid, sessions, sits
from tests.support.supervised import SystemdWorld, unit_of
from tests.support.tmux import PrivateTmux
from tests.support.user_systemd import UserSystemd


@pytest.fixture
def world(systemd_world: SystemdWorld) -> SystemdWorld:
    return systemd_world


def pane_pid(world: World, name: str) -> int:
    text = world.private.tmux("display-message", "-p", "-t", f"={name}:", "#{pane_pid}").strip()
    return int(text) if text.isdigit() else 0


async def test_the_tmux_server_is_the_holders_and_no_agents(world: SystemdWorld) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    session = await sits(world, "a")
    for pid in (int(server_pid(world)), session.pid):
        assert "mosaic-holder@" in Path(f"/proc/{pid}/cgroup").read_text()
    holder = f"mosaic-holder@{world.private.socket_name}.service"
    assert world.systemd.value(holder, "OOMPolicy") == "continue"
    waiter = int(world.systemd.value(unit_of("a"), "MainPID"))
    assert unit_of("a") in Path(f"/proc/{waiter}/cgroup").read_text()


async def test_a_killed_waiter_is_replaced_and_its_agent_runs_on(world: SystemdWorld) -> None:
    world.want(world.seat("a", command=nap(7401)), generation=1)
    world.start()
    session = await sits(world, "a")
    waiter = int(world.systemd.value(unit_of("a"), "MainPID"))
    os.kill(waiter, signal.SIGKILL)
    await eventually(
        lambda: world.systemd.value(unit_of("a"), "MainPID") not in ("0", str(waiter)), "another one waits"
    )
    await eventually(lambda: world.systemd.value(unit_of("a"), "ActiveState") == "active", "it keeps the agent")
    assert alive(session.pid)
    assert running(*nap(7401)) == 1
    assert world.resident("a").session == session


async def test_agents_crash_and_boot_without_a_host_agent(world: SystemdWorld) -> None:
    world.want(world.seat("a", command=nap(7402)), world.seat("b", command=nap(7403)), generation=1)
    world.start()
    first = await sits(world, "a")
    await sits(world, "b")
    await world.stop()
    os.kill(first.pid, signal.SIGKILL)
    await eventually(lambda: pane_pid(world, "a") not in (0, first.pid), "the crashed one is back")
    assert running(*nap(7402)) == 1
    world.switch_off()
    await eventually(lambda: running(*nap(7402)) + running(*nap(7403)) == 0, "the machine is off")
    world.boot()
    await eventually(lambda: running(*nap(7402)) == running(*nap(7403)) == 1, "both are back")
    world._open()
    world.want(world.seat("a", command=nap(7402)), world.seat("b", command=nap(7403)), generation=1)
    world.start()
    adopted = await sits(world, "a")
    await world.reconciled(1)
    assert adopted.run_id != first.run_id
    assert [running(*nap(7402)), running(*nap(7403))] == [1, 1]
    # Each run has an id of its own, and the journal has heard of those that live.
    started = {event.run_started.run_id for event in await world.events() if event.WhichOneof("event") == "run_started"}
    assert adopted.run_id in started
    # What it was given is its own: the token is this run's, and no earlier one's.
    given = psutil.Process(adopted.pid).environ()
    assert given["MOSAIC_RUN"] == adopted.run_id
    assert world.sessions.of_token(given["MOSAIC_AGENT_TOKEN"]).run_id == adopted.run_id


async def test_a_unit_stopped_by_hand_ends_its_own_session_and_no_other(world: SystemdWorld) -> None:
    world.want(world.seat("a"), world.seat("ab"), generation=1)
    world.start()
    await sits(world, "a")
    sibling = await sits(world, "ab")
    await world.stop()
    world.systemd.ctl("stop", unit_of("a"))
    assert sessions(world) == ["_holder", "ab"]
    assert alive(sibling.pid)


async def test_a_waiter_told_to_leave_its_agent_does_so_even_when_it_is_stopped_before_it_has(
    world: SystemdWorld,
) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    sitting, server = await sits(world, "a"), server_pid(world)
    await world.stop()
    holder = f"mosaic-holder@{world.private.socket_name}.service"
    units = (unit_of("a"), holder)
    for unit in units:
        pid = int(world.systemd.value(unit, "MainPID"))
        for number in (signal.SIGSTOP, signal.SIGUSR1, signal.SIGTERM, signal.SIGCONT):  # a machine under load
            os.kill(pid, number)
    await eventually(
        lambda: [world.systemd.value(unit, "ActiveState") for unit in units] == ["inactive", "inactive"], "both ended"
    )
    assert (sessions(world), server_pid(world)) == (["_holder", "a"], server)
    assert alive(sitting.pid)


async def test_a_crash_loop_is_told_by_its_unit_and_slowed_down_without_a_host_agent(world: SystemdWorld) -> None:
    world.want(world.seat("a", command=["false"]), generation=1)
    world.start()
    await eventually(lambda: world.reports and "started again" in last(world, "a").problem, "it has crashed")
    await world.stop()
    world.systemd.ctl("stop", unit_of("a"))  # it alone writes its tally while it runs
    root = str(world.state.parent)
    tally = launch_file.read_tally(root, "a", launch_file.read(root, "a"))
    launch_file.write_tally(root, "a", {**tally, "count": 5, "next": launch_file.clock() + 50})
    world.systemd.ctl("start", unit_of("a"))
    told = world.systemd.value(unit_of("a"), "StatusText")
    assert told.startswith("crash loop: it has ended 5 times in a row; the next try is in "), told
    assert world.systemd.value(unit_of("a"), "ActiveState") == "active"


async def test_units_are_enabled_for_what_is_wanted_and_nothing_else(world: SystemdWorld) -> None:
    wants = world.private.folder / "home" / ".config" / "systemd" / "user" / "default.target.wants"

    def enabled() -> list[str]:
        return sorted(path.name for path in wants.iterdir() if path.name.startswith("mosaic-agent@"))

    world.want(world.seat("a-1"), world.seat("b"), world.seat("c", lifecycle="on-demand"), generation=1)
    world.start()
    for name in ("a-1", "b", "c"):
        await sits(world, name)
    await world.reconciled(1)
    assert enabled() == ["mosaic-agent@a\\x2d1.service", "mosaic-agent@b.service"]
    world.want(world.seat("a-1", generation=2, running=False), generation=2)
    await world.reconciled(2)
    assert enabled() == []
    # One that a host-agent that is no more has left behind.
    (wants / "mosaic-agent@ghost.service").symlink_to("../mosaic-agent@.service")
    world.want(world.seat("a-1", generation=3, running=False), generation=3)
    await world.reconciled(3)
    assert enabled() == []


async def test_a_crashed_agent_starts_as_the_roster_has_it_by_then(world: SystemdWorld) -> None:
    world.want(world.seat("a", command=nap(7404)), generation=1)
    world.start()
    first = await sits(world, "a")
    world.want(world.seat("a", generation=2, command=nap(7405)), generation=2)
    await world.reconciled(2)
    assert alive(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    await sits(world, "a", not_run=first.run_id)
    assert [running(*nap(7404)), running(*nap(7405))] == [0, 1]


async def test_a_boot_without_a_host_agent_starts_what_the_roster_said_last(world: SystemdWorld) -> None:
    world.want(world.seat("a", command=nap(7406)), generation=1)
    world.start()
    first = await sits(world, "a")
    world.want(world.seat("a", generation=2, command=nap(7407)), generation=2)
    await world.reconciled(2)
    assert (world.resident("a").session, alive(first.pid)) == (first, True)
    await world.stop()
    world.switch_off()
    await eventually(lambda: not alive(first.pid), "the machine is off")
    world.boot()
    await eventually(lambda: running(*nap(7407)) == 1, "it is back")
    assert running(*nap(7406)) == 0


async def test_a_server_that_the_holder_lost_is_held_again(world: SystemdWorld) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    first, server = await sits(world, "a"), server_pid(world)
    os.kill(int(server), signal.SIGKILL)
    await sits(world, "a", not_run=first.run_id)
    assert server_pid(world) != server
    assert "mosaic-holder@" in Path(f"/proc/{server_pid(world)}/cgroup").read_text()


@pytest.fixture
async def worlds(
    private: PrivateTmux,
    journal: Journal,
    tmp_path: Path,
    manifest: Callable[[str], Manifest],
    systemd: UserSystemd,
) -> AsyncIterator[Callable[[str], World]]:
    """The same host under one supervision after another: `worlds("systemd")`."""
    made: list[World] = []

    def under(kind: str) -> World:
        if kind == "systemd":
            made.append(SystemdWorld(private, journal, tmp_path / "state", manifest, systemd))
        else:
            made.append(World(private, journal, tmp_path / "state", manifest))
        return made[-1]

    yield under
    for world in made:
        await world.close()


async def test_a_seat_has_one_supervisor_when_its_machine_goes_over_to_systemd(
    worlds: Callable[[str], World], systemd: UserSystemd
) -> None:
    before = worlds("built-in")
    before.want(before.seat("a", command=nap(7411)), generation=1)
    before.start()
    session = await sits(before, "a")
    await before.stop()
    after = worlds("systemd")
    after.want(after.seat("a", command=nap(7411)), generation=1)
    after.start()
    assert await sits(after, "a") == session
    await after.reconciled(1)
    assert systemd.value(unit_of("a"), "ActiveState") == "active"
    assert running(*nap(7411)) == 1
    os.kill(session.pid, signal.SIGKILL)
    await sits(after, "a", not_run=session.run_id)
    after.want(after.seat("a", command=nap(7411)), generation=2)
    await after.reconciled(2)
    assert running(*nap(7411)) == 1
    assert [told[0] for told in await after.runs()] == ["started", "ended", "started"]


async def test_a_seat_has_one_supervisor_when_its_machine_goes_back_to_the_built_in_one(
    worlds: Callable[[str], World], systemd: UserSystemd
) -> None:
    before = worlds("systemd")
    before.want(before.seat("a", command=nap(7412)), generation=1)
    before.start()
    session = await sits(before, "a")
    await before.stop()
    # What `mosaic fleet uninstall` does.
    systemd.ctl("kill", "--kill-whom=main", "--signal=SIGUSR1", unit_of("a"))
    systemd.ctl("disable", unit_of("a"))
    systemd.ctl("stop", unit_of("a"))
    after = worlds("built-in")
    after.want(after.seat("a", command=nap(7412)), generation=1)
    after.start()
    assert await sits(after, "a") == session
    os.kill(session.pid, signal.SIGKILL)
    await sits(after, "a", not_run=session.run_id)
    after.want(after.seat("a", command=nap(7412)), generation=2)
    await after.reconciled(2)
    assert running(*nap(7412)) == 1
    assert systemd.value(unit_of("a"), "ActiveState") == "inactive"
