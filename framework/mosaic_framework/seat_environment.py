"""A seat's env file on this host: read for a launch, and given the program that was found."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.env_files import SIZE_LIMIT, EnvFile, new_env_file, parse_env_file
from mosaic_framework.errors import FleetError, InvalidInput
from mosaic_framework.manifest import Manifest
from mosaic_framework.names import check_name
from mosaic_framework.paths import Home, private_folder, write_private
from mosaic_framework.programs import Found, RuntimeNotInstalled, find_program
from mosaic_framework.roster_write import replace_file

RUNTIME = "MOSAIC_SEAT_RUNTIME"
PROGRAM = "MOSAIC_SEAT_PROGRAM"
PATH = "MOSAIC_SEAT_PATH"


class EnvFileUnusable(FleetError):
    """The agent's env file cannot be read or written."""

    code = "env-file-unusable"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one seat: its program, or why there is none (`problem`, in words)."""

    name: str
    runtime: str
    program: str = ""
    problem: str = ""


def env_file_path(home: Home, name: str) -> Path:
    """Return where the env file of an agent lies. Raises InvalidInput for a name that no agent can have."""
    check_name(name, what="agent")
    return home.fleet / "agents" / f"{name}.env"


def read_env_file(home: Home, name: str) -> EnvFile | None:
    """Return the env file of an agent, or None when there is none. Raises EnvFileInvalid or EnvFileUnusable."""
    path = env_file_path(home, name)
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                os.fchmod(file.fileno(), 0o600)  # keys are kept in such files
            content = file.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvFileUnusable(f"{path} cannot be read", why=error.strerror or str(error)) from error
    if len(content) > SIZE_LIMIT:
        raise EnvFileUnusable(f"{path} is too large", why=f"an env file has at most {SIZE_LIMIT:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EnvFileUnusable(f"{path} is not text in UTF-8", why=f"at byte {error.start}") from error
    return parse_env_file(text.replace("\r\n", "\n"), source=str(path))


def find_for_seat(
    home: Home, name: str, manifest: Manifest, environment: Mapping[str, str], *, anew: bool = False
) -> Found:
    """Return a seat's program: the one in its env file while it is there, else found and written there.

    `environment`: what it will be launched in. `anew`: look again in any case. Raises RuntimeNotInstalled, and what
    reading and writing the env file raises.
    """
    file = read_env_file(home, name)
    recorded = file.generated if file is not None else {}
    known = "" if anew or recorded.get(RUNTIME) != manifest.name else recorded.get(PROGRAM, "")
    found = find_program(manifest, environment, known=known)
    generated = {RUNTIME: manifest.name, PROGRAM: found.program}
    if found.folders:
        generated[PATH] = ":".join(found.folders)
    if recorded != generated:
        write_env_file(home, name, (file or new_env_file(name)).refreshed(generated))
    return found


def record_programs(
    home: Home, seats: Iterable[tuple[str, Manifest]], environment: Mapping[str, str]
) -> list[Recorded]:
    """Look for the program of every seat (name, manifest) anew, and write it into the seats' env files.

    For installing units: whoever runs this has the PATH that a service has not. A seat whose program is missing, or
    whose env file cannot be used, is told as a problem and stops no other.
    """
    done = []
    for name, manifest in seats:
        try:
            found = find_for_seat(home, name, manifest, environment, anew=True)
            done.append(Recorded(name, manifest.name, found.program))
        except (RuntimeNotInstalled, InvalidInput, EnvFileUnusable) as error:
            told = ": ".join(part for part in (error.what, error.why) if part)
            done.append(
                Recorded(name, manifest.name, problem=f"{told}; {error.next_step}" if error.next_step else told)
            )
    return done


def write_env_file(home: Home, name: str, file: EnvFile) -> None:
    """Replace the env file of an agent, 0600; where a link leads, that is replaced. Raises EnvFileUnusable."""
    path = env_file_path(home, name)
    try:
        private_folder(path.parent)
        if path.is_symlink():
            replace_file(path.resolve(), file.text.encode())
        else:
            write_private(path, file.text.encode())
    except OSError as error:
        raise EnvFileUnusable(f"{path} cannot be written", why=error.strerror or str(error)) from error


def forget_env_file(home: Home, name: str) -> bool:
    """Remove the env file of a seat that is gone, unless the site wrote something into it; say whether it is gone."""
    file = read_env_file(home, name)
    if file is None:
        return True
    begun = {line.text for line in new_env_file(name).lines}
    if file.site or any(line.text.strip() and not line.name and line.text not in begun for line in file.lines):
        return False
    env_file_path(home, name).unlink(missing_ok=True)
    return True
