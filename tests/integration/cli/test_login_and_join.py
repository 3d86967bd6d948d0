"""`mosaic login` and `mosaic host token|join` against a real control plane."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mosaic_framework.paths import Home

from tests.support.mesh import Mesh
from tests.support.postgres import Databases

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Mesh]:
    """One control plane for all these tests: each uses names of its own."""
    url = databases.create()
    mesh = Mesh(tmp_path_factory.mktemp("controlplane"), url)
    asyncio.run(mesh.start())
    yield mesh
    mesh.controlplane.stop()
    databases.drop(url)


def operator_token(mesh: Mesh, name: str, *more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mosaic_controlplane.main", "operator-token", "--name", name, *more],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **mesh.controlplane.environment, "MOSAIC_HOME": str(mesh.controlplane.home)},
    )
    return done.stdout


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `mosaic` in a home of its own, apart from the control plane's."""

    def run(*arguments: str, stdin: str = "", home: str = "mine") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mosaic_cli.main", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "MOSAIC_HOME": str(tmp_path / home)},
            timeout=60,
        )

    return run


def test_a_token_on_standard_input_logs_in_and_makes_the_context_current(mesh: Mesh, run: Run) -> None:
    done = run("login", "--name", "work", stdin=operator_token(mesh, "bert"))
    assert done.returncode == 0, done.stderr
    assert run("context", "ls", "-o", "name").stdout == "work\n"
    assert "bert" in run("context", "show").stdout
    assert run("fleet", "ps").returncode == 0


def test_a_token_is_taken_from_a_file_and_never_from_an_argument(mesh: Mesh, run: Run, tmp_path: Path) -> None:
    token = operator_token(mesh, "bert")
    for command in (("login",), ("host", "join")):
        refused = run(*command, token.strip())
        assert refused.returncode == 2
        assert token.strip().rpartition(".")[2] not in refused.stderr, "and it is not repeated where others may read it"
        assert "--token-file" in refused.stderr
    (tmp_path / "token").write_text(token)
    assert run("login", "--token-file", str(tmp_path / "token")).returncode == 0


def test_a_spent_token_ends_with_4(mesh: Mesh, run: Run) -> None:
    token = operator_token(mesh, "bert")
    assert run("login", stdin=token).returncode == 0
    done = run("login", stdin=token, home="another")
    assert done.returncode == 4
    assert "(token-spent)" in done.stderr
    assert len(done.stderr.splitlines()) <= 4


def test_an_expired_token_ends_with_4(mesh: Mesh, run: Run) -> None:
    token = operator_token(mesh, "bert", "--ttl", "1")
    time.sleep(1.2)
    done = run("login", stdin=token)
    assert done.returncode == 4
    assert "(token-expired)" in done.stderr


@pytest.mark.parametrize("rubbish", ["hello", "mosaic1.abc.def", "\x00\xff"])
def test_rubbish_is_no_token_and_ends_with_4(mesh: Mesh, run: Run, rubbish: str) -> None:
    done = run("login", stdin=rubbish)
    assert done.returncode == 4
    assert "(token-invalid)" in done.stderr


def test_no_token_at_all_is_a_wrong_command_line(run: Run) -> None:
    assert run("login", stdin="").returncode == 2


def test_a_machine_joins_with_the_token_that_was_made_for_it(mesh: Mesh, run: Run, tmp_path: Path) -> None:
    run("login", stdin=operator_token(mesh, "bert"))
    token = run("host", "token", "build2").stdout
    done = run("host", "join", "--no-start", stdin=token, home="build2")
    assert done.returncode == 0, done.stderr
    assert (Home(tmp_path / "build2").pki / "host" / "identity.json").stat().st_mode & 0o077 == 0
    assert "build2" in run("host", "ls", "-o", "name").stdout.split()


def test_a_token_for_another_host_ends_with_4_and_stays_good(mesh: Mesh, run: Run) -> None:
    run("login", stdin=operator_token(mesh, "bert"))
    token = run("host", "token", "build5").stdout
    done = run("host", "join", "--no-start", "--name", "build3", stdin=token, home="build3")
    assert done.returncode == 4
    assert "(token-wrong-name)" in done.stderr
    assert run("host", "join", "--no-start", stdin=token, home="build5").returncode == 0


def test_an_operators_token_does_not_make_a_host(mesh: Mesh, run: Run) -> None:
    done = run("host", "join", "--no-start", stdin=operator_token(mesh, "bert"))
    assert done.returncode == 4
    assert "next:  mosaic login" in done.stderr


def test_a_machine_that_is_a_host_already_is_not_taken_over_by_accident(mesh: Mesh, run: Run) -> None:
    run("login", stdin=operator_token(mesh, "bert"))
    run("host", "join", "--no-start", stdin=run("host", "token", "build6").stdout, home="x")
    token = run("host", "token", "build4").stdout
    done = run("host", "join", "--no-start", stdin=token, home="x")
    assert done.returncode == 6
    assert "--replace" in done.stderr
    assert run("host", "join", "--no-start", "--replace", stdin=token, home="x").returncode == 0


def test_a_viewer_may_look_and_not_touch(mesh: Mesh, run: Run) -> None:
    run("login", stdin=operator_token(mesh, "vera", "--role", "viewer"))
    assert run("fleet", "ps").returncode == 0
    done = run("host", "token", "build2")
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) <= 4
