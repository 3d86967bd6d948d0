"""What every supervision promises, on a real tmux: the built-in one, and systemd's user units."""

from __future__ import annotations

import os
import signal
import time

from mosaic_framework.manifest import Manifest

from tests.support.hostagent import World, eventually
from tests.support.seats import EXITED, alive, last, nap, running, server_pid, sessions, sits


async def test_a_wanted_seat_starts_once_whatever_its_name(world: World) -> None:
    world.want(world.seat("a.b-c_D"), world.seat("-".join("x" * 32)), generation=1)
    world.start()
    await sits(world, "a.b-c_D")
    await sits(world, "-".join("x" * 32))
    await world.reconciled(1)
    assert sessions(world) == ["_holder", "a+b-c_D", "-".join("x" * 32)]
    assert await world.runs() == [("started", "", 0), ("started", "", 0)]


async def test_a_stop_ends_its_own_session_and_no_other(world: World) -> None:
    world.want(world.seat("a"), world.seat("ab"), world.seat("b"), generation=1)
    world.start()
    await sits(world, "a")
    kept = [await sits(world, name) for name in ("ab", "b")]
    world.private.tmux("new-session", "-d", "-s", "a-persons", "cat")
    world.want(world.seat("a", generation=2, running=False), world.seat("ab"), world.seat("b"), generation=2)
    await world.reconciled(2)
    assert sessions(world) == ["_holder", "a-persons", "ab", "b"]
    assert [world.resident(name).session for name in ("ab", "b")] == kept
    assert (await world.runs())[-1][:2] == ("ended", "stopped")


async def test_a_restart_leaves_the_server_and_every_sibling_alone(world: World) -> None:
    world.want(world.seat("a"), world.seat("b"), generation=1)
    world.start()
    first, sibling, server = await sits(world, "a"), await sits(world, "b"), server_pid(world)
    world.want(world.seat("a", generation=2, restart=1), world.seat("b"), generation=2)
    await world.reconciled(2)
    second = await sits(world, "a", not_run=first.run_id)
    assert not alive(first.pid)
    assert alive(second.pid)
    assert server_pid(world) == server
    assert world.resident("b").session == sibling
    assert [told[:2] for told in await world.runs()].count(("ended", "restarted")) == 1


async def test_a_crash_is_told_at_once_and_the_seat_is_started_again_as_a_new_run(world: World) -> None:
    world.want(world.seat("a"), world.seat("b"), generation=1)
    world.start()
    first, sibling, server = await sits(world, "a"), await sits(world, "b"), server_pid(world)
    os.kill(first.pid, signal.SIGKILL)
    died = time.monotonic()
    await eventually(lambda: last(world, "a").state == EXITED, "its end is told")
    assert time.monotonic() - died < 1
    assert (last(world, "a").exit_status, "started again in 1 s" in last(world, "a").problem) == (137, True)
    second = await sits(world, "a", not_run=first.run_id)
    assert second.run_id > first.run_id
    assert sessions(world) == ["_holder", "a", "b"]
    assert (server_pid(world), world.resident("b").session) == (server, sibling)
    assert [told for told in await world.runs() if told[0] == "ended"] == [("ended", "exited", 137)]


async def test_the_pauses_between_tries_grow_and_are_told(world: World) -> None:
    command = ["sh", "-c", "echo farewell; exit 3"]
    world.want(world.seat("a", command=command), generation=1)
    world.start()
    await eventually(lambda: world.reports and "exit status 3" in last(world, "a").problem, "its end is told")
    await eventually(
        lambda: "farewell" in world.private.tmux("capture-pane", "-p", "-t", "=a:"), "its last words can be read"
    )
    for pause in ("1 s", "2 s", "4 s"):
        await eventually(
            lambda pause=pause: any(report.problem.endswith(f"started again in {pause}") for report in world.reports),
            f"it is told that the next pause is {pause}",
        )


async def test_a_seat_on_demand_stays_ended(world: World) -> None:
    world.want(world.seat("a", command=["sh", "-c", "exit 4"], lifecycle="on-demand"), generation=1)
    world.start()
    await eventually(lambda: world.reports and last(world, "a").exit_status == 4, "its end is told")
    world.want(world.seat("a", command=["sh", "-c", "exit 4"], lifecycle="on-demand"), generation=2)
    await world.reconciled(2)
    assert [told[0] for told in await world.runs()] == ["started", "ended"]
    world.want(world.seat("a", generation=2, command=["cat"], lifecycle="on-demand"), generation=3)
    await sits(world, "a")


async def test_a_seat_that_is_stopped_while_it_waits_for_its_next_try_stays_stopped(world: World) -> None:
    world.want(world.seat("a", command=["false"]), generation=1)
    world.start()
    await eventually(lambda: world.reports and "started again in 2 s" in last(world, "a").problem, "it has crashed")
    world.want(world.seat("a", generation=2, running=False, command=["false"]), generation=2)
    await world.reconciled(2)
    began = len(await world.runs())
    await eventually(lambda: sessions(world) == ["_holder"], "its session is gone")
    world.want(world.seat("a", generation=2, running=False, command=["false"]), generation=3)
    await world.reconciled(3)
    assert len([told for told in (await world.runs())[began:] if told[0] == "started"]) == 0


async def test_a_new_host_agent_adopts_what_runs_and_starts_nothing_twice(world: World) -> None:
    world.want(world.seat("a"), world.seat("b"), generation=1)
    world.start()
    a, b = await sits(world, "a"), await sits(world, "b")
    await world.restart()
    world.want(world.seat("a"), generation=2)
    world.start()
    await world.reconciled(2)
    assert await sits(world, "a") == a
    assert (alive(a.pid), alive(b.pid)) == (True, False)
    assert [told[:2] for told in await world.runs()] == [("started", ""), ("started", ""), ("ended", "removed")]


async def test_what_ended_while_no_host_agent_looked_comes_back_once(world: World) -> None:
    world.want(world.seat("a", command=nap(7301)), generation=1)
    world.start()
    first = await sits(world, "a")
    await world.stop()
    os.kill(first.pid, signal.SIGKILL)
    await eventually(lambda: not alive(first.pid), "it is dead")
    world._open()
    world.want(world.seat("a", command=nap(7301)), generation=1)
    world.start()
    second = await sits(world, "a", not_run=first.run_id)
    await world.reconciled(1)
    assert alive(second.pid)
    assert running(*nap(7301)) == 1
    runs = await world.runs()
    assert [told[0] for told in runs].count("started") == 2
    assert [told[0] for told in runs].count("ended") == 1


async def test_after_a_boot_wanted_seats_return_and_removed_ones_do_not(world: World) -> None:
    seats = {name: world.seat(name, command=nap(7300 + number)) for number, name in enumerate("abc", start=20)}
    world.want(*seats.values(), generation=1)
    world.start()
    first = {name: await sits(world, name) for name in seats}
    stopped = world.seat("b", generation=2, running=False, command=nap(7321))
    world.want(seats["a"], stopped, generation=2)  # c is removed, b is stopped
    await world.reconciled(2)
    await world.stop()
    world.switch_off()
    await eventually(lambda: not alive(first["a"].pid), "the machine is off")
    world.boot()
    world._open()
    world.want(seats["a"], stopped, generation=2)
    world.start()
    second = await sits(world, "a", not_run=first["a"].run_id)
    await world.reconciled(2)
    assert sessions(world) == ["_holder", "a"]
    assert [running(*nap(7300 + number)) for number in (20, 21, 22)] == [1, 0, 0]
    assert second.pid != first["a"].pid


async def test_a_killed_tmux_server_comes_back_with_its_seats(world: World) -> None:
    world.want(world.seat("a"), world.seat("b"), generation=1)
    world.start()
    first = [await sits(world, name) for name in "ab"]
    world.private.tmux("kill-server")
    for one in first:
        await sits(world, one.name, not_run=one.run_id)
    assert sessions(world) == ["_holder", "a", "b"]


async def test_a_session_that_a_person_killed_does_not_leave_two_programs(world: World) -> None:
    command = ["bash", "-c", f"trap '' HUP; : {os.getpid()}; while :; do sleep 0.1; done"]
    world.want(world.seat("a", command=command), generation=1)
    world.start()
    first = await sits(world, "a")
    world.private.tmux("kill-session", "-t", "=a:")
    world.supervisor._wake.set()
    await sits(world, "a", not_run=first.run_id)
    assert not alive(first.pid)
    await eventually(lambda: running(*command) == 1, "one of it runs")  # a shell that forks is two for a moment


async def test_a_program_that_closes_its_terminal_and_lives_on_is_not_doubled(world: World) -> None:
    command = ["bash", "-c", f"trap '' HUP; : {os.getpid()}; exec 0<&- 1>&- 2>&-; while :; do sleep 0.1; done"]
    world.want(world.seat("a", command=command), generation=1)
    world.start()
    await eventually(lambda: world.reports and last(world, "a").run_id, "it was started")
    first = world.resident("a").session
    assert first is not None
    await sits(world, "a", not_run=first.run_id)
    assert not alive(first.pid)
    await eventually(lambda: running(*command) == 1, "one of it runs")  # a shell that forks is two for a moment


async def test_a_stopped_seat_takes_its_processes_with_it(world: World) -> None:
    command = ["bash", "-c", f"trap '' HUP TERM; {' '.join(nap(7341))} & {' '.join(nap(7342))}"]
    world.want(world.seat("a", command=command), generation=1)
    world.start()
    await sits(world, "a")
    await eventually(lambda: running(*nap(7341)) and running(*nap(7342)), "its children run")
    world.want(world.seat("a", generation=2, running=False, command=command), generation=2)
    await world.reconciled(2)
    assert [running(*command), running(*nap(7341)), running(*nap(7342))] == [0, 0, 0]


async def test_somebody_elses_session_of_the_name_is_left_alone(world: World) -> None:
    world.want(world.seat("b"), generation=1)
    world.start()
    await sits(world, "b")
    world.private.tmux("new-session", "-d", "-s", "a", *nap(7351))
    world.want(world.seat("a"), world.seat("b"), generation=2)
    await world.reconciled(2)
    assert "is not this fleet's" in last(world, "a").problem
    assert (sessions(world), running(*nap(7351))) == (["_holder", "a", "b"], 1)


async def test_a_runtime_that_is_not_installed_is_a_problem_and_no_crash(world: World) -> None:
    missing = Manifest.model_validate(
        {"name": "shell", "title": "Nowhere", "program": "no-such-program", "composer": {"kind": "line"}}
    )
    world.want(world.seat("a", manifest=missing), generation=1)
    world.start()
    await world.reconciled(1)
    assert "Nowhere (no-such-program) is not installed" in last(world, "a").problem
    assert await world.runs() == []


async def test_of_two_agents_that_had_one_name_only_the_newer_runs(world: World) -> None:
    world.want(world.seat("a", agent_id="older", command=nap(7361)), generation=1)
    world.start()
    first = await sits(world, "a")
    world.want(world.seat("a", agent_id="newer", command=nap(7362)), generation=2)
    await eventually(lambda: world.supervisor.residents["newer"].alive or world.reports[-1].problem, "it was tried")
    world.supervisor.residents["newer"].not_before = 0.0
    world.supervisor._wake.set()
    await sits(world, "a", not_run=first.run_id)
    await eventually(lambda: not alive(first.pid), "the older one has ended")
    assert (running(*nap(7361)), running(*nap(7362))) == (0, 1)


async def test_it_is_told_who_keeps_a_seat(world: World) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    await sits(world, "a")
    report = last(world, "a")
    expected = ("systemd", "mosaic-agent@a.service") if hasattr(world, "systemd") else ("built-in", "")
    assert (report.supervision, report.unit) == expected
