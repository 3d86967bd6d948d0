"""`mosaic operator`, `mosaic tenant` and `mosaic audit` against a real control plane, as people type them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mosaic_framework.paths import Home

from tests.support.cli import Done, Mosaic
from tests.support.mesh import Mesh
from tests.support.postgres import Databases

Run = Callable[..., Done]


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
def run(mosaic: Mosaic, tmp_path: Path, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `mosaic` in a home of its own; the home `admin` is logged in as the cluster's first operator."""
    (tmp_path / "admin").mkdir(mode=0o700)
    mesh.write_context(Home(tmp_path / "admin"))

    def run(*arguments: str, stdin: str = "", home: str = "admin") -> Done:
        monkeypatch.setenv("MOSAIC_HOME", str(tmp_path / home))
        return mosaic(*arguments, stdin=stdin)

    return run


def code_of(done: Done) -> str:
    assert done.code == 0, done.err
    return done.out


def test_an_admin_lets_a_further_operator_in_with_a_role_and_takes_it_back(run: Run) -> None:
    code = code_of(run("operator", "token", "vera", "--role", "viewer"))
    assert run("login", code.strip(), home="vera").code == 2  # a secret is no argument
    assert run("login", stdin=code, home="vera").code == 0
    assert run("fleet", "ps", home="vera").code == 0
    refused = run("host", "token", "x", home="vera")
    assert (refused.code, len(refused.err.splitlines())) == (4, 4)
    assert run("operator", "token", "eve", home="vera").code == 4
    assert run("audit", "ls", home="vera").code == 4
    assert run("operator", "role", "vera", "admin").code == 0
    listed = {item["name"]: item["role"] for item in json.loads(run("operator", "ls", "-o", "json").out)["items"]}
    assert listed["vera"] == "admin"
    assert run("login", stdin=code, home="another").code == 4  # a code works once


def test_a_code_is_bound_to_its_name_and_a_role_that_is_none_is_a_wrong_command_line(run: Run) -> None:
    assert run("operator", "token", "x", "--role", "king").code == 2
    assert run("operator", "token", "../x").code != 0
    unknown = run("operator", "role", "nobody-of-that-name", "viewer")
    assert (unknown.code, "mosaic operator ls" in unknown.err) == (3, True)


def test_the_last_admin_of_a_tenant_stays_one(run: Run) -> None:
    code = code_of(run("tenant", "create", "lonely", "--admin", "only"))
    assert run("login", "--name", "lonely", stdin=code, home="only").code == 0
    done = run("operator", "role", "only", "viewer", home="only")
    assert (done.code, "(last-admin)" in done.err) == (6, True)
    done = run("identity", "revoke", "operator/only", "--yes", home="only")
    assert (done.code, "(last-admin)" in done.err) == (6, True)
    done = run("operator", "token", "only", "--role", "viewer", home="only")
    assert (done.code, "(last-admin)" in done.err) == (6, True), "whoever logged in with it would be none any more"
    assert run("operator", "ls", home="only").code == 0


@pytest.mark.parametrize("time", ["0s", "1s", "31d", "99999999999d"])
def test_a_time_after_which_no_host_can_be_lost_is_refused(run: Run, time: str) -> None:
    done = run("host", "policy", "--lost-after", time)
    assert (done.code, "out of range" in done.err) == (1, True), done


def test_a_tenant_is_made_with_its_first_admin_and_removed_with_all_of_it(run: Run) -> None:
    again = run("tenant", "create", "acme", "--admin", "alma")
    assert again.code == 0
    code = code_of(run("tenant", "create", "acme", "--admin", "alma"))  # nobody has logged in: another code
    assert run("login", stdin=code, home="alma").code == 0
    assert run("context", "ls", "-o", "name", home="alma").out == "acme-127.0.0.1\n"
    taken = run("tenant", "create", "acme")
    assert (taken.code, "(conflict)" in taken.err) == (6, True)
    assert run("tenant", "ls", "-o", "name", home="alma").out == "acme\n"
    assert set(run("tenant", "ls", "-o", "name").out.split()) >= {"default", "acme"}
    for refused in (
        ("tenant", "create", "x"),
        ("tenant", "rm", "default", "--yes"),
        ("host", "ls", "--tenant", "default"),
    ):
        assert run(*refused, home="alma").code == 4, refused
    token = code_of(run("host", "token", "build1", home="alma"))
    assert run("host", "join", "--no-start", stdin=token, home="alma-host").code == 0
    assert run("host", "ls", "-o", "name", home="alma").out == "build1\n"
    assert "build1" not in run("host", "ls", "-o", "name").out
    looked = json.loads(run("tenant", "rm", "acme", "--dry-run", "-o", "json").out)
    assert (looked["removed"]["hosts"], looked["removed"]["operators"]) == (1, 1)
    unasked = run("tenant", "rm", "acme")
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    assert run("tenant", "rm", "acme", "--yes").code == 0
    assert run("tenant", "rm", "acme", "--yes").code == 3
    assert run("tenant", "rm", "default", "--yes").code != 0
    out = run("fleet", "ps", home="alma")
    assert (out.code, "(not-authenticated)" in out.err) == (4, True)
    removed = json.loads(run("audit", "ls", "--method", "TenantService/Remove", "-o", "json").out)["items"]
    assert [item["target"] for item in removed if item["outcome"] == "done"] == ["acme"]


def test_a_tenant_of_the_same_name_later_inherits_nothing(run: Run) -> None:
    code = code_of(run("tenant", "create", "phoenix", "--admin", "old"))
    assert run("login", "--name", "p", stdin=code, home="old").code == 0
    assert run("tenant", "rm", "phoenix", "--yes").code == 0
    code = code_of(run("tenant", "create", "phoenix", "--admin", "old"))
    assert run("login", "--name", "p", stdin=code, home="new").code == 0
    assert run("fleet", "ps", home="new").code == 0
    assert run("fleet", "ps", home="old").code == 4


def test_tenant_picks_the_login_of_that_tenant_and_without_one_it_is_refused(run: Run) -> None:
    code = code_of(run("tenant", "create", "second", "--admin", "sam"))
    refused = run("host", "ls", "--tenant", "second")
    assert (refused.code, "mosaic login" in refused.err) == (4, True)
    assert run("login", "--name", "there", stdin=code).code == 0
    assert run("context", "use", "test").code == 0
    shown = json.loads(run("operator", "ls", "--tenant", "second", "-o", "json").out)["items"]
    assert [item["name"] for item in shown] == ["sam"]
    assert "sam" not in run("operator", "ls", "-o", "name").out.split()


def test_the_audit_tells_who_from_where_what_and_how_it_ended_page_by_page(run: Run) -> None:
    for name in ("one", "two", "three"):
        code_of(run("host", "token", name))
    assert run("agent", "send", "nobody-here", "-m", "hello").code == 3
    rows = json.loads(run("audit", "ls", "--caller", "anna", "--since", "1h", "-o", "json").out)["items"]
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
    first = json.loads(run(*tokens).out)
    second = json.loads(run(*tokens, "--cursor", first["nextCursor"]).out)
    targets = [item["target"] for item in first["items"] + second["items"]]
    assert targets[:3] == ["three", "two", "one"]
    assert "hello" not in json.dumps(rows)
    failed = json.loads(run("audit", "ls", "--failed", "-o", "json").out)["items"]
    assert failed
    assert all(item["outcome"] != "done" for item in failed)
    assert json.loads(run("audit", "ls", "--until", "2020-01-01", "-o", "json").out)["items"] == []
    for wrong in (("--since", "yesterday"), ("--failed", "--outcome", "done")):
        assert run("audit", "ls", *wrong).code == 2
    assert run("audit", "ls", "--cursor", "rubbish").code == 1
