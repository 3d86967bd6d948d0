"""`mosaic fleet watch`: through a control plane that goes away, and on from a cursor, without gap or repeat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import backlog_pb2, backlog_pb2_grpc, fleet_pb2

from tests.support.checkout import ROOT
from tests.support.mesh import Mesh
from tests.support.program import Program, eventually


class Watch:
    """The command as a process; what it printed, as objects."""

    def __init__(
        self, mesh: Mesh, folder: Path, *arguments: str, command: tuple[str, ...] = ("fleet", "watch")
    ) -> None:
        home = folder / "home"
        mesh.write_context(Home(home))
        self.program = Program(["mosaic", *command, "-o", "json", *arguments], home, {})
        self.out = folder / f"watch-{new_id().hex}"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mosaic_cli.main", *self.program.arguments[1:]],
                stdout=out,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env=self.program.full_environment,
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def wanted(self, name: str = "worker") -> list[int]:
        """The generations of a seat, in the order they were told."""
        return [line["generation"] for line in self.lines() if line["kind"] == "Agent" and line["name"] == name]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
async def site(mesh: Mesh) -> Mesh:
    await mesh.join("alpha", started=False)  # no host-agent: what changes is what the test changes
    await mesh.apply({"worker": "alpha", "still": "alpha"})
    return mesh


async def change(mesh: Mesh) -> None:
    action = fleet_pb2.SEAT_ACTION_RESTART
    request = fleet_pb2.ChangeSeatsRequest(request_id=str(new_id()), action=action, agents=["worker"])
    await mesh.fleet.ChangeSeats(request, wait_for_ready=True)


async def test_a_watch_goes_on_after_the_control_plane_was_away(site: Mesh, tmp_path: Path) -> None:
    watch = Watch(site, tmp_path)
    try:
        await eventually(lambda: watch.wanted() == [1], "the snapshot is shown")
        await change(site)
        await eventually(lambda: watch.wanted() == [1, 2], "a change is shown")
        site.controlplane.kill()
        await site.register_value(
            "update fleet.agent set generation = generation + 1 where name = 'worker' returning 1"
        )
        site.controlplane.start()
        await site.serving()
        await change(site)
        await eventually(lambda: watch.wanted()[-1:] == [4], "the newest is shown")
    finally:
        watch.stop()
    told = watch.wanted()
    # A change is told with the seat as it is then, so what was overtaken may be left out; each change is told once.
    assert told == sorted(told)
    assert told[:2] == [1, 2]
    assert watch.wanted("still") == [1], "what did not change is not told again"
    cursors = [line["cursor"] for line in watch.lines() if line["cursor"]]
    assert len(set(cursors)) == len(cursors)


async def test_a_watch_from_a_cursor_shows_what_came_after_it_and_nothing_twice(site: Mesh, tmp_path: Path) -> None:
    first = Watch(site, tmp_path)
    await eventually(lambda: first.wanted() == [1], "the snapshot is shown")
    await change(site)
    await eventually(lambda: first.wanted() == [1, 2], "a change is shown")
    cursor = first.lines()[-1]["cursor"]
    first.stop()
    await change(site)
    second = Watch(site, tmp_path, "--cursor", cursor)
    try:
        await eventually(lambda: second.wanted()[-1:] == [3], "what came after is shown")
        await change(site)
        await eventually(lambda: second.wanted()[-1:] == [4], "and what comes then")
    finally:
        second.stop()
    assert set(second.wanted()) == {3, 4}, "and nothing of before"
    assert second.wanted("still") == []


async def test_message_ls_watched_through_a_control_plane_that_was_away_tells_every_message_and_each_step_once(
    site: Mesh, tmp_path: Path
) -> None:
    first = await site.send("worker", "one")
    watch = Watch(site, tmp_path, command=("message", "ls", "-w"))

    def told() -> list[tuple[str, str]]:
        return [(line["id"], line["step"]) for line in watch.lines() if line["kind"] == "Receipt"]

    try:
        await eventually(lambda: told() == [(first, "queued")], "what there was is shown")
        second = await site.send("worker", "two")
        await eventually(lambda: told()[1:] == [(second, "queued")], "a new one is shown")
        site.controlplane.kill()
        await site.register_value(
            "update fleet.message set step = 'failed' where message_id = $1::text::uuid returning 1", first
        )
        site.controlplane.start()
        await site.serving()
        third = await site.send("worker", "three")
        await eventually(lambda: (third, "queued") in told(), "what came after is shown")
    finally:
        watch.stop()
    assert told() == [(first, "queued"), (second, "queued"), (first, "failed"), (third, "queued")]


async def test_backlog_ls_watched_tells_each_state_of_a_card_once(site: Mesh, tmp_path: Path) -> None:
    backlog: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(site.channel)
    card = backlog_pb2.CardDraft(id="a", content=backlog_pb2.CardContent(title="a"))
    await backlog.Create(backlog_pb2.CreateCardsRequest(request_id=str(new_id()), cards=[card]))
    watch = Watch(site, tmp_path, command=("backlog", "ls", "-w"))

    def told() -> list[tuple[str, bool]]:
        return [(line["status"], line["left"]) for line in watch.lines()]

    try:
        await eventually(lambda: told() == [("ready", False)], "what there was is shown")
        await backlog.Claim(backlog_pb2.ClaimRequest(request_id=str(new_id())))
        await eventually(lambda: told()[1:] == [("claimed", False)], "a claim is shown")
        site.controlplane.kill()
        site.controlplane.start()
        await site.serving()
        await backlog.Complete(
            backlog_pb2.CompleteRequest(request_id=str(new_id()), card_id="a", fence=1), wait_for_ready=True
        )
        await eventually(lambda: told()[2:] == [("claimed", True)], "a card that is done leaves the list")
    finally:
        watch.stop()
