"""Terminals watched from elsewhere: what a person sees, through any replica, across runs and lost links."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.mesh.test_two_replicas import Replica
from tests.support.crowd import MIB, Crowd, Memory, noise
from tests.support.mesh import Host, Mesh
from tests.support.program import eventually
from tests.support.viewers import watching


async def a_worker(mesh: Mesh) -> Host:
    host = await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    return host


def clients(host: Host) -> list[str]:
    """The sessions that tmux clients are attached to."""
    return host.tmux("list-clients", "-F", "#{client_session}").split()


async def test_a_watcher_sees_the_screen_with_its_colours_and_then_every_change(mesh: Mesh) -> None:
    host = await a_worker(mesh)
    await mesh.until_step(await mesh.send("worker", r"printf '\033[31mbefore\033[0m\n'"))
    async with watching(mesh.channel, "worker") as screen:
        await screen.shows("before")
        assert any("\x1b[31mbefore" in row for row in screen.feed.rows)
        await mesh.send("worker", "echo af''ter")
        await screen.shows("after")
        assert screen.status.width == 200
    await eventually(lambda: clients(host) == ["_holder"] or "worker" not in clients(host), "the client goes", None)


async def test_through_either_replica_the_same_is_seen(mesh: Mesh) -> None:
    second = Replica(mesh)
    await second.start()
    try:
        host = await a_worker(mesh)
        async with watching(mesh.channel, "worker") as one, watching(second.channel, "worker") as other:
            await mesh.send("worker", "echo se''en")
            await one.shows("seen")
            await other.shows("seen")
            await eventually(lambda: clients(host).count("worker") == 1, "both share one tmux client", None)
    finally:
        await second.close()


async def test_a_watcher_follows_the_seat_to_its_next_run(mesh: Mesh) -> None:
    await a_worker(mesh)
    async with watching(mesh.channel, "worker") as screen:
        await screen.until(lambda seen: seen.status.run_id, "a run")
        first = screen.status.run_id
        await mesh.send("worker", "exit")
        await screen.until(lambda seen: seen.status.note, "a note that it has ended")
        await screen.until(lambda seen: seen.status.run_id != first and not seen.status.note, "the next run")
        await mesh.send("worker", "echo sec''ond")
        await screen.shows("second")


async def test_a_watcher_is_told_of_a_lost_host_and_sees_a_fresh_picture_when_it_is_back(mesh: Mesh) -> None:
    host = await a_worker(mesh)
    async with watching(mesh.channel, "worker") as screen:
        await screen.until(lambda seen: seen.text.strip(), "a prompt")
        host.program.kill()
        await screen.until(lambda seen: seen.error, "the loss")
        assert screen.error is not None
        assert screen.error.code == "host-unreachable"
    before = (await mesh.host_row("alpha")).link_epoch
    host.tmux("send-keys", "-t", "=worker:", "echo mean''while", "Enter")
    await eventually(lambda: "meanwhile" in host.screen("worker"), "the answer", None)
    host.program.start()
    while (await mesh.host_row("alpha")).link_epoch == before:
        await asyncio.sleep(0.05)
    async with watching(mesh.channel, "worker") as screen:
        await screen.shows("meanwhile")


async def test_lines_that_leave_the_screen_are_told_to_who_asks_for_them(mesh: Mesh) -> None:
    await a_worker(mesh)
    async with watching(mesh.channel, "worker", scrolled=True) as screen:
        await screen.until(lambda seen: seen.text.strip(), "a prompt")
        await mesh.send("worker", "for i in $(seq 300); do echo line-$i; sleep 0.002; done")
        await screen.shows("line-300")
        told = [line for line in screen.scrolled if line.startswith("line-")]
        assert screen.skipped == 0
        assert told == [f"line-{number}" for number in range(1, len(told) + 1)]
        assert len(told) > 200


async def test_twenty_viewers_of_a_noisy_terminal_one_of_them_stalled_cost_no_memory_and_it_comes_to_what_is_true(
    mesh: Mesh, tmp_path: Path
) -> None:
    host = await a_worker(mesh)
    people = mesh.folder / "operator", f"{mesh.listen}:{mesh.fleet_port}", "worker"
    crowd, stalled = Crowd(*people, 19), Crowd(*people, 1)
    try:
        await crowd.ready()
        await stalled.ready()
        assert clients(host).count("worker") == 1, "all share one tmux client"
        done = tmp_path / "full"
        await mesh.send("worker", noise(4, done))  # the scrollback, which is tmux's own, is full now
        await eventually(done.exists, "the scrollback is full", seconds=60)
        stalled.stall()
        assert host.program.process is not None
        assert mesh.controlplane.process is not None
        memory = Memory(
            hostagent=host.program.process.pid,
            tmux=int(host.tmux("display-message", "-p", "#{pid}")),
            controlplane=mesh.controlplane.process.pid,
        )
        done = tmp_path / "over"
        await mesh.send("worker", noise(16, done))
        await eventually(lambda: memory.look() or done.exists(), "all is written", seconds=60)
        memory.look()
        assert all(grown < 64 * MIB for grown in memory.growth.values()), memory.growth
        assert min(await crowd.shows("finished-over")) > 1
        stalled.go_on()
        await stalled.shows("finished-over")
    finally:
        crowd.close()
        stalled.close()
