"""A private tmux world, a journal and seats for the host-agent's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_framework.runtimes import read_manifest
from mosaic_hostagent.clock import Clock
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.seats import ServerKey
from mosaic_hostagent.terminal.server import Launch, TmuxServer
from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.fakes.host_link import FakeHostLinks
from tests.support.hostagent import HOLDER, World
from tests.support.linked import Running
from tests.support.standins import command_of, manifest_of
from tests.support.tmux import PrivateTmux, private_tmux
from tests.support.typist import Open, Typist


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateTmux]:
    with private_tmux() as private:
        for name in ("XDG_RUNTIME_DIR", "TMUX_TMPDIR", "HOME"):
            monkeypatch.setenv(name, private.environment[name])
        monkeypatch.delenv("TMUX", raising=False)
        yield private


@pytest.fixture
async def server(private: PrivateTmux) -> AsyncIterator[TmuxServer]:
    server = TmuxServer(ServerKey(private.socket_name, HOLDER), home="aaaaaaaa", environment=private.environment)
    yield server
    await server.close()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", Clock())
    yield journal
    await journal.close()


@pytest.fixture(scope="session")
def manifest() -> Callable[[str], Manifest]:
    catalog = Catalog.open()
    return lambda name: read_manifest(catalog, name)


@pytest.fixture
async def world(
    private: PrivateTmux, journal: Journal, tmp_path: Path, manifest: Callable[[str], Manifest]
) -> AsyncIterator[World]:
    """A supervisor, its eyes and its mailroom, on a tmux of its own; no link."""
    world = World(private, journal, tmp_path / "state", manifest)
    yield world
    await world.close()


@pytest.fixture
async def plane(tmp_path: Path, private: PrivateTmux) -> AsyncIterator[FakeHostLinks]:
    plane = FakeHostLinks(tmp_path)
    await plane.start()
    yield plane
    await plane.stop()


@pytest.fixture
async def host(tmp_path: Path, plane: FakeHostLinks, private: PrivateTmux) -> AsyncIterator[Running]:
    home = Home(tmp_path / "home")
    plane.write_identity(home.pki / "host")
    running = Running(home, private)
    yield running
    await running.stop()


@pytest.fixture
def seat(private: PrivateTmux, manifest: Callable[[str], Manifest]) -> Callable[..., pb.DesiredSeat]:
    def make(name: str, *, generation: int = 1, running: bool = True) -> pb.DesiredSeat:
        spec = fleet_pb2.SeatSpec(
            name=name,
            working_directory="~",
            tmux_socket_name=private.socket_name,
            tmux_holder_session=HOLDER,
            manifest_json=manifest("shell").as_json(),
        )
        return pb.DesiredSeat(agent_id=f"agent-{name}", generation=generation, running=running, spec=spec)

    return make


@pytest.fixture
def typist(server: TmuxServer, manifest: Callable[[str], Manifest], tmp_path: Path) -> Open:
    async def open_(*argv: str, made_for: Manifest | None = None) -> Typist:
        launch = Launch("a1", "x", "r-x", 1, 0, "d", argv, {"PS1": "$ "}, tmp_path)
        session = await server.start(launch)
        made = Typist(server, session, made_for or manifest("shell"), tmp_path / "transcript")
        await made.ready()
        return made

    return open_


@pytest.fixture
def shell(typist: Open) -> Callable[[], Awaitable[Typist]]:
    return lambda: typist("bash", "--norc", "--noprofile")


@pytest.fixture
def agent(typist: Open, tmp_path: Path) -> Callable[..., Awaitable[Typist]]:
    def open_(standin: str = "echoes-at-once", **behaviour: object) -> Awaitable[Typist]:
        argv = command_of(standin, tmp_path / "transcript", **behaviour)
        return typist(*argv, made_for=manifest_of(standin))

    return open_
