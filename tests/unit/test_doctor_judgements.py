"""What `mosaic doctor` makes of what it sees: pure, so that what cannot be broken on one machine is tried here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from mosaic_cli.doctor import certificates, clock, disk, folders, health, lingering, names, peers, terminal, versions
from mosaic_cli.doctor.certificates import Certificate
from mosaic_cli.doctor.disk import Filesystem
from mosaic_cli.doctor.folders import Place
from mosaic_cli.doctor.names import Reached
from mosaic_cli.doctor.terminal import Server
from mosaic_framework import units
from mosaic_framework.health import Health
from mosaic_proto.v1 import peers_pb2

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def certificate(*, used: float, life: timedelta = timedelta(hours=24)) -> Certificate:
    begins = NOW - life * used
    return Certificate("host", "spiffe://x", begins, begins + life, True, NOW + timedelta(days=900), 1, "mosaic up")


@pytest.mark.parametrize(
    ("used", "level", "said"),
    [
        (0.1, "well", "renewal is not due"),
        (0.6, "well", "renewal is due"),
        (0.8, "note", "its renewal is overdue"),
        (0.95, "wrong", "it was not renewed"),
        (1.2, "wrong", "expired 4h"),
    ],
)
def test_a_certificate_is_judged_by_how_much_of_its_life_is_over(used: float, level: str, said: str) -> None:
    (found,) = certificates.judge(certificate(used=used), NOW)
    assert (found.level, said in found.text, bool(found.repair)) == (level, True, level != "well"), found


def test_an_authority_that_ends_soon_is_told_beside_the_certificate() -> None:
    soon = Certificate("host", "spiffe://x", NOW, NOW + timedelta(days=1), True, NOW + timedelta(days=30), 1, "")
    assert [found.level for found in certificates.judge(soon, NOW)] == ["well", "note"]


@given(st.floats(-1e5, 1e5), st.floats(0, 30), st.floats(0, 1))
def test_a_clock_is_never_called_off_for_what_the_call_alone_may_explain(off: float, took: float, when: float) -> None:
    replica = took * when - off
    findings = list(clock.judge(clock.Readings(0.0, took, replica, replica), "fix"))
    (found,) = findings
    if abs(off) < 2:
        assert found.level == "well"
    if abs(off) >= 2 + took:
        assert found.level != "well"
        assert ("ahead of" if off > 0 else "behind") in found.text


def test_a_control_plane_whose_clock_is_not_its_databases_is_told() -> None:
    findings = list(clock.judge(clock.Readings(0.0, 0.1, 0.05, 40.0), "set it"))
    assert [found.level for found in findings] == ["well", "note"]
    assert "behind its database's" in findings[1].text


@pytest.mark.parametrize(
    ("server", "repair"),
    [
        (Server("s", "", problem="protocol version mismatch (client 9, server 8)", pid=7), "mosaic fleet stop --all"),
        (Server("s", "", version="3.3a"), "at a quiet time"),
        (Server("s", "", problem="no server running on /x", pid=7), "kill -USR1 7"),
        (Server("s", "", problem="timed out", pid=7, silent=True), "kill -CONT 7"),
        (Server("s", "", problem="no server running on /x"), None),
        (Server("s", "", version="3.5"), None),
    ],
)
def test_a_tmux_server_is_judged_by_what_it_says(server: Server, repair: str | None) -> None:
    found = terminal.judge(server, "3.5")
    assert (found is None) == (repair is None)
    assert found is None or found.repair.startswith(repair or "")


def test_seats_that_systemd_keeps_without_linger_are_told_with_the_command() -> None:
    found = lingering.judge(supervision=units.SYSTEMD, user="anna", lingers=False)
    assert (found.level, found.repair) == ("wrong", "sudo loginctl enable-linger anna")
    assert lingering.judge(supervision=units.SYSTEMD, user="anna", lingers=True).level == "well"


@pytest.mark.parametrize(("free", "level"), [(5 << 30, "well"), (500 << 20, "note"), (50 << 20, "wrong")])
def test_a_disk_is_judged_by_its_room(free: int, level: str) -> None:
    (found,) = disk.judge(Filesystem(("home",), Path("/x"), free, 10**6, True))
    assert (found.level, bool(found.repair)) == (level, level != "well")


def test_a_small_file_system_for_sockets_alone_is_well() -> None:
    (found,) = disk.judge(Filesystem(("sockets",), Path("/run/x"), 50 << 20, 10**6, True, only_sockets=True))
    assert found.level == "well"


def test_a_folder_of_sockets_that_is_somebody_elses_is_told() -> None:
    (found,) = folders.judge_sockets([Place(Path("/x"), 0o700, 1001)], user="anna", uid=1000)
    assert (found.level, "of user 1001" in found.text) == ("wrong", True)


def test_an_address_that_does_not_answer_where_there_is_a_proxy_says_that_it_is_not_used() -> None:
    found = names.judge_address(Reached("db:7443", "host", refusal="no answer"), proxies=["https_proxy"])
    assert "not through https_proxy" in found.text
    assert found.repair == "nc -vz db 7443"


def test_hosts_of_another_version_are_counted_and_named() -> None:
    hosts = {f"h{number}": "1.0" for number in range(9)} | {"new": "2.0"}
    (found,) = versions.judge(versions.Versions("2.0", "2.0", ["2.0"], hosts, 5, 5))
    assert "9 of 10 host-agents run 1.0" in found.text
    assert "and 4 more" in found.text


def test_a_program_is_judged_by_what_it_says_of_itself() -> None:
    hangs = health.judge("controlplane", 7, Health(alive=False, ready=False, why="no answer"), stopped=False)
    waits = health.judge("hostagent", 7, Health(alive=True, ready=False, why="there is no link"), stopped=False)
    well = health.judge("hostagent", 7, Health(alive=True, ready=True), stopped=False)
    assert (hangs.level, hangs.repair.startswith("kill -KILL 7")) == ("wrong", True)
    assert (waits.level, waits.text) == ("wrong", "the host-agent (process 7) runs and is not ready: there is no link")
    assert (well.level, well.text) == ("well", "the host-agent is ready")


@pytest.mark.parametrize(
    ("state", "silent", "level", "said"),
    [
        ("LIVE", 4, "well", "is LIVE"),
        ("STALE", 180, "wrong", "is STALE 3m: it cannot be reached"),
        ("LOST", 7200, "wrong", "is LOST 2h"),
        ("PAIRED", 0, "note", "is PAIRED"),
        ("REVOKED", 0, "", ""),
    ],
)
def test_a_peer_that_is_not_heard_of_is_told_with_since_when_and_why(
    state: str, silent: int, level: str, said: str
) -> None:
    at = Timestamp(seconds=1_000_000)
    peer = peers_pb2.PeerCluster(
        name="east",
        health=f"PEER_HEALTH_{state}",
        heard_at=Timestamp(seconds=at.seconds - silent),
        problem="" if state == "LIVE" else "it cannot be reached",
    )
    found = list(peers.judge([peer], at))
    assert [(one.level, said in one.text, bool(one.repair)) for one in found] == (
        [(level, True, level != "well")] if level else []
    ), found
