"""`mosaic doctor` beside a living control plane: clocks, versions, proxies, and a machine that is only a host."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest
from mosaic_framework import __version__, health
from mosaic_framework.errors import NotFound, Unreachable
from mosaic_framework.paths import Home

from tests.support.doctor import doctor
from tests.support.mesh import Mesh, running_mesh
from tests.support.peers import write_peer
from tests.support.postgres import Databases
from tests.support.program import eventually


class Site:
    """A mesh with one host, looked at from outside."""

    def __init__(self, mesh: Mesh, runner: asyncio.Runner, home: Path) -> None:
        self.mesh, self.home = mesh, home
        self._runner = runner

    def register(self, query: str) -> None:
        self._runner.run(self.mesh.register_value(query))

    def ask(self, wanted: Coroutine[None, None, str]) -> str:
        return self._runner.run(wanted)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        self._runner.run(eventually(condition, what))

    def is_ready(self, name: str) -> bool:
        try:
            return health.ask(Home(self.mesh.hosts[name].program.home), "hostagent").ready
        except (NotFound, Unreachable):
            return False

    def begin_again(self) -> None:
        self.mesh.controlplane.start()
        self._runner.run(self.mesh.serving())


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = databases.create()
    home = tmp_path_factory.mktemp("doctor")
    home.chmod(0o700)
    with asyncio.Runner() as runner:
        lent = running_mesh(url)
        mesh = runner.run(lent.__aenter__())
        try:
            runner.run(mesh.join("alpha"))
            mesh.write_context(Home(home))
            yield Site(mesh, runner, home)
        finally:
            runner.run(lent.__aexit__(None, None, None))
            databases.drop(url)


def test_a_machine_whose_clock_and_versions_agree_is_well(site: Site) -> None:
    found = doctor(site.home)
    for check in ("cluster", "clock", "versions", "certificates", "addresses"):
        assert found.levels(check) == {"well"}, found.document
    assert (found.code, found.document["unchecked"]) == (0, 0)


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [(630, "wrong", "10m ahead of"), (-630, "wrong", "10m behind"), (20, "note", "ahead of"), (-20, "note", "behind")],
)
def test_a_clock_that_is_off_is_told_by_how_much_and_which_way(site: Site, seconds: int, level: str, said: str) -> None:
    # Of the doctor alone: gRPC counts its deadlines by the clock too, and must not see it jump in midst of a call.
    shifted = (
        "import time, types, mosaic_cli.doctor.cluster as looking\n"
        f"looking.time = types.SimpleNamespace(time=lambda: time.time() + {seconds})\n"
    )
    examined = doctor(site.home, before=shifted)
    found = examined.bad("clock")
    assert (found["level"], said in found["text"]) == (level, True), examined.document
    assert any(command in found["repair"] for command in ("timedatectl", "chronyc", "sntp"))
    assert examined.code == (level == "wrong")


@pytest.mark.parametrize(
    ("offset", "said", "cluster"),
    [
        ("-2d", "at least 1d behind the control plane's", "is not valid yet by this machine's clock"),
        ("+3d", "at least 2d ahead of the control plane's", "has expired"),
    ],
)
def test_a_clock_so_far_off_that_no_certificate_holds_is_told_as_such(
    site: Site, offset: str, said: str, cluster: str
) -> None:
    examined = doctor(site.home, inside=("faketime", "-f", offset))
    found = [one for one in examined.of("clock") if "the control plane's" in one["text"]]
    assert [(one["level"], said in one["text"]) for one in found] == [("wrong", True)], examined.document
    told = examined.bad("cluster")
    assert cluster in told["text"]
    assert told["repair"] == found[0]["repair"], "what sets the clock, and not a new login"


def test_a_program_of_another_version_than_the_control_plane_is_told(site: Site) -> None:
    found = doctor(site.home, before="import mosaic_framework\nmosaic_framework.__version__ = '99.0'\n").bad("versions")
    assert found["text"] == f"this program is 99.0, the control plane {__version__}"
    assert found["repair"].startswith("mosaic update")


@pytest.mark.parametrize(
    ("broken", "mended", "level", "said", "repair"),
    [
        (
            "update fleet.host set version = '0.0.9' returning 1",
            f"update fleet.host set version = '{__version__}' returning 1",
            "note",
            "1 of 1 host-agents run 0.0.9",
            "there: mosaic update",
        ),
        (
            "insert into fleet.migration (version, name, checksum) values (9999, 'later', '') returning 1",
            "delete from fleet.migration where version = 9999 returning 1",
            "wrong",
            "the register has migration 9999",
            "update that control plane: mosaic update",
        ),
        (
            "insert into fleet.replica (replica_id, address, version)"
            " values ('00000000-0000-7000-8000-000000000001', '127.0.0.1:1', '98.0') returning 1",
            "delete from fleet.replica where version = '98.0' returning 1",
            "note",
            "replicas run",
            "finish the upgrade",
        ),
    ],
    ids=["host-agent", "register", "replica"],
)
def test_what_is_of_another_version_is_told(
    site: Site, broken: str, mended: str, level: str, said: str, repair: str
) -> None:
    site.register(broken)
    try:
        found = doctor(site.home).bad("versions")
    finally:
        site.register(mended)
    assert (found["level"], said in found["text"], repair in found["repair"]) == (level, True, True), found
    assert doctor(site.home).levels("versions") == {"well"}


def test_no_call_goes_through_a_proxy_that_the_environment_names(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        found = doctor(site.home, environment={"grpc_proxy": address, "https_proxy": address, "http_proxy": address})
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert found.levels("cluster") == {"well"}
    assert "go around it" in found.bad("proxies")["text"]


def test_a_peer_that_fell_silent_is_told(site: Site) -> None:
    assert doctor(site.home).levels("peers") == set()
    peer_id = site.ask(write_peer(site.mesh, "south"))
    site.register(
        "update fleet.peer_feed set bookmark_at = now() - interval '3 minutes'"
        f" where peer_id = '{peer_id}' returning tenant_id"
    )
    try:
        found = doctor(site.home)
        assert "cluster south is STALE 3m" in found.bad("peers")["text"]
    finally:
        site.register(f"delete from fleet.peer where peer_id = '{peer_id}' returning tenant_id")


def test_a_machine_that_is_only_a_host_asks_as_that_host(site: Site) -> None:
    host = site.mesh.hosts["alpha"]
    found = doctor(host.program.home, environment=host.environment)
    assert found.of("cluster")[0]["text"].endswith("as alpha")
    (service,) = found.of("services")
    assert (service["level"], service["text"].startswith("hostagent: kept by neither")) == ("well", True)
    assert found.levels("clock") == found.levels("versions") == {"well"}


def test_folders_of_sockets_that_stand_open_are_told_and_closed_at_the_host_agents_next_start(site: Site) -> None:
    host = site.mesh.hosts["alpha"]
    tmux = Path(host.environment["TMUX_TMPDIR"]) / f"tmux-{os.getuid()}"
    (ours,) = (Path(host.environment["XDG_RUNTIME_DIR"]) / "mosaic").glob("[!.]*")
    tmux.mkdir(mode=0o700, exist_ok=True)
    for folder in (ours, tmux):
        folder.chmod(0o775)
    told = [item["text"] for item in doctor(host.program.home, environment=host.environment).of("sockets")]
    assert told == [f"others can enter {folder} (mode 775), and type into panes" for folder in (ours, tmux)]
    host.program.stop()
    host.program.start()
    site.until(lambda: site.is_ready("alpha"), "it is linked again")
    assert [oct(folder.stat().st_mode & 0o777) for folder in (ours, tmux)] == ["0o700", "0o700"]
    assert doctor(host.program.home, environment=host.environment).levels("sockets") == {"well"}


def test_a_host_agent_that_runs_and_does_nothing_is_told_and_the_repair_wakes_it(site: Site) -> None:
    host = site.mesh.hosts["alpha"]
    home = Home(host.program.home)
    assert doctor(home.root, environment=host.environment).levels("health") == {"well"}
    pid = json.loads(health.address_file(home, "hostagent").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        found = doctor(home.root, environment=host.environment)
        assert found.code == 1
        assert f"(process {pid}) is stopped by a signal" in found.bad("health")["text"]
        assert found.bad("health")["repair"] == f"kill -CONT {pid}"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert doctor(home.root, environment=host.environment).levels("health") == {"well"}


def test_a_host_agent_without_its_link_is_told(site: Site) -> None:
    host = site.mesh.hosts["alpha"]
    site.mesh.controlplane.kill()
    try:
        found = doctor(host.program.home, environment=host.environment).bad("health")
    finally:
        site.begin_again()
    assert (found["level"], "there is no link" in found["text"]) == ("wrong", True)
