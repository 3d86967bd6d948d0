"""The mosaic-hostagent program: one a home, clear errors, an end that leaves seats alone, a release that does not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.fakes.host_link import FakeHostLinks
from tests.support.hostagent import HOLDER
from tests.support.tmux import PrivateTmux


class Program:
    """`mosaic-hostagent` in processes of its own, on one home."""

    def __init__(self, home: Home, private: PrivateTmux) -> None:
        self.home = home
        self.private = private
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self, verb: str = "serve", **environment: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mosaic_hostagent.main",
            verb,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.private.environment, "MOSAIC_HOME": str(self.home.root), **environment},
        )
        self.running.append(process)
        return process

    async def run(self, verb: str, **environment: str) -> tuple[int, str, str]:
        """Run it to its end: (exit code, standard output, standard error)."""
        process = await self.start(verb, **environment)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def end(self, process: asyncio.subprocess.Process, number: int = signal.SIGTERM) -> tuple[int, str]:
        process.send_signal(number)
        async with asyncio.timeout(20):
            _, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, err.decode()

    async def close(self) -> None:
        for process in self.running:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@pytest.fixture
async def program(tmp_path: Path, plane: FakeHostLinks, private: PrivateTmux) -> AsyncIterator[Program]:
    async with joined(Home(tmp_path / "home"), plane, private) as program:
        yield program


@asynccontextmanager
async def joined(home: Home, plane: FakeHostLinks, private: PrivateTmux) -> AsyncIterator[Program]:
    """A home that has joined; its processes are ended after."""
    plane.write_identity(home.pki / "host")
    program = Program(home, private)
    try:
        yield program
    finally:
        await program.close()


def desired(private: PrivateTmux, manifest: Callable[[str], Manifest], *names: str) -> pb.DesiredState:
    seats = [
        pb.DesiredSeat(
            agent_id=f"agent-{name}",
            generation=1,
            running=True,
            spec=fleet_pb2.SeatSpec(
                name=name,
                working_directory="~",
                tmux_socket_name=private.socket_name,
                tmux_holder_session=HOLDER,
                manifest_json=manifest("shell").as_json(),
            ),
        )
        for name in names
    ]
    return pb.DesiredState(generation=1, seats=seats)


async def test_sigterm_leaves_seats_running_and_release_ends_them(
    program: Program, plane: FakeHostLinks, private: PrivateTmux, manifest: Callable[[str], Manifest]
) -> None:
    private.tmux("new-session", "-d", "-s", "a-persons-own", "cat")
    serving = await program.start()
    link = await plane.link()
    link.send(desired=desired(private, manifest, "a", "b"))
    await link.has("applied")
    pids = [int(pid) for pid in private.tmux("list-panes", "-a", "-F", "#{pane_pid}").split()]
    assert len(pids) == 4
    code, out, err = await program.run("release")
    assert (code, out) == (6, "")
    assert f"pid {serving.pid}" in err
    assert (await program.end(serving))[0] == 0
    assert all(psutil.pid_exists(pid) for pid in pids)
    code, out, err = await program.run("release")
    assert (code, err.count("error:")) == (0, 0)
    assert out.splitlines() == [
        f"stopped a on tmux server {private.socket_name}",
        f"stopped b on tmux server {private.socket_name}",
        f"stopped the holder session _holder on tmux server {private.socket_name}",
    ]
    assert private.tmux("list-sessions", "-F", "#{session_name}").split() == ["a-persons-own"]
    assert (await program.run("release"))[:2] == (0, "")


async def test_a_second_host_agent_for_one_home_says_who_is_there(program: Program, plane: FakeHostLinks) -> None:
    first = await program.start()
    await plane.link()
    code, _, err = await program.run("serve")
    assert code == 6
    assert f"pid {first.pid}" in err
    assert "hostagent-running" in err
    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    await program.start()  # a killed one leaves no lock behind
    await plane.link(count=2)


async def test_a_host_that_has_not_joined_is_told_how(tmp_path: Path, private: PrivateTmux) -> None:
    program = Program(Home(tmp_path / "fresh"), private)  # both end by themselves
    code, _, err = await program.run("serve")
    assert code == 4
    assert "mosaic host join" in err
    assert (await program.run("release"))[:2] == (0, "")


async def test_a_damaged_journal_is_left_as_it_is_and_the_way_out_is_told(program: Program) -> None:
    folder = program.home.state / "journal"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "journal.db").write_bytes(b"rubbish" * 1000)
    code, _, err = await program.run("serve")
    assert code == 1
    assert f"mv {folder} {folder}.damaged" in err
    assert (folder / "journal.db").read_bytes() == b"rubbish" * 1000


@pytest.mark.parametrize(
    ("settings", "variables", "told"),
    [
        ("addreses: [a:1]", {}, ["hostagent.yaml", "line 1", "addreses", "addresses"]),
        ("stop_grace_seconds: soon", {}, ["line 1", "stop_grace_seconds"]),
        ("log_level: loud", {}, ["line 1", "log_level"]),
        ("addresses: ['not an address']", {}, ["line 1", "host:port"]),
        ("", {"MOSAIC_HOSTAGENT_ADRESSES": "a:1"}, ["MOSAIC_HOSTAGENT_ADDRESSES"]),
        ("", {"MOSAIC_HOSTAGENT_LOG_LEVEL": "loud"}, ["MOSAIC_HOSTAGENT_LOG_LEVEL"]),
        ("", {"MOSAIC_HOSTAGENT_STOP_GRACE_SECONDS": "-1"}, ["MOSAIC_HOSTAGENT_STOP_GRACE_SECONDS"]),
    ],
)
async def test_a_wrong_setting_is_told_with_its_place_and_without_a_traceback(
    program: Program, settings: str, variables: dict[str, str], told: list[str]
) -> None:
    (program.home.root / "hostagent.yaml").write_text(settings)
    code, _, err = await program.run("serve", **variables)
    assert code == 1
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 4
    for word in told:
        assert word in err


async def test_no_secret_and_no_body_is_in_the_log_the_arguments_or_a_file_of_others(
    program: Program, plane: FakeHostLinks, private: PrivateTmux, manifest: Callable[[str], Manifest]
) -> None:
    serving = await program.start(MOSAIC_DATABASE_URL="postgres://secretsecret", MOSAIC_HOSTAGENT_LOG_LEVEL="debug")
    link = await plane.link()
    state = desired(private, manifest, "a")
    state.seats[0].spec.env["API_KEY"] = "secretsecret"
    link.send(desired=state)
    await link.has("applied")
    link.send(
        dispatch=pb.Dispatch(
            message_id="01a1f98e-d80c-7532-a83a-3a646f472266",
            agent_id="agent-a",
            body="true # secretsecret",
            payload_digest="d",
            remaining_ms=20_000,
            sender="anna",
        )
    )
    await link.has("event", 4)
    arguments = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in arguments if "secretsecret" in line]
    for path in program.home.root.rglob("*"):
        assert path.is_dir() or path.is_symlink() or path.stat().st_mode & 0o077 == 0, path
    assert "secretsecret" not in private.tmux("show-environment", "-g")
    code, err = await program.end(serving)
    assert code == 0
    assert "secretsecret" not in err
    for line in err.splitlines():
        said = json.loads(line)
        assert re.fullmatch(r"[a-z0-9 :;,'-]+", said["event"]), said


async def test_a_host_agent_on_a_tmux_server_of_another_home_says_whose_it_is(
    program: Program, plane: FakeHostLinks, private: PrivateTmux, manifest: Callable[[str], Manifest], tmp_path: Path
) -> None:
    first = await program.start()
    link = await plane.link()
    link.send(desired=desired(private, manifest, "a"))
    await link.has("applied")
    async with joined(Home(tmp_path / "other"), plane, private) as other:
        await other.start()
        second = await plane.link(count=2)
        second.send(desired=desired(private, manifest, "z"))
        await second.has("applied")
        problems = [frame.seat.problem for frame in second.of("seat") if frame.seat.problem]
        assert any(f"pid {first.pid}" in problem for problem in problems)
        assert "z" not in private.tmux("list-sessions", "-F", "#{session_name}").split()
    assert first.returncode is None
