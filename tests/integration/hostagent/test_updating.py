"""A runtime is updated once for all of a host's seats, and whatever goes wrong leaves them as they were."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from unittest.mock import patch

import pytest
from mosaic_framework import steps
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_hostagent.versions import Versions
from mosaic_proto.v1 import host_link_pb2 as pb
from mosaic_proto.v1 import runtimes_pb2

from tests.fakes.updatable import Runtime
from tests.support.hostagent import World, eventually


@pytest.fixture(autouse=True)  # before the world is made, which takes PATH as it is then
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runtime:
    runtime = Runtime(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{runtime.folder}:{os.environ['PATH']}")
    monkeypatch.setattr("mosaic_hostagent.resetting.CALM_SECONDS", 0.2)
    return runtime


def seats(world: World, *names: str) -> list[pb.DesiredSeat]:
    return [world.seat(name, runtime="claude") for name in names]


async def running(world: World, *names: str) -> dict[str, str]:
    """Start seats of the runtime; return their runs."""
    world.want(*seats(world, *names), generation=1)
    world.start()
    return {name: (await world.available(name)).run_id for name in names}


async def taken_up(world: World, *names: str) -> None:
    """Begin another host-agent on the same journal."""
    await world.restart()
    await world.updating.resume()
    world.want(*seats(world, *names), generation=1)
    world.start()


def wanted(*, relaunch: bool = True, drain_ms: int = 10_000, runtime: str = "claude") -> runtimes_pb2.WantedUpdate:
    return runtimes_pb2.WantedUpdate(id=str(new_id()), runtime=runtime, relaunch=relaunch, drain_ms=drain_ms)


async def told(world: World) -> list[runtimes_pb2.UpdateProgress]:
    return [event.runtime_update for event in await world.events() if event.WhichOneof("event") == "runtime_update"]


def word(progress: runtimes_pb2.UpdateProgress) -> str:
    return runtimes_pb2.UpdateState.Name(progress.state).removeprefix("UPDATE_STATE_").lower()


async def ended(world: World) -> runtimes_pb2.UpdateProgress:
    async with asyncio.timeout(40):
        while not (found := await told(world)) or word(found[-1]) not in ("done", "failed"):
            await asyncio.sleep(0.05)
    return found[-1]


async def test_one_update_serves_all_seats_and_each_is_relaunched_on_the_new_version(
    world: World, runtime: Runtime
) -> None:
    before = await running(world, "a", "b")
    await world.updating.take(wanted())
    last = await ended(world)
    assert (word(last), last.problem) == ("done", "")
    assert (last.version_before, last.version_after) == ("1.0.0", "2.0.0")
    assert [(one.name, one.well) for one in last.seats] == [("a", True), ("b", True)]
    assert "updated to 2.0.0" in last.output
    steps_told = list(dict.fromkeys(word(one) for one in await told(world)))
    assert steps_told == ["draining", "updating", "relaunching", "done"]
    assert len(runtime.lines("updates")) == 1
    assert runtime.lines("launches") == ["1.0.0", "1.0.0", "2.0.0", "2.0.0"]
    assert all(world.resident(name).run_id > run_id for name, run_id in before.items())
    await eventually(lambda: not any(world.resident(name).holds for name in before), "messages go on")
    assert "restarted" in [reason for _, reason, _ in await world.runs()]


async def test_without_a_relaunch_the_seats_run_on(world: World, runtime: Runtime) -> None:
    before = await running(world, "a")
    await world.updating.take(wanted(relaunch=False))
    last = await ended(world)
    assert (word(last), last.version_after) == ("done", "2.0.0")
    assert [(one.well, one.detail) for one in last.seats] == [(True, "runs 1.0.0 until a relaunch")]
    assert world.resident("a").run_id == before["a"]


async def test_seats_that_run_the_newest_version_already_are_not_relaunched(world: World, runtime: Runtime) -> None:
    before = await running(world, "a")
    runtime.next("1.0.0")
    await world.updating.take(wanted())
    last = await ended(world)
    assert (word(last), last.version_before, last.version_after) == ("done", "1.0.0", "1.0.0")
    assert [(one.name, one.well, one.detail) for one in last.seats] == [("a", True, "runs 1.0.0")]
    assert len(runtime.lines("updates")) == 1
    assert world.resident("a").run_id == before["a"]


async def test_a_relaunch_asked_for_later_reaches_the_seats_that_still_run_the_old_version(
    world: World, runtime: Runtime
) -> None:
    before = await running(world, "a")
    await world.updating.take(wanted(relaunch=False))
    await ended(world)
    await taken_up(world, "a", "b")  # which version an adopted seat was started with, only its program's file can say
    await world.available("a")
    newer = (await world.available("b")).run_id
    later = wanted()
    await world.updating.take(later)
    async with asyncio.timeout(40):
        while not (found := [one for one in await told(world) if one.id == later.id]) or word(found[-1]) != "done":
            await asyncio.sleep(0.05)
    assert (found[-1].version_before, found[-1].version_after) == ("2.0.0", "2.0.0")
    assert [(one.name, one.detail) for one in found[-1].seats] == [("a", "relaunched, available")]
    assert world.resident("a").run_id > before["a"]
    assert world.resident("b").run_id == newer
    assert runtime.lines("launches") == ["1.0.0", "2.0.0", "2.0.0"]


async def test_a_seat_that_was_started_before_its_program_was_replaced_is_told_no_version(
    world: World, runtime: Runtime
) -> None:
    await running(world, "a")
    await world.updating.take(wanted(relaunch=False))
    await ended(world)
    await taken_up(world, "a", "b")
    versions = Versions(Home(world.state.parent), world.private.environment | os.environ, lambda _: None)
    world.keeper.on_occupied = versions.ask
    try:
        await world.available("b")
        versions.ask(world.resident("a"))
        await eventually(lambda: world.resident("b").version == "2.0.0", "the new one's version is known")
        await asyncio.gather(*versions._tasks)
        assert world.resident("a").version == ""
    finally:
        await versions.close()


async def test_an_update_that_is_asked_for_again_is_carried_out_once(world: World, runtime: Runtime) -> None:
    await running(world, "a")
    update = wanted(relaunch=False)
    await asyncio.gather(*(world.updating.take(update) for _ in range(3)))
    await ended(world)
    await taken_up(world, "a")
    await world.updating.take(update)
    await world.available("a")
    assert len(runtime.lines("updates")) == 1


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("fail", "the command ended with 7; the seats run as before"),
        ("vanish", "the program does not say its version any more; the seats run as before"),
        ("hang", "the command did not end within 1 s and was ended; the seats run as before"),
    ],
)
async def test_an_update_that_fails_leaves_the_seats_running(
    world: World, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, what: str, problem: str
) -> None:
    monkeypatch.setattr("mosaic_hostagent.updating.COMMAND_SECONDS", 1.0)
    before = await running(world, "a")
    runtime.next(what)
    await world.updating.take(wanted())
    last = await ended(world)
    assert (word(last), last.problem) == ("failed", problem)
    assert "checking for updates" in last.output
    for pid in runtime.lines("hangs"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    assert world.resident("a").run_id == before["a"]
    assert world.resident("a").alive
    message = await world.send(seats(world, "a")[0], "hello")
    assert (await world.ended(message))[-1] == "submitted"


async def test_a_busy_seat_is_waited_for_and_messages_wait_with_it(world: World, runtime: Runtime) -> None:
    await running(world, "a", "b")
    world.private.tmux("send-keys", "-t", "=a:", "work 3", "Enter")
    await eventually(lambda: world.resident("a").state.state == "working", "it works")
    await world.updating.take(wanted())
    await eventually(lambda: world.resident("b").holds, "messages are held")
    old = world.resident("b").run_id
    message = await world.send(seats(world, "b")[0], "after the update")
    assert word(await ended(world)) == "done"
    assert "a" in [one.name for one in (await told(world))[0].seats], "the busy one is waited for"
    assert (await world.ended(message))[-1] == "submitted"
    assert world.resident("b").run_id > old
    newest = max(runtime.folder.glob("transcript.*"), key=os.path.getmtime)
    assert newest.name == f"transcript.{world.resident('b').session.pid}"  # type: ignore[union-attr]
    assert "after the update" in newest.read_text(encoding="utf-8")


async def test_a_seat_that_stays_busy_ends_the_update_before_anything_is_changed(
    world: World, runtime: Runtime
) -> None:
    before = await running(world, "a")
    world.private.tmux("send-keys", "-t", "=a:", "work 30", "Enter")
    await eventually(lambda: world.resident("a").state.state == "working", "it works")
    await world.updating.take(wanted(drain_ms=300))
    last = await ended(world)
    assert word(last) == "failed"
    assert last.problem == "not available within 0.3 s: a (working); nothing was changed"
    assert runtime.lines("updates") == []
    assert world.resident("a").run_id == before["a"]
    await eventually(lambda: not world.resident("a").holds, "messages go on")


async def test_a_version_that_does_not_come_up_is_brought_to_one_seat_only(world: World, runtime: Runtime) -> None:
    before = await running(world, "a", "b", "c")
    runtime.next("9.9.9")
    await world.updating.take(wanted())
    last = await ended(world)
    assert word(last) == "failed"
    assert last.problem.startswith("a: it ended at once")
    assert last.problem.endswith("2 other seats run on as before")
    assert world.resident("b").run_id == before["b"]
    assert world.resident("c").run_id == before["c"]


@pytest.mark.parametrize(("name", "why"), [("codex", "is not installed on this host"), ("shell", "no update command")])
async def test_what_cannot_be_updated_says_why(world: World, runtime: Runtime, name: str, why: str) -> None:
    world.want(world.seat("a", runtime=name), generation=1)
    world.start()
    await eventually(lambda: world.applied, "it was tried")
    await world.updating.take(wanted(runtime=name))
    last = await ended(world)
    assert word(last) == "failed"
    assert why in last.problem


async def test_a_command_outlives_its_host_agent_and_the_next_one_goes_on(world: World, runtime: Runtime) -> None:
    before = await running(world, "a")
    runtime.next("slow 2.0.0")
    await world.updating.take(wanted())
    async with asyncio.timeout(20):
        while not [one for one in await world.journal.open_updates() if one.pid]:
            await asyncio.sleep(0.02)
    await eventually(lambda: runtime.lines("hangs"), "it updates")
    await taken_up(world, "a")
    await world.available("a")
    os.kill(int(runtime.lines("hangs")[0]), 0)
    (runtime.folder / "go").touch()
    last = await ended(world)
    assert (word(last), last.version_after) == ("done", "2.0.0")
    assert len(runtime.lines("updates")) == 1
    assert world.resident("a").run_id > before["a"]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("place", ["update-journalled", "update-started"])
async def test_a_host_agent_killed_amid_an_update_starts_no_second_command(
    world: World, runtime: Runtime, place: str
) -> None:
    await running(world, "a")
    dead = asyncio.Event()

    def observe(name: str) -> None:
        if name == f"hostagent.{place}":
            dead.set()
            raise Killed

    with patch.object(steps, "_observer", observe):
        await world.updating.take(wanted())
        async with asyncio.timeout(15):
            await dead.wait()
        await taken_up(world, "a")
    last = await ended(world)
    if place == "update-journalled":  # nothing was started, and nobody can know that
        assert (word(last), runtime.lines("updates")) == ("failed", [])
        assert "the version is as before" in last.problem
    else:
        assert (word(last), len(runtime.lines("updates"))) == ("done", 1)
