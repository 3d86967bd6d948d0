"""PostgreSQL's own tools for a backup: which of those on this machine fit a server, and how they are run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from mosaic_framework.errors import FleetError

from mosaic_controlplane.register.postgres_account import EmbeddedDatabaseFailed
from mosaic_controlplane.register.postgres_binaries import wheel_binaries

NEEDED = ("pg_dump", "pg_restore")
_INSTALLED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
"""Where Debian, the RPM packages and Homebrew keep the programs of several releases side by side."""
_SETS_UNKNOWN_VALUES = 17
"""From this release on pg_restore sets `transaction_timeout` first, which an older server refuses."""


class ToolsMissing(FleetError):
    """This machine has no pg_dump and pg_restore that fit the register's server."""

    code = "postgres-tools-missing"


class ToolFails(FleetError):
    """One of PostgreSQL's tools did not do its work."""

    code = "postgres-tool-fails"


@dataclass(frozen=True, slots=True)
class Tools:
    """pg_dump and pg_restore of one release, in `folder`."""

    folder: Path
    major: int


def fitting(found: Iterable[Tools], server: int) -> Tools | None:
    """Return the tools for a server of that major version: its own release's, else the nearest newer one's.

    A newer release's archive goes back only into servers that know what its pg_restore sets.
    """
    usable = [
        tools for tools in found if tools.major == server or (tools.major > server and server >= _SETS_UNKNOWN_VALUES)
    ]
    return min(usable, key=lambda tools: tools.major, default=None)


def tools_for(server: int) -> Tools:
    """Return the tools on this machine that fit a server of that major version. Raises ToolsMissing."""
    found = list(_installed())
    tools = fitting(found, server)
    if tools is None:
        there = ", ".join(str(one.major) for one in found) or "none"
        raise ToolsMissing(
            f"there is no pg_dump and pg_restore here for PostgreSQL {server}",
            why=f"found: {there}; they must be of the server's own release",
            next_step=f"sudo apt-get install postgresql-client-{server}",
        )
    return tools


def _installed() -> Iterable[Tools]:
    folders = [match for pattern in _INSTALLED for match in sorted(Path("/").glob(pattern[1:]))]
    if (on_path := shutil.which("pg_dump")) is not None:
        folders.append(Path(on_path).parent)
    with contextlib.suppress(EmbeddedDatabaseFailed):  # an environment that carries none has an external register
        folders.append(wheel_binaries())
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in NEEDED) and (major := _major(folder / "pg_dump")):
            yield Tools(folder, major)


def _major(program: Path) -> int | None:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else None


def without_password(url: str) -> tuple[str, str]:
    """Return `url` without its password, and the password: an argument can be read by everybody on the machine."""
    parts = urlsplit(url)
    account, at, place = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    named = [value for key, value in query if key == "password"]
    rest = urlencode([(key, value) for key, value in query if key != "password"], quote_via=quote, safe="/")
    bare = f"{parts.scheme}://{user}{at}{place}{parts.path}" + (f"?{rest}" if rest else "")
    return bare, named[0] if named else unquote(password)


async def run_tool(tools: Tools, name: str, arguments: Sequence[str], *, url: str) -> str:
    """Run a tool on the database of `url` to its end, and return what it printed. Raises ToolFails."""
    bare, password = without_password(url)
    environment = {**os.environ, "LC_ALL": "C", "PGAPPNAME": "mosaic-controlplane"}
    if password:
        environment["PGPASSWORD"] = password
    process = await asyncio.create_subprocess_exec(
        str(tools.folder / name),
        *arguments,
        f"--dbname={bare}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        out, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode:
        lines = [line for line in complaint.decode(errors="replace").splitlines() if "error:" in line]
        raise ToolFails(
            f"{name} ended with {process.returncode}",
            why=(lines[0].partition("error:")[2].strip() if lines else "it gave no reason")[:500],
            next_step="mosaic doctor",
        )
    return out.decode(errors="replace")
