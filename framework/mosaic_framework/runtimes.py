"""Runtimes: which manifests there are, how a seat's program is launched, and whether it is installed here.

A launch is always an argument vector and an environment, never a line for a shell.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mosaic_framework.catalog import Catalog
from mosaic_framework.document import read_tree, validate
from mosaic_framework.errors import FleetError, InvalidInput
from mosaic_framework.manifest import Manifest
from mosaic_framework.marked import DocumentInvalid, Problems

SUFFIX = ".yaml"
# Where programs of this kind are put and a service's PATH does not look; "*" stands for a version, newest first.
USUAL_PLACES = (
    "~/.local/bin",
    "~/.npm-global/bin",
    "~/.nvm/versions/node/*/bin",
    "~/.pyenv/shims",
    "~/.volta/bin",
    "~/.bun/bin",
    "~/.opencode/bin",
    "~/.claude/local",
    "/opt/homebrew/bin",
    "/usr/local/bin",
)
VERSION_TIMEOUT_SECONDS = 20
# Linux takes no longer single argument or variable (MAX_ARG_STRLEN).
ARGUMENT_LIMIT = 128 * 1024


class ManifestInvalid(DocumentInvalid):
    """The runtime manifest is not valid."""

    code = "manifest-invalid"


class LaunchImpossible(InvalidInput):
    """This seat cannot be launched as it is described."""

    code = "launch-impossible"


class VersionUnknown(FleetError):
    """The program did not say which version it is."""

    code = "version-unknown"


def known_runtimes(catalog: Catalog) -> list[str]:
    """Return the names of the runtimes that have a manifest, shipped or the user's own, sorted."""
    return list(catalog.files("runtimes", SUFFIX))


def read_manifest(catalog: Catalog, name: str) -> Manifest:
    """Return the manifest of a runtime. Raises NotFound with the nearest names, or ManifestInvalid."""
    file = catalog.get("runtimes", name, SUFFIX)
    return parse_manifest(file.read(), source=str(file.path) if file.own else file.path.name, name=name)


def parse_manifest(text: str, *, source: str, name: str) -> Manifest:
    """Return the manifest that `text` holds, of the runtime `name`. Raises ManifestInvalid."""
    problems = Problems(source)
    tree = read_tree(text, problems)
    manifest = validate(tree, Manifest, problems) if tree is not None else None
    if manifest is None or tree is None:
        raise ManifestInvalid(source, problems.sorted(), noun="runtime manifest")
    if manifest.name != name:
        problems.add(tree.at, f"must be the file's name, {name}", key="name")
        raise ManifestInvalid(source, problems.sorted(), noun="runtime manifest")
    return manifest


def launch_vector(
    manifest: Manifest,
    *,
    program: str = "",
    model: str = "",
    unattended: bool = False,
    args: Sequence[str] = (),
    command: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    contract: str = "",
    contract_file: Path | None = None,
    as_root: bool = False,
    environment: Mapping[str, str] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Return the argument vector that starts a seat, and what its environment has beside the host-agent's.

    `program`: where `installed` found it; else the manifest's own name for it. `command` replaces program and
    arguments, so that neither model, contract nor the unattended flag is passed. `contract_file` holds `contract`, for
    a runtime that reads it from a file. `env` wins over the manifest's. `environment` is the host-agent's (default:
    this process's), read for PATH and the user's shell. Raises LaunchImpossible.
    """
    around = os.environ if environment is None else environment
    extra = {**manifest.env}
    if command:
        vector = list(command)
    else:
        program = program or preferred_program(manifest, around)
        vector = [program, *manifest.args]
        if model:
            vector += [argument.replace("{model}", model) for argument in manifest.model_args]
        if unattended:
            vector += manifest.unattended.args
            extra |= manifest.unattended.env
            if as_root:
                extra |= manifest.unattended.env_as_root
        if contract:
            prompt_args, prompt_env = _contract_arguments(manifest, contract, contract_file)
            vector += prompt_args
            extra |= prompt_env
        vector += args
        extra |= path_with(Path(program), around.get("PATH", os.defpath))
    extra |= env or {}
    _check_passable(vector, extra)
    return vector, extra


def preferred_program(manifest: Manifest, environment: Mapping[str, str]) -> str:
    """Return the program to start: what the manifest's variable ($SHELL) names, where it is one the manifest knows."""
    if manifest.program_from is not None:
        named = environment.get(manifest.program_from, "")
        if named.startswith("/") and Path(named).name in manifest.programs and _is_program(Path(named)):
            return named
    return manifest.program


def installed(manifest: Manifest, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the absolute path of the runtime's program, by PATH and then the usual places, or None."""
    around = os.environ if environment is None else environment
    program = preferred_program(manifest, around)
    found = shutil.which(program, path=around.get("PATH", os.defpath))
    if found is not None:
        return str(Path(found).absolute())
    if "/" in program:
        return None
    folders = (folder for place in USUAL_PLACES for folder in _expand(place, around))
    return next((str(folder / program) for folder in folders if _is_program(folder / program)), None)


def read_version(manifest: Manifest, program: str) -> str:
    """Ask the installed `program` for its version and return it ("2.1.329"). Raises VersionUnknown."""
    command = [program, *manifest.version.args]
    env = {**os.environ, **path_with(Path(program), os.environ.get("PATH", os.defpath))}
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VersionUnknown(f"{program} did not say its version", why=str(error)) from error
    text = (done.stderr if manifest.version.stream == "stderr" else done.stdout).decode(errors="replace")
    found = re.search(r"\d+(?:\.\d+)+[0-9A-Za-z.+-]*", text)
    if done.returncode != 0 or found is None:
        raise VersionUnknown(
            f"{program} did not say its version", why=f"{' '.join(command)} ended with {done.returncode}"
        )
    return found.group()


def was_measured(manifest: Manifest, version: str) -> bool:
    """Return whether the manifest's rules were seen on this version; another one is used with a warning."""
    return not manifest.version.measured or version in manifest.version.measured


def _contract_arguments(manifest: Manifest, text: str, file: Path | None) -> tuple[list[str], dict[str, str]]:
    prompt = manifest.system_prompt
    if prompt is None:
        return [], {}
    if prompt.kind == "file":
        if file is None:
            raise LaunchImpossible(f"{manifest.name} reads its contract from a file, and none was written")
        marks = {"{file_json}": json.dumps(str(file)), "{file}": str(file)}
    elif prompt.kind == "toml-argument":
        marks = {"{text}": _toml_string(text)}
    else:
        marks = {"{text}": text}
    return [_fill(argument, marks) for argument in prompt.args], {
        key: _fill(text, marks) for key, text in prompt.env.items()
    }


def _fill(template: str, marks: Mapping[str, str]) -> str:
    """Replace each mark once over, so that a mark inside of what is put in stays as it is."""
    pattern = "|".join(re.escape(mark) for mark in marks)
    return re.sub(pattern, lambda match: marks[match.group()], template)


def _toml_string(text: str) -> str:
    """Return `text` as a TOML basic string: JSON's escapes are TOML's, except that TOML wants DEL escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def path_with(program: Path, path: str) -> dict[str, str]:
    """Return a PATH with the program's folder where it lacks it: `node` stands beside what runs on it (nvm)."""
    folder = str(program.parent)
    if not program.is_absolute() or folder in path.split(os.pathsep):
        return {}
    return {"PATH": f"{folder}{os.pathsep}{path}" if path else folder}


def _check_passable(vector: Sequence[str], env: Mapping[str, str]) -> None:
    if not vector or not vector[0]:
        raise LaunchImpossible("the seat's command is empty")
    for part in (*vector, *(f"{key}={value}" for key, value in env.items())):
        if "\0" in part:
            raise LaunchImpossible("the seat's command or environment holds a NUL character")
        if len(os.fsencode(part)) >= ARGUMENT_LIMIT:
            raise LaunchImpossible(
                f"the seat's command or environment holds {len(os.fsencode(part))} bytes in one piece",
                why=f"the system takes less than {ARGUMENT_LIMIT}",
            )


def _expand(place: str, environment: Mapping[str, str]) -> list[Path]:
    home = environment.get("HOME") or str(Path.home())
    path = Path(home + place.removeprefix("~")) if place.startswith("~") else Path(place)
    if "*" not in place:
        return [path]
    before, _, after = str(path).partition("/*/")
    try:
        return sorted((one / after for one in Path(before).iterdir()), key=_by_version, reverse=True)
    except OSError:  # the place is not there, or not ours to look into: nothing of ours is in it
        return []


def _by_version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.parent.name)]


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
