"""From a wanted seat to what tmux is asked to start: program, environment, working directory, contract on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.manifest import Manifest
from mosaic_framework.runtimes import installed, launch_vector
from pydantic import ValidationError

from mosaic_hostagent.environment import inheritable
from mosaic_hostagent.seats import Seat
from mosaic_hostagent.sessions import Sessions
from mosaic_hostagent.storage import write_state
from mosaic_hostagent.terminal.server import Launch

log = structlog.get_logger(__name__)


class RuntimeNotInstalled(FleetError):
    """The seat's program is not installed on this host."""

    code = "runtime-not-installed"


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
    """Return what to start, with a new run id and session; makes the working directory and writes the contract.

    Raises RuntimeNotInstalled, BadWorkingDirectory, LaunchImpossible or StateUnwritable.
    """
    spec = seat.spec
    around = inheritable(environment)
    folder = working_directory(spec.working_directory, home=Path(around.get("HOME") or Path.home()))
    program = "" if spec.command else _find_program(manifest, around)
    if spec.command:
        _check_command(spec.command[0], folder, {**around, **spec.env}.get("PATH", os.defpath))
    contract_file: Path | None = None
    if manifest.system_prompt is not None and manifest.system_prompt.kind == "file" and spec.contract:
        contract_file = state_folder / "contracts" / f"{seat.agent_id}.md"
        write_state(contract_file, spec.contract.encode())
    run_id = str(new_id())
    argv, env = launch_vector(
        manifest,
        program=program,
        model=spec.model,
        unattended=spec.unattended,
        args=list(spec.args),
        command=list(spec.command),
        env=dict(spec.env),
        contract=spec.contract,
        contract_file=contract_file,
        as_root=os.getuid() == 0,
        environment=around,
    )
    session, token = sessions.begin(run_id, agent_id=seat.agent_id)
    env |= sessions.session_environment(session, token, agent=seat.name)
    return Launch(
        agent_id=seat.agent_id,
        name=seat.name,
        run_id=run_id,
        generation=seat.generation,
        restart=seat.restart,
        launch_digest=seat.launch_digest,
        argv=argv,
        env=env,
        folder=folder,
        model=spec.model,
        reset=seat.reset,
    )


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


def _find_program(manifest: Manifest, environment: Mapping[str, str]) -> str:
    program = installed(manifest, environment)
    if program is None:
        raise RuntimeNotInstalled(
            f"{manifest.title} ({manifest.program}) is not installed on this host",
            next_step=manifest.install.command or f"install {manifest.program}",
        )
    return program


def _check_command(program: str, folder: Path, path: str) -> None:
    found = shutil.which(folder / program) if "/" in program else shutil.which(program, path=path)
    if found is None:
        raise RuntimeNotInstalled(
            f"the seat's command {program!r} is not a program on this host",
            next_step="install it, or correct `command` in the roster",
        )
