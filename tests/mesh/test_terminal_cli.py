"""`mosaic agent watch`, `attach` and `tail --follow` as a person meets them: on a real terminal, and in a pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mosaic_framework.paths import Home

from tests.support.mesh import Mesh
from tests.support.program import eventually
from tests.support.tmux import PrivateTmux, private_tmux
from tests.support.viewers import attached


@pytest.fixture
def desk() -> Iterator[PrivateTmux]:
    """The terminal a person sits at: a tmux session of its own."""
    with private_tmux() as private:
        yield private


@pytest.fixture
async def home(mesh: Mesh, tmp_path: Path) -> Path:
    """A home from which `mosaic` reaches a mesh with one shell seat, `worker`."""
    mesh.write_context(Home(tmp_path / "home"))
    await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    return tmp_path / "home"


class Desk:
    """`mosaic` in a terminal of 80x24; a shell takes over when it ends, as in life."""

    def __init__(self, private: PrivateTmux, home: Path) -> None:
        self._private = private
        self._mosaic = f"MOSAIC_HOME={home} {sys.executable} -m mosaic_cli.main"
        private.tmux("-f", os.devnull, "new-session", "-d", "-s", "desk", "-x", "80", "-y", "24", "sh")
        private.tmux("set-option", "-g", "remain-on-exit", "on")

    def run(self, command: str) -> None:
        self.type(f"{self._mosaic} {command}; echo ended-with-$?\r")

    def type(self, keys: str) -> None:
        self._private.tmux("send-keys", "-t", "=desk:", "-H", *(f"{byte:02x}" for byte in keys.encode()))

    def resize(self, columns: int, lines: int) -> None:
        self._private.tmux("resize-window", "-t", "=desk:", "-x", str(columns), "-y", str(lines))

    @property
    def screen(self) -> str:
        return self._private.tmux("capture-pane", "-p", "-t", "=desk:")

    @property
    def process(self) -> int:
        """The pid of the mosaic that runs."""
        shell = self._private.tmux("display-message", "-p", "-t", "=desk:", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    async def shows(self, text: str) -> None:
        try:
            await eventually(lambda: text in self.screen, text, seconds=20)
        except AssertionError:
            raise AssertionError(f"never shown: {text!r}\n{self.screen}") from None

    async def is_as_before(self, exit_code: int) -> None:
        """The program has ended, and the terminal echoes and gives whole lines again."""
        await self.shows(f"ended-with-{exit_code}")
        self.type("stty -a | tr ' ;' '\\n\\n' | grep -xc -e icanon -e echo\r")
        await self.shows("\n2\n")


async def test_a_person_watches_a_terminal_at_any_size_and_leaves_with_q(
    mesh: Mesh, home: Path, desk: PrivateTmux
) -> None:
    person = Desk(desk, home)
    person.run("agent watch worker")
    await person.shows("read-only, q leaves")
    await mesh.send("worker", "echo se''en")
    await person.shows("seen")
    assert "200x50 clipped to 80x23" in person.screen
    person.type("echo from-watcher\r")
    person.resize(60, 10)
    await person.shows("clipped to 60x9")
    async with attached(mesh.channel, "worker") as anna:
        await person.shows("anna drives it")
        await anna.screen.until(lambda seen: seen.leases, "the lease")
    assert "from-watcher" not in mesh.hosts["alpha"].screen("worker")
    person.type("q")
    await person.is_as_before(0)


async def test_a_watcher_is_told_of_a_lost_host_and_sees_on_when_it_is_back(
    mesh: Mesh, home: Path, desk: PrivateTmux
) -> None:
    person = Desk(desk, home)
    person.run("agent watch worker")
    await person.shows("read-only, q leaves")
    host = mesh.hosts["alpha"]
    host.program.kill()
    await person.shows("NOT CONNECTED")
    host.tmux("send-keys", "-t", "=worker:", "echo mean''while", "Enter")
    host.program.start()
    await person.shows("meanwhile")
    person.type("\x03")
    await person.is_as_before(0)


async def test_a_person_attaches_types_and_detaches_and_the_terminal_is_theirs_again(
    mesh: Mesh, home: Path, desk: PrivateTmux
) -> None:
    person = Desk(desk, home)
    person.run("agent attach worker")
    await person.shows("anna drives it")
    person.type("echo ty''pex\x7fd\r")
    await person.shows("typed")
    person.type("\x1d")
    await person.shows("detached from worker; it runs on")
    await person.is_as_before(0)


async def test_the_terminal_is_given_back_on_sigterm_on_a_lost_connection_and_to_who_lost_the_lease(
    mesh: Mesh, home: Path, desk: PrivateTmux
) -> None:
    person = Desk(desk, home)
    person.run("agent attach worker")
    await person.shows("anna drives it")
    os.kill(person.process, signal.SIGTERM)
    await person.is_as_before(128 + signal.SIGTERM)
    await mesh.until_agent("worker", lambda agent: not agent.driver)

    person.type("clear\r")
    person.run("agent attach worker")
    await person.shows("anna drives it")
    async with attached(mesh.channel, "worker", take=True) as other:
        await other.screen.until(lambda seen: seen.leases, "the lease")
        await person.shows("anna took it over")
        await person.is_as_before(6)

    person.type("clear\r")
    person.run("agent attach worker --take")
    await person.shows("anna drives it")
    mesh.controlplane.kill()
    await person.is_as_before(5)


async def test_a_followed_tail_gives_each_line_once_in_a_pipe_and_through_a_lost_connection(
    mesh: Mesh, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        tail = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mosaic_cli.main", "agent", "tail", "worker", "--follow", "-n", "500"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "MOSAIC_HOME": str(home)},
        )
    try:
        await mesh.until_step(await mesh.send("worker", "for i in $(seq 400); do echo line-$i; sleep 0.002; done"))
        await eventually(lambda: "line-400" in out.read_text(), "the last line", seconds=20)
        mesh.hosts["alpha"].program.kill()
        mesh.hosts["alpha"].tmux("send-keys", "-t", "=worker:", "echo line-4''01", "Enter")
        mesh.hosts["alpha"].program.start()
        await eventually(lambda: "line-401" in out.read_text(), "what came meanwhile", seconds=20)
    finally:
        tail.terminate()
        _, told = await tail.communicate()
    assert "the connection is lost" in told.decode()
    lines = [line for line in out.read_text().splitlines() if line.startswith("line-")]
    assert lines == [f"line-{number}" for number in range(1, 402)]


async def test_off_a_terminal_a_watch_prints_screens_as_text_or_json(mesh: Mesh, home: Path) -> None:
    for form, expected in (("table", "--- worker "), ("json", '"kind": "TerminalFrame"')):
        watch = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mosaic_cli.main", "agent", "watch", "worker", "-o", form),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "MOSAIC_HOME": str(home)},
        )
        assert watch.stdout is not None
        try:
            first = await asyncio.wait_for(watch.stdout.readline(), 20)
            assert expected in first.decode()
            assert b"\x1b" not in first
        finally:
            watch.kill()
            await watch.wait()
