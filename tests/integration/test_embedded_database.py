"""The embedded PostgreSQL survives what happens to processes and folders, and says clearly what it cannot do."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from mosaic_controlplane.register.embedded import EmbeddedPostgres
from mosaic_controlplane.register.postgres_binaries import reachable_binaries
from mosaic_controlplane.register.postgres_leftover import processes_of
from mosaic_framework.paths import Home

from tests.support import fast_postgres
from tests.support.embedded import EmbeddedHome

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only as root does the server have a user of its own")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedHome]:
    # Not tmp_path: it is closed to the server's user, and too long for a socket.
    with tempfile.TemporaryDirectory(prefix="mosaic-db-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield EmbeddedHome(Path(folder))


async def query(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_first_run_makes_a_database_for_a_role_that_is_no_superuser(home: EmbeddedHome) -> None:
    with home.run() as run:
        url = run.ready()["url"]
        assert await query(url, "select rolsuper from pg_roles where rolname = current_user") is False
        assert await query(url, "select pg_get_userbyid(datdba) from pg_database where datname = 'mosaic'") == "mosaic"
        assert await query(url, "show data_checksums") == "on"
        assert await query(url, "show server_encoding") == "UTF8"
        assert await query(url, "show fsync") == "on"
        assert await query(url, "show listen_addresses") == ""
        assert run.stop() == 0


async def test_what_was_committed_is_there_after_a_restart(home: EmbeddedHome) -> None:
    with home.run() as run:
        await query(run.ready()["url"], "create table kept as select 7 as seven")
        assert run.stop() == 0
    with home.run() as run:
        assert await query(run.ready()["url"], "select seven from kept") == 7
        assert run.stop() == 0


def test_a_stop_leaves_no_process_and_no_word_of_a_running_server(home: EmbeddedHome) -> None:
    with home.run() as run:
        said = run.ready()
        told = home.path / "run" / "database.json"
        assert stat.S_IMODE(told.stat().st_mode) == 0o600
        assert said["pid"] == run.process.pid
        assert psutil.pid_exists(said["postmaster_pid"])
        assert run.stop() == 0
    assert not told.exists()
    assert processes_of(home.data) == []


def test_a_second_start_for_one_home_is_refused_and_names_the_first(home: EmbeddedHome) -> None:
    with home.run() as first:
        first.ready()
        with home.run() as second:
            assert second.end() == 1
        assert "database-already-running" in second.log
        assert str(first.process.pid) in second.log
        assert first.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_server_stops_in_order_when_its_runner_is_killed(home: EmbeddedHome) -> None:
    with home.run() as run:
        postmaster = psutil.Process(run.ready()["postmaster_pid"])
        run.process.kill()
        postmaster.wait(timeout=20)
    assert not (home.data / "postmaster.pid").exists()  # only a stop in order removes it


async def test_a_server_that_lost_its_runner_is_stopped_and_its_data_served_by_the_next_run(home: EmbeddedHome) -> None:
    home.path.mkdir()
    cluster = EmbeddedPostgres(Home(home.path), shared=home.shared, user=home.user).prepare()
    fast_postgres.start(cluster)
    left = processes_of(cluster.data)
    await query(cluster.url(), "create table kept as select 7 as seven")
    with home.run() as run:
        said = run.ready()
        assert "leftover database server stopped" in run.log
        assert not set(left) & set(processes_of(cluster.data))
        assert await query(said["url"], "select seven from kept") == 7
        assert run.stop() == 0


async def test_a_stale_pid_file_that_names_a_living_stranger_does_not_stop_the_next_start(home: EmbeddedHome) -> None:
    with home.run() as run:
        said = run.ready()
        await query(said["url"], "create table kept as select 7 as seven")
        pid_file = home.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        psutil.Process(said["postmaster_pid"]).kill()  # as a machine's crash: nothing is cleaned up
        assert run.end() == 1
        assert "the database server ended by itself" in run.log
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with home.run() as run:
        assert await query(run.ready()["url"], "select seven from kept") == 7
        assert run.stop() == 0
    assert psutil.pid_exists(os.getpid())


def test_a_stop_while_the_data_is_being_made_leaves_no_half_of_it(home: EmbeddedHome) -> None:
    with home.run() as run:
        staging = f".{home.data.name}.new"
        while not list(home.folder.rglob(staging)):  # a folder that appears has no event to wait for
            assert run.process.poll() is None
        run.process.kill()
    with home.run() as run:
        run.ready()
        assert run.stop() == 0
    assert list(home.folder.rglob(staging)) == []


def test_sigterm_before_there_is_a_server_is_a_stop_in_order(home: EmbeddedHome) -> None:
    with home.run() as run:
        while not list(home.folder.rglob(".postgres.new")):
            assert run.process.poll() is None
        assert run.stop() == 0
    assert list(home.folder.rglob(".postgres.new")) == []


def test_data_of_another_major_version_is_refused_and_left_alone(home: EmbeddedHome) -> None:
    with home.run() as run:
        run.ready()
        assert run.stop() == 0
    (home.data / "PG_VERSION").write_text("14\n")
    with home.run() as run:
        assert run.end() == 1
    assert "was made by PostgreSQL 14" in run.log
    assert "Traceback" not in run.log


def test_a_folder_that_is_no_database_is_refused_and_left_alone(home: EmbeddedHome) -> None:
    with home.run() as run:
        run.ready()
        assert run.stop() == 0
    (home.data / "PG_VERSION").unlink()
    with home.run() as run:
        assert run.end() == 1
    assert "is not empty, and is no database" in run.log
    assert (home.data / "base").is_dir()


@as_root
def test_a_home_made_anew_never_meets_the_data_of_the_one_thrown_away(home: EmbeddedHome) -> None:
    with home.run() as run:
        run.ready()
        first = home.data
        run.stop()
    shutil.rmtree(home.path)
    with home.run() as run:
        run.ready()
        assert str(first.parent) in run.log  # what is kept is told
        assert home.data != first
        assert run.stop() == 0
    assert (first / "PG_VERSION").exists()


@as_root
def test_the_servers_own_user_may_not_log_in(home: EmbeddedHome) -> None:
    with home.run() as run:
        url = run.ready()["url"]
        account = fast_postgres.account()
        psql = reachable_binaries(account, home.shared) / "psql"
        done = account.run([str(psql), url, "-c", "select 1"], cwd="/")
        assert done.returncode != 0
        assert "Peer authentication failed" in done.stderr
        assert run.stop() == 0


@as_root
def test_a_folder_closed_to_the_servers_user_is_an_error_that_says_so(home: EmbeddedHome) -> None:
    home.folder.chmod(0o700)
    with home.run() as run:
        assert run.end() == 1
    assert "Permission denied" in run.log
    assert "Traceback" not in run.log


def test_an_interrupt_from_the_keyboard_is_a_stop_in_order(home: EmbeddedHome) -> None:
    with home.run() as run:
        run.ready()
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 0


def test_a_home_that_cannot_be_written_is_an_error_that_names_the_place(home: EmbeddedHome) -> None:
    home.path.mkdir()
    (home.path / "run").write_text("a file where a folder should be")
    with home.run() as run:
        assert run.end() == 1
    assert f"the database of {home.path} cannot run" in run.log
    assert "Traceback" not in run.log
