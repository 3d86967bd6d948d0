"""Which Unix account runs the embedded PostgreSQL (it refuses root), and how a program is started as it."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from mosaic_framework.errors import FleetError

log = structlog.get_logger(__name__)

SYSTEM_USER = "mosaic-postgres"
FALLBACK_USER = "nobody"


class EmbeddedDatabaseFailed(FleetError):
    """The embedded PostgreSQL cannot run."""

    code = "embedded-database-failed"


@dataclass(frozen=True, slots=True)
class Account:
    """A Unix account. `switch`: this process is root and must become it before it runs PostgreSQL."""

    name: str
    uid: int
    gid: int
    switch: bool

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `command` to its end as this account, output captured as text. Exit codes are the caller's to judge."""
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=self.environment(),
            **{**self.identity(), **options},
        )

    def identity(self) -> dict[str, Any]:
        """Return the arguments of subprocess that make a child this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def environment(self) -> dict[str, str]:
        """Return all that PostgreSQL needs of an environment. Ours stays here: it may hold secrets and PG* settings."""
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LANG": "C"}


def account_for(data: Path, system_user: str = SYSTEM_USER) -> Account:
    """Return the account that runs the server of `data`: ourselves, or, as root, one that is not root.

    As root: whoever owns existing data, else `system_user`, made when missing, else `nobody`.
    """
    uid = os.geteuid()
    if uid != 0:
        return _known(uid, switch=False)
    try:
        owner = data.stat().st_uid
    except FileNotFoundError:
        return _system_user(system_user)
    if owner == 0:
        raise EmbeddedDatabaseFailed(
            f"{data} belongs to root", why="PostgreSQL does not run as root", next_step=f"look at it: ls -ld {data}"
        )
    return _known(owner, switch=True)


def _known(uid: int, *, switch: bool) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedDatabaseFailed(
            f"the user id {uid} has no name on this machine",
            why="PostgreSQL looks up who runs it",
            next_step="add the user to /etc/passwd, or name a database in MOSAIC_DATABASE_URL",
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch)


def _system_user(name: str) -> Account:
    try:
        return _named(name)
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        made = subprocess.run([*command, "--user-group", name], capture_output=True, text=True, check=False)
        reason = made.stderr.strip()
    except OSError as error:  # no useradd: macOS, small containers
        reason = str(error)
    try:
        return _named(name)  # also when another process made it just now
    except KeyError:
        log.warning("system user not made", user=name, instead=FALLBACK_USER, reason=reason)
    try:
        return _named(FALLBACK_USER)
    except KeyError:
        raise EmbeddedDatabaseFailed(
            f"there is no user {name!r} to run PostgreSQL, and it cannot be made",
            why=reason,
            next_step=f"useradd --system {name}",
        ) from None


def _named(name: str) -> Account:
    entry = pwd.getpwnam(name)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)
