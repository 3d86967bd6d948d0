"""The embedded PostgreSQL as tests run it: fast, forgetful, and detached from the worker that starts it."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from pathlib import Path

from mosaic_controlplane.register.postgres_account import Account, account_for
from mosaic_controlplane.register.postgres_binaries import reachable_binaries
from mosaic_controlplane.register.postgres_cluster import Cluster
from mosaic_controlplane.register.postgres_leftover import clear_leftover

FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def account() -> Account:
    """Return who runs it: ourselves; as root `nobody`, so that a test run adds no user to the machine."""
    if os.getuid() != 0:
        return account_for(Path("/"))
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_name, nobody.pw_uid, nobody.pw_gid, switch=True)


def make(folder: Path, settings: dict[str, str] | None = None) -> Cluster:
    """Make a data directory in `folder`, which `account()` must be able to pass through."""
    owner = account()
    sockets = folder / "socket"
    sockets.mkdir(mode=0o700)
    if owner.switch:
        os.chown(sockets, owner.uid, owner.gid)
    cluster = Cluster(reachable_binaries(owner, folder), folder / "postgres", sockets, owner, settings or FAST)
    cluster.initialise(sync=False)
    return cluster


def start(cluster: Cluster) -> None:
    """Start the server and return when it is ready. It outlives this process."""
    _program, _option, _data, *options = cluster.command()
    log = cluster.sockets / "log"
    program = [str(cluster.binaries / "pg_ctl"), "start", "-w", "-D", str(cluster.data), "-l", str(log)]
    done = subprocess.run(
        [*program, "-o", shlex.join(options)],
        stdout=subprocess.DEVNULL,  # the server inherits it: a pipe would stay open for as long as it runs
        stderr=subprocess.DEVNULL,
        cwd=cluster.data,
        env=cluster.account.environment(),
        check=False,
        **cluster.account.identity(),
    )
    if done.returncode:
        raise RuntimeError(f"the tests' PostgreSQL did not start:\n{log.read_text() if log.exists() else ''}")


def stop(folder: Path) -> None:
    """Stop the server of `folder` if there is one."""
    clear_leftover(folder / "postgres")
