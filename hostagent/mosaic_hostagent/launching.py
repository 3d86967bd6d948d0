"""From a wanted seat to what is to be started: program, environment, working directory, and its files on disk."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.launch import Circumstances, Wish, check_passable, launch_vector, session_files
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home, private_folder
from mosaic_framework.programs import Found, RuntimeNotInstalled
from mosaic_framework.seat_environment import find_for_seat, read_env_file
from mosaic_framework.seeding import compose
from mosaic_framework.user_files import settle
from pydantic import ValidationError

from mosaic_hostagent.environment import inheritable
from mosaic_hostagent.seats import Seat
from mosaic_hostagent.sessions import PaneSession, Sessions
from mosaic_hostagent.signal_setup import signal_setup, with_settings
from mosaic_hostagent.storage import StateUnwritable, write_state
from mosaic_hostagent.terminal.server import Launch

SEED_FILE = "seed.md"
SEED_VARIABLE = "MOSAIC_SEED_FILE"
"""Where any program, also one that the roster names by `command`, finds what its seat boots with."""

log = structlog.get_logger(__name__)


class BadWorkingDirectory(FleetError):
    """The seat's working directory cannot be used."""

    code = "bad-working-directory"


class BadManifest(FleetError):
    """The seat's runtime manifest is not valid here."""

    code = "bad-manifest"
    hint = "update mosaic on this host, or apply the roster again"


def read_manifest(seat: Seat) -> Manifest:
    """Return the manifest that came with the seat. Raises BadManifest."""
    try:
        return Manifest.from_json(seat.spec.manifest_json)
    except ValidationError as error:
        raise BadManifest(why=str(error.errors(include_url=False, include_input=False)[0]["msg"])) from error


def prepare(
    seat: Seat,
    manifest: Manifest,
    *,
    state_folder: Path,
    environment: Mapping[str, str],
    sessions: Sessions,
) -> Launch:
    """Return what to start, with a new run id and session; makes the working directory, writes the session's files.

    `state_folder`: `$MOSAIC_HOME/state`. Raises RuntimeNotInstalled, BadWorkingDirectory, LaunchImpossible,
    EnvFileInvalid, EnvFileUnusable, UserFileUnusable or StateUnwritable.
    """
    spec = seat.spec
    home = Home(state_folder.parent)
    around = inheritable(environment)
    own = read_env_file(home, seat.name)
    site = own.site if own is not None else {}
    signals = signal_setup(manifest, state_folder=state_folder)
    wish = Wish(
        model=spec.model,
        unattended=spec.unattended,
        args=[*signals.args, *spec.args],
        command=list(spec.command),
        env={**({} if spec.command else signals.env), **spec.env, **site},
    )
    whole = {**around, **wish.env}
    user_home = Path(whole.get("HOME") or Path.home())
    folder = working_directory(spec.working_directory, home=user_home)
    found = (
        _find_command(spec.command[0], folder, whole)
        if spec.command
        else find_for_seat(home, seat.name, manifest, whole)
    )
    run_id = str(new_id())
    place = Circumstances(
        folder=folder.resolve(),
        session=sessions.folder / run_id,
        as_root=os.getuid() == 0,
        at_home=folder.resolve() == user_home.resolve(),
    )
    seed = compose(spec, seat.briefing, manifest).text
    seed_file = place.session / SEED_FILE if seed else None
    argv, env = launch_vector(manifest, wish, place, program=found.program, seed=seed, seed_file=seed_file)
    if seed_file is not None:
        env[SEED_VARIABLE] = str(seed_file)
    env["PATH"] = _with_mosaic(found.path(whole.get("PATH", os.defpath)), state_folder)
    check_passable(argv, env)
    if spec.unattended and not spec.command:
        for file in manifest.unattended.user_files:
            if settle(home, file, place, whole):
                log.info("questions of a program are settled in a file of the user's", file=file.file, agent=seat.name)
    session, token = sessions.begin(run_id, agent_id=seat.agent_id)
    env |= sessions.session_environment(session, token, agent=seat.name)
    try:
        if seed_file is not None:
            write_state(seed_file, seed.encode())
        for name, content in with_settings(session_files(manifest, wish, place), signals).items():
            write_state(place.session / name, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())
    except StateUnwritable:
        sessions.end(run_id)
        raise
    return Launch(
        agent_id=seat.agent_id,
        name=seat.name,
        run_id=run_id,
        generation=seat.generation,
        restart=seat.restart,
        launch_digest=seat.launch_digest,
        argv=_past_tmux(argv, env),
        env=env,
        folder=folder,
        restarts=not seat.on_demand,
        model=_in_a_row(spec.model),
        reset=seat.reset,
    )


def refresh_seed(seat: Seat, manifest: Manifest, session: PaneSession) -> None:
    """Write what a seat is told now, peers and all, where its program may read it anew. Raises StateUnwritable."""
    file = session.folder / SEED_FILE
    if file.exists():
        write_state(file, compose(seat.spec, seat.briefing, manifest).text.encode())


def _with_mosaic(path: str, state_folder: Path) -> str:
    """Return a PATH that has a `mosaic`: agents are told to run it, and a service's PATH seldom leads to ours.

    Ours is put behind all else, alone in a folder: what else stands beside it (a Python) is none of an agent's.
    """
    if shutil.which("mosaic", path=path) is not None:
        return path
    ours = Path(sys.executable).parent / "mosaic"
    link = state_folder / "bin" / "mosaic"
    if not ours.exists():
        return path
    if not link.is_symlink() or link.readlink() != ours:
        try:
            private_folder(link.parent)
            link.unlink(missing_ok=True)
            link.symlink_to(ours)
        except OSError as error:
            raise StateUnwritable(f"{link} cannot be written", why=str(error.strerror or error)) from error
    return f"{path}{os.pathsep}{link.parent}" if path else str(link.parent)


def _in_a_row(text: str) -> str:
    """Return `text` as it may stand in a row that tmux lists: a tab or line end there would hide the session."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _past_tmux(argv: list[str], env: dict[str, str]) -> list[str]:
    """Return a vector that sets for itself what tmux replaces: SHELL always, PATH when a client made the session."""
    names = [name for name in ("SHELL", "PATH") if name in env]
    if not names:
        return argv
    exports = "; ".join(f"{name}=${number}; export {name}" for number, name in enumerate(names, start=1))
    return ["sh", "-c", f'{exports}; shift {len(names)}; exec "$@"', "sh", *(env.pop(name) for name in names), *argv]


def working_directory(text: str, *, home: Path) -> Path:
    """Return the folder that `text` names, made when it is missing below `home`. Raises BadWorkingDirectory."""
    folder = home if text in ("", "~") else home / text[2:] if text.startswith("~/") else Path(text)
    if not folder.is_absolute():
        raise BadWorkingDirectory(f"working directory {text!r} has no place", why="it must begin with '/' or '~/'")
    folder = Path(os.path.normpath(folder))
    if not folder.exists():
        if not folder.is_relative_to(home):
            raise BadWorkingDirectory(
                f"working directory {folder} is not there", next_step=f"make it on this host: mkdir -p {folder}"
            )
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise BadWorkingDirectory(f"working directory {folder} cannot be made", why=str(error.strerror)) from error
        log.info("working directory made", folder=str(folder))
    if not folder.is_dir() or not os.access(folder, os.X_OK):
        raise BadWorkingDirectory(f"working directory {folder} is no folder that can be entered")
    return folder


def _find_command(program: str, folder: Path, environment: Mapping[str, str]) -> Found:
    path = environment.get("PATH", os.defpath)
    if (shutil.which(folder / program) if "/" in program else shutil.which(program, path=path)) is None:
        raise RuntimeNotInstalled(
            f"the seat's command {program!r} is not a program on this host",
            next_step="install it, or correct `command` in the roster",
        )
    return Found(program)
