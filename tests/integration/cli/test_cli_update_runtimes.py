"""Promises of `mosaic update --runtimes`, over the real wire."""

from __future__ import annotations

import pytest
from mosaic_framework.errors import Conflict
from mosaic_proto.v1 import runtimes_pb2 as pb

from tests.fakes.control_plane import FakeControlPlane
from tests.support.cli import Mosaic, lines


def told(state: str, *, seats: tuple[tuple[str, bool, str], ...] = (), **more: object) -> pb.RuntimeUpdate:
    update = pb.RuntimeUpdate(state=pb.UpdateState.Value(f"UPDATE_STATE_{state}"), **more)  # type: ignore[arg-type]
    for name, well, detail in seats:
        update.seats.add(name=name, well=well, detail=detail)
    return update


DONE = told("DONE", version_before="1.0.0", version_after="2.0.0", seats=(("a", True, "relaunched, available"),))


@pytest.fixture
def two_hosts(plane: FakeControlPlane) -> FakeControlPlane:
    for host in ("build2", "build1"):
        plane.planned.append(
            pb.PlannedUpdate(host=host, runtime="claude", command=["claude", "update"], agents=["a", "b"])
        )
        plane.update_script[f"{host}/claude"] = [DONE]
    plane.planned.append(pb.PlannedUpdate(host="build1", runtime="shell", agents=["s"]))
    return plane


def test_hosts_are_updated_one_after_another_with_progress_and_a_summary(
    two_hosts: FakeControlPlane, mosaic: Mosaic
) -> None:
    two_hosts.update_script["build1/claude"] = [
        told("DRAINING", seats=(("a", False, "is working"),)),
        told("UPDATING", version_before="1.0.0"),
        told("RELAUNCHING", version_before="1.0.0", version_after="2.0.0"),
        DONE,
    ]
    done = mosaic("update", "--runtimes", "--relaunch", "--timeout", "1m")
    assert done.code == 0, done.err
    assert [(one.host, one.runtime, one.relaunch, one.drain_ms) for one in two_hosts.updates_asked] == [
        ("build1", "claude", True, 60_000),
        ("build2", "claude", True, 60_000),
    ]
    order = [
        "waits until its agents are available: a is working",
        "build1/claude: updating 1.0.0",
        "relaunching on 2.0.0",
        "build1/claude: done, 1.0.0 → 2.0.0",
        "build2/claude: done",
    ]
    places = [done.err.index(words) for words in order]
    assert places == sorted(places)
    assert [line.split()[:6] for line in lines(done.out)] == [
        ["HOST", "RUNTIME", "RESULT", "BEFORE", "AFTER", "SEATS"],
        ["build1", "claude", "done", "1.0.0", "2.0.0", "1"],
        ["build2", "claude", "done", "1.0.0", "2.0.0", "1"],
    ]


def test_a_version_that_stayed_as_it_was_is_told_as_unchanged_and_is_no_failure(
    two_hosts: FakeControlPlane, mosaic: Mosaic
) -> None:
    two_hosts.update_script["build1/claude"] = [told("DONE", version_before="2.0.0", version_after="2.0.0")]
    done = mosaic("update", "--runtimes", "-o", "json")
    assert done.code == 0
    assert [(one["host"], one["state"]) for one in done.json["items"]] == [("build1", "unchanged"), ("build2", "done")]
    assert "build1/claude: unchanged, 2.0.0 as before" in done.err


def test_one_that_fell_short_makes_the_exit_code_1_and_the_others_go_on(
    two_hosts: FakeControlPlane, mosaic: Mosaic
) -> None:
    two_hosts.update_script["build1/claude"] = [told("FAILED", problem="the command ended with 7", output="no\n")]
    done = mosaic("update", "--runtimes", "-o", "json")
    assert done.code == 1
    assert [(one["host"], one["state"], one["problem"]) for one in done.json["items"]] == [
        ("build1", "failed", "the command ended with 7"),
        ("build2", "done", ""),
    ]
    assert done.json["items"][0]["output"] == "no\n"


def test_a_version_that_does_not_come_up_is_not_brought_to_the_next_host(
    two_hosts: FakeControlPlane, mosaic: Mosaic
) -> None:
    broken = told("FAILED", relaunch=True, problem="a: it ended at once", seats=(("a", False, "it ended at once"),))
    two_hosts.update_script["build1/claude"] = [broken]
    done = mosaic("update", "--runtimes", "--relaunch", "-o", "json")
    assert done.code == 1
    assert len(two_hosts.updates_asked) == 1
    assert done.json["items"][1]["problem"] == "not tried, since it fell short on build1"


def test_what_is_under_way_already_falls_short_here(two_hosts: FakeControlPlane, mosaic: Mosaic) -> None:
    two_hosts.fail("UpdateRuntime", Conflict("claude is being updated on host build1 already"))
    done = mosaic("update", "--runtimes")
    assert done.code == 1
    assert "is being updated on host build1 already" in done.out
    assert "build2" in done.out


def test_selectors_pick_hosts_and_runtimes(two_hosts: FakeControlPlane, mosaic: Mosaic) -> None:
    assert mosaic("update", "--runtimes", "--host", "build2", "-o", "name").out == "build2/claude\n"
    assert mosaic("update", "--runtimes", "--runtime", "pi").err.strip().endswith("can be updated")


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(two_hosts: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("update", "--runtimes", "--dry-run", "-o", "json")
    assert [(one["host"], one["command"], one["agents"]) for one in done.json["items"]] == [
        ("build2", ["claude", "update"], ["a", "b"]),
        ("build1", ["claude", "update"], ["a", "b"]),
    ]
    assert not two_hosts.updates_asked


def test_detached_it_asks_all_and_waits_for_none(two_hosts: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("update", "--runtimes", "--detach")
    assert done.code == 0
    assert len(two_hosts.updates_asked) == 2
    assert "FollowUpdate" not in two_hosts.calls


@pytest.mark.parametrize("options", [["--relaunch"], ["--host", "build1"], ["--runtimes", "--no-upgrade"]])
def test_options_that_do_not_go_together_are_a_wrong_command_line(
    plane: FakeControlPlane, mosaic: Mosaic, options: list[str]
) -> None:
    assert mosaic("update", *options).code == 2
