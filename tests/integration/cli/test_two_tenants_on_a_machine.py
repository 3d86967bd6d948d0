"""Two tenants on one machine, each a Unix user: the same names twice, and no way into the other's terminals."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from mosaic_framework.paths import Home

from tests.support.cli import Done, Mosaic
from tests.support.leftovers import end_processes_of
from tests.support.mesh import Mesh
from tests.support.other_user import as_user, missing
from tests.support.postgres import Databases
from tests.support.program import eventually

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.timeout(180)]

ROSTER = """\
version: 1
transport: tmux
tmux: {socket_name: fleet}
agents:
  - {name: coder, runtime: shell, host: box, working_directory: /}
"""


class User:
    """One Unix user of the machine, with a home, a runtime folder, and the machine's one place for tmux sockets."""

    def __init__(self, machine: Path, uid: int) -> None:
        self.uid, self.folder = uid, machine / str(uid)
        for folder in (self.folder, self.folder / "run"):
            folder.mkdir(mode=0o700)
            os.chown(folder, uid, uid)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "TMUX_TMPDIR": str(machine),
        }

    def run(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*as_user(self.uid), *argv],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=self.environment,
            timeout=90,
        )

    def mosaic(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "mosaic_cli.main", *arguments, stdin=stdin)


@pytest.fixture
def users() -> Iterator[tuple[User, User]]:
    machine = Path(tempfile.mkdtemp(prefix="box-", dir="/tmp"))  # short: a socket's path holds 108 bytes
    machine.chmod(0o1777)
    made = User(machine, 64_101), User(machine, 64_102)
    try:
        yield made
    finally:
        for user in made:
            user.mosaic("down", "--yes")
            end_processes_of(user.folder)
        shutil.rmtree(machine, ignore_errors=True)


@pytest.fixture
def mesh(tmp_path: Path, databases: Databases) -> Iterator[Mesh]:
    url = databases.create()
    mesh = Mesh(tmp_path, url)
    asyncio.run(mesh.start())
    yield mesh
    mesh.controlplane.stop()
    databases.drop(url)


@pytest.fixture
def run(mosaic: Mosaic, tmp_path: Path, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run `mosaic` as an operator: `anna` of the first tenant, or `alma` of the other."""
    (tmp_path / "anna").mkdir(mode=0o700)
    mesh.write_context(Home(tmp_path / "anna"))

    def run(who: str, *arguments: str, stdin: str = "") -> Done:
        monkeypatch.setenv("MOSAIC_HOME", str(tmp_path / who))
        done = mosaic(*arguments, stdin=stdin)
        assert done.code == 0, done.err
        return done

    run("alma", "login", stdin=run("anna", "tenant", "create", "acme", "--admin", "alma").out)
    return run


def test_two_tenants_share_a_machine_and_nothing_else(
    run: Callable[..., Done], users: tuple[User, User], tmp_path: Path
) -> None:
    roster = tmp_path / "roster.yaml"
    roster.write_text(ROSTER)
    pids = {}
    for who, user in zip(("anna", "alma"), users, strict=True):
        joined = user.mosaic("host", "join", stdin=run(who, "host", "token", "box").out)
        assert joined.returncode == 0, joined.stderr
        run(who, "fleet", "apply", "--roster", str(roster))
        (agent,) = run(who, "agent", "ls", "-o", "json").json["items"]
        assert (agent["host"], agent["name"]) == ("box", "coder")
        pids[who] = agent["pid"]
        assert set(psutil.Process(agent["pid"]).uids()) == {user.uid}
        run(who, "agent", "send", "coder", "-m", 'id -u > "$HOME/told"')
    assert pids["anna"] != pids["alma"]

    first, second = users
    for mine, theirs in ((first, second), (second, first)):
        for path in ("", "run", ".config/mosaic"):
            assert mine.run("ls", str(theirs.folder / path)).returncode != 0
        socket = theirs.folder.parent / f"tmux-{theirs.uid}" / "fleet"
        assert socket.exists()
        refused = mine.run("tmux", "-S", str(socket), "send-keys", "-t", "coder", "touch /tmp/never", "Enter")
        assert "Permission denied" in refused.stderr
        (panes,) = (theirs.folder / "run" / "mosaic").rglob("agent.sock")
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect({str(panes)!r})"
        assert "PermissionError" in mine.run(sys.executable, "-c", connect).stderr
    for user in users:
        told = user.folder / "told"
        asyncio.run(eventually(lambda told=told: told.exists() and told.read_text() != "", "it is carried out"))
        assert told.read_text() == f"{user.uid}\n"
