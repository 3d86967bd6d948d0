"""`mosaic operator`, `mosaic tenant` and `mosaic audit` against a real control plane, as people type them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def run(tmp_path: Path, mesh: Mesh) -> Run:
    """Run `mosaic` in a home of its own; the home `admin` is logged in as the cluster's first operator."""

    def run(*arguments: str, stdin: str = "", home: str = "admin") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mosaic_cli.main", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "MOSAIC_HOME": str(tmp_path / home)},
            timeout=60,
        )

    from mosaic_framework.paths import Home

    (tmp_path / "admin").mkdir(mode=0o700)
    mesh.write_context(Home(tmp_path / "admin"))
    return run


def code_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_admin_lets_a_further_operator_in_with_a_role_and_takes_it_back(run: Run) -> None:
    code = code_of(run("operator", "token", "vera", "--role", "viewer"))
    assert run("login", code.strip(), home="vera").returncode == 2  # a secret is no argument
    assert run("login", stdin=code, home="vera").returncode == 0
    assert run("fleet", "ps", home="vera").returncode == 0
    refused = run("host", "token", "x", home="vera")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (4, 4)
    assert run("operator", "token", "eve", home="vera").returncode == 4
    assert run("audit", "ls", home="vera").returncode == 4
    assert run("operator", "role", "vera", "admin").returncode == 0
    listed = {item["name"]: item["role"] for item in json.loads(run("operator", "ls", "-o", "json").stdout)["items"]}
    assert listed["vera"] == "admin"
    assert run("login", stdin=code, home="another").returncode == 4  # a code works once


def test_a_code_is_bound_to_its_name_and_a_role_that_is_none_is_a_wrong_command_line(run: Run) -> None:
    assert run("operator", "token", "x", "--role", "king").returncode == 2
    assert run("operator", "token", "../x").returncode != 0
    unknown = run("operator", "role", "nobody-of-that-name", "viewer")
    assert (unknown.returncode, "mosaic operator ls" in unknown.stderr) == (3, True)


def test_the_last_admin_of_a_tenant_stays_one(run: Run) -> None:
    code = code_of(run("tenant", "create", "lonely", "--admin", "only"))
    assert run("login", "--name", "lonely", stdin=code, home="only").returncode == 0
    done = run("operator", "role", "only", "viewer", home="only")
    assert (done.returncode, "(last-admin)" in done.stderr) == (6, True)


def test_a_tenant_is_made_with_its_first_admin_and_removed_with_all_of_it(run: Run) -> None:
    again = run("tenant", "create", "acme", "--admin", "alma")
    assert again.returncode == 0
    code = code_of(run("tenant", "create", "acme", "--admin", "alma"))  # nobody has logged in: another code
    assert run("login", stdin=code, home="alma").returncode == 0
    assert run("context", "ls", "-o", "name", home="alma").stdout == "acme-127.0.0.1\n"
    taken = run("tenant", "create", "acme")
    assert (taken.returncode, "(conflict)" in taken.stderr) == (6, True)
    assert run("tenant", "ls", "-o", "name", home="alma").stdout == "acme\n"
    assert set(run("tenant", "ls", "-o", "name").stdout.split()) >= {"default", "acme"}
    for refused in (
        ("tenant", "create", "x"),
        ("tenant", "rm", "default", "--yes"),
        ("host", "ls", "--tenant", "default"),
    ):
        assert run(*refused, home="alma").returncode == 4, refused
    token = code_of(run("host", "token", "build1", home="alma"))
    assert run("host", "join", "--no-start", stdin=token, home="alma-host").returncode == 0
    assert run("host", "ls", "-o", "name", home="alma").stdout == "build1\n"
    assert "build1" not in run("host", "ls", "-o", "name").stdout
    looked = json.loads(run("tenant", "rm", "acme", "--dry-run", "-o", "json").stdout)
    assert (looked["removed"]["hosts"], looked["removed"]["operators"]) == (1, 1)
    unasked = run("tenant", "rm", "acme")
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    assert run("tenant", "rm", "acme", "--yes").returncode == 0
    assert run("tenant", "rm", "acme", "--yes").returncode == 3
    assert run("tenant", "rm", "default", "--yes").returncode != 0
    out = run("fleet", "ps", home="alma")
    assert (out.returncode, "(not-authenticated)" in out.stderr) == (4, True)
    removed = json.loads(run("audit", "ls", "--method", "TenantService/Remove", "-o", "json").stdout)["items"]
    assert [item["target"] for item in removed if item["outcome"] == "done"] == ["acme"]


def test_a_tenant_of_the_same_name_later_inherits_nothing(run: Run) -> None:
    code = code_of(run("tenant", "create", "phoenix", "--admin", "old"))
    assert run("login", "--name", "p", stdin=code, home="old").returncode == 0
    assert run("tenant", "rm", "phoenix", "--yes").returncode == 0
    code = code_of(run("tenant", "create", "phoenix", "--admin", "old"))
    assert run("login", "--name", "p", stdin=code, home="new").returncode == 0
    assert run("fleet", "ps", home="new").returncode == 0
    assert run("fleet", "ps", home="old").returncode == 4


def test_tenant_picks_the_login_of_that_tenant_and_without_one_it_is_refused(run: Run) -> None:
    code = code_of(run("tenant", "create", "second", "--admin", "sam"))
    refused = run("host", "ls", "--tenant", "second")
    assert (refused.returncode, "mosaic login" in refused.stderr) == (4, True)
    assert run("login", "--name", "there", stdin=code).returncode == 0
    assert run("context", "use", "test").returncode == 0
    shown = json.loads(run("operator", "ls", "--tenant", "second", "-o", "json").stdout)["items"]
    assert [item["name"] for item in shown] == ["sam"]
    assert "sam" not in run("operator", "ls", "-o", "name").stdout.split()


def test_the_audit_tells_who_from_where_what_and_how_it_ended_page_by_page(run: Run) -> None:
    for name in ("one", "two", "three"):
        code_of(run("host", "token", name))
    assert run("agent", "send", "nobody-here", "-m", "hello").returncode == 3
    rows = json.loads(run("audit", "ls", "--caller", "anna", "--since", "1h", "-o", "json").stdout)["items"]
    newest, *_ = rows
    assert (newest["method"], newest["target"], newest["outcome"]) == (
        "MessageService/Send",
        "nobody-here",
        "not-found",
    )
    assert (newest["caller"]["kind"], newest["caller"]["role"]) == ("operator", "admin")
    assert newest["caller"]["address"].startswith("127.0.0.1:")
    tokens = (
        "audit",
        "ls",
        "--method",
        "CreateToken",
        "--caller",
        "anna",
        "--outcome",
        "done",
        "--limit",
        "2",
        "-o",
        "json",
    )
    first = json.loads(run(*tokens).stdout)
    second = json.loads(run(*tokens, "--cursor", first["nextCursor"]).stdout)
    targets = [item["target"] for item in first["items"] + second["items"]]
    assert targets[:3] == ["three", "two", "one"]
    assert "hello" not in json.dumps(rows)
    failed = json.loads(run("audit", "ls", "--failed", "-o", "json").stdout)["items"]
    assert failed
    assert all(item["outcome"] != "done" for item in failed)
    assert json.loads(run("audit", "ls", "--until", "2020-01-01", "-o", "json").stdout)["items"] == []
    for wrong in (("--since", "yesterday"), ("--failed", "--outcome", "done")):
        assert run("audit", "ls", *wrong).returncode == 2
    assert run("audit", "ls", "--cursor", "rubbish").returncode == 1
