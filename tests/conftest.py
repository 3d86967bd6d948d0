"""Fixtures that every kind of test shares: a real PostgreSQL, and a fresh database a test."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from hypothesis import settings
from mosaic_controlplane.register.database import Database

from tests.support import children, forked, run_folder
from tests.support.postgres import Databases, Server, shared_databases

# How long an example takes is the machine's affair: no time is asserted in tests.
settings.register_profile("mosaic", deadline=None)
settings.load_profile("mosaic")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to a job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    children.watch()
    forked.allow()
    if not hasattr(config, "workerinput"):  # else a worker of xdist: its parent has made the folder
        run_folder.make()


def pytest_unconfigure(config: pytest.Config) -> None:
    forked.close()
    if not hasattr(config, "workerinput"):
        run_folder.remove()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """Blame the test that left a child process behind, and not the one in which it is collected."""
    yield
    if left := children.take_left_behind():
        pytest.fail("child processes were left before their end was seen: " + "; ".join(left))


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with shared_databases(run_folder.current()) as databases:
        yield databases


@pytest.fixture(scope="session")
def postgres_server(databases: Databases) -> Server:
    """The run's server. `admin_url` is a superuser's; tests of the register use `database_url` or `database`."""
    return databases.server


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """The URL of a fresh, migrated database, for the control plane's own role."""
    url = databases.create()
    yield url
    databases.drop(url)


@pytest.fixture
def unmigrated_database_url(databases: Databases) -> Iterator[str]:
    """The URL of a fresh database with nothing in it."""
    url = databases.create(migrated=False)
    yield url
    databases.drop(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated register."""
    database = await Database.connect(database_url)
    yield database
    await database.close()
