"""One PostgreSQL data directory, made whole or not at all, and the command of its server."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from mosaic_controlplane.register.postgres_account import Account, EmbeddedDatabaseFailed
from mosaic_controlplane.register.postgres_binaries import MAJOR
from mosaic_controlplane.register.postgres_leftover import end_at_once, processes_of

SUPERUSER = "postgres"
ROLE = "mosaic"  # owns the register's database, and may do nothing else: injected SQL runs no programs
DATABASE = "mosaic"
SOCKET_NAME = ".s.PGSQL.5432"
_DISK_FULL = ("No space left on device", "wrote only")  # as PostgreSQL tells of it, whole or short writes
SOCKET_PATH_LIMIT = 103  # bytes of sun_path on macOS; Linux has 107

_BOOTSTRAP = f"create role {ROLE} login;\ncreate database {DATABASE} owner {ROLE};\n"
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "lc_messages": "C",  # "ready to accept connections" is read from the log
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a ",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a server's programs, data and socket are, who runs it, and settings on top of ours.

    `data`'s parent belongs to us and holds who may connect (`*_hba.conf`, `*_ident.conf`), which the server reads only.
    """

    binaries: Path
    data: Path
    sockets: Path
    account: Account
    settings: Mapping[str, str] = field(default_factory=dict)

    def url(self, *, role: str = ROLE, database: str = DATABASE) -> str:
        """Return the URL of `database` for `role`. There is no password: the socket tells who asks."""
        return f"postgresql:///{database}?host={quote(str(self.sockets), safe='/')}&port=5432&user={role}"

    def command(self) -> list[str]:
        """Return the server's argument vector. No secret is in it."""
        settings = {
            **_SETTINGS,
            "unix_socket_directories": f'"{self.sockets}"',
            "hba_file": str(self._hba),
            "ident_file": str(self._ident),
            **self.settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data), *options]

    def initialise(self, *, sync: bool = True) -> bool:
        """Make the data directory with role and database unless it is there, and return whether it was made.

        A kill at any moment leaves no half of one. `sync=False` is for tests: no fsync. Raises EmbeddedDatabaseFailed.
        """
        _check_socket_path(self.sockets)
        try:
            self._write_access()
            if (self.data / "PG_VERSION").exists():
                self._check_version()
                return False
            self._make(sync=sync)
        except OSError as error:
            raise EmbeddedDatabaseFailed(
                f"the database in {self.data} cannot be made", why=str(error), next_step=f"df -h {self.data.parent}"
            ) from error
        return True

    @property
    def _hba(self) -> Path:
        return self.data.parent / f"{self.data.name}_hba.conf"

    @property
    def _ident(self) -> Path:
        return self.data.parent / f"{self.data.name}_ident.conf"

    def _write_access(self) -> None:
        """Let this process's Unix user, and nobody else, be one of the two roles."""
        me = pwd.getpwuid(os.geteuid()).pw_name
        roles = "".join(f'{ROLE} "{me}" {role}\n' for role in (SUPERUSER, ROLE))
        for path, content in ((self._hba, f"local all all peer map={ROLE}\n"), (self._ident, roles)):
            if path.exists() and path.read_text() == content:
                continue
            staging = path.with_suffix(".new")
            staging.write_text(content)
            staging.chmod(0o644)
            staging.replace(path)

    def _make(self, *, sync: bool) -> None:
        if self.data.exists() and any(self.data.iterdir()):
            raise EmbeddedDatabaseFailed(
                f"{self.data} is not empty, and is no database",
                why="there is no PG_VERSION in it",
                next_step=f"move it away: mv {self.data} {self.data}.old",
            )
        staging = self.data.with_name(f".{self.data.name}.new")
        if staging.exists():  # of a run that was killed
            end_at_once(processes_of(staging))
            shutil.rmtree(staging)
        try:  # a stop may come from here on: nothing half made is left behind
            staging.mkdir(mode=0o700)
            if self.account.switch:
                os.chown(staging, self.account.uid, self.account.gid)
            self._initdb(staging, sync=sync)
            # Single-user mode: the roles are there before the first server is.
            program = [
                str(self.binaries / "postgres"),
                "--single",
                "-D",
                str(staging),
                "-c",
                "log_min_messages=warning",
            ]
            if not sync:
                program += ["-c", "fsync=off"]
            self._tool([*program, SUPERUSER], input=_BOOTSTRAP, cwd=staging)
            staging.rename(self.data)
        except BaseException:
            end_at_once(processes_of(staging))  # initdb's own children outlive it for a moment, and go on writing
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _sync_folder(self.data.parent)

    def _initdb(self, data: Path, *, sync: bool) -> None:
        # The built-in C.UTF-8 sorts alike on every system and with every libc: no index is ever corrupted by an update.
        encoding = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        access = [f"--username={SUPERUSER}", "--auth=peer", "--data-checksums", "--no-instructions"]
        command = [str(self.binaries / "initdb"), "-D", str(data), *encoding, *access]
        self._tool(command if sync else [*command, "--no-sync"], cwd=data)

    def _tool(self, command: Sequence[str], *, cwd: Path, input: str | None = None) -> None:  # noqa: A002 - subprocess's
        done = self.account.run(command, cwd=cwd, input=input)
        # Single-user mode goes on after an error and ends with 0.
        complaint = failure_line(done.stderr)
        if done.returncode or complaint:
            raise EmbeddedDatabaseFailed(
                f"the database in {self.data} cannot be made",
                why=complaint or f"{Path(command[0]).name} ended with {done.returncode}",
                next_step=f"df -h {self.data.parent}" if is_disk_full(complaint) else "",
            )

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(MAJOR):
            raise EmbeddedDatabaseFailed(
                f"the data in {self.data} was made by PostgreSQL {found}",
                why=f"this release carries PostgreSQL {MAJOR}, which cannot read it",
                next_step="dump it with the release that made it, or name its server in MOSAIC_DATABASE_URL",
            )


def failure_line(log: str) -> str:
    """Return the line of PostgreSQL's `log` that says best why it failed, without its prefix, or ''.

    A full disk is named whatever came of it; else the last error counts.
    """
    complaints = []
    for line in log.splitlines():
        for mark in ("PANIC:", "FATAL:", "ERROR:", "initdb: error:"):
            if mark in line:
                complaints.append(line.split(mark, 1)[1].strip())
                break
    full = [complaint for complaint in complaints if is_disk_full(complaint)]
    return (full or complaints or [""])[-1]


def is_disk_full(complaint: str) -> bool:
    """Return whether a line of the log tells of a full disk."""
    return any(words in complaint for words in _DISK_FULL)


def _check_socket_path(sockets: Path) -> None:
    if len(os.fsencode(sockets / SOCKET_NAME)) > SOCKET_PATH_LIMIT:
        raise EmbeddedDatabaseFailed(
            f"the path of the database's socket is too long: {sockets}",
            why=f"a socket's path holds {SOCKET_PATH_LIMIT} bytes",
            next_step="set XDG_RUNTIME_DIR or TMPDIR to a folder with a shorter path",
        )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
