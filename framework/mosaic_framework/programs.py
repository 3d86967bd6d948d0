"""Where a runtime's program is on this machine, and what must be on PATH so that it runs.

A service's PATH is short, and programs of this kind are put where only a login shell looks. Nothing is executed to
find one, least of all a shell's start-up files: they are looked for where their installers put them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.errors import FleetError
from mosaic_framework.manifest import Manifest

# (variable that names the folder, where it is without it, what is below it); "*" stands for a version, newest first.
_PLACES = (
    ("", "~/.local", "bin"),
    ("NPM_CONFIG_PREFIX", "~/.npm-global", "bin"),
    ("", "~/.npm-packages", "bin"),
    ("NVM_DIR", "~/.nvm", "versions/node/*/bin"),
    ("FNM_DIR", "~/.local/share/fnm", "node-versions/*/installation/bin"),
    ("", "~/.fnm", "node-versions/*/installation/bin"),
    ("N_PREFIX", "~/n", "bin"),
    ("VOLTA_HOME", "~/.volta", "bin"),
    ("ASDF_DATA_DIR", "~/.asdf", "shims"),
    ("MISE_DATA_DIR", "~/.local/share/mise", "shims"),
    ("PYENV_ROOT", "~/.pyenv", "shims"),
    ("BUN_INSTALL", "~/.bun", "bin"),
    ("PNPM_HOME", "~/.local/share/pnpm", ""),
    ("", "~/.yarn", "bin"),
    ("", "~/.config/yarn/global/node_modules", ".bin"),
    ("", "~/.opencode", "bin"),
    ("", "~/.claude/local", ""),
    ("CARGO_HOME", "~/.cargo", "bin"),
    ("", "~", "bin"),
    ("", "/opt/homebrew", "bin"),
    ("", "/home/linuxbrew/.linuxbrew", "bin"),
    ("", "/usr/local", "bin"),
    ("", "/snap", "bin"),
    ("", "/usr", "bin"),
    ("", "/", "bin"),
)
_NPM_PREFIX = re.compile(r"^\s*prefix\s*=\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_NPM_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SHEBANG_BYTES = 256  # the kernel reads no more of one (BINPRM_BUF_SIZE)
_SHEBANG = re.compile(rb"#!\s*\S*/env\s+(?:-S\s+)?([^\s=]+)(?:\s|$)")
_NPMRC_LIMIT = 64 * 1024


class RuntimeNotInstalled(FleetError):
    """The seat's program is not installed on this host."""

    code = "runtime-not-installed"


@dataclass(frozen=True, slots=True)
class Found:
    """A program by its absolute path, and the folders that PATH must have in front so that it runs."""

    program: str
    folders: tuple[str, ...] = ()

    def path(self, path: str) -> str:
        """Return `path` with the folders in front that it lacks."""
        there = path.split(os.pathsep) if path else []
        return os.pathsep.join([*(folder for folder in self.folders if folder not in there), *there])


def find_program(manifest: Manifest, environment: Mapping[str, str], *, known: str = "") -> Found:
    """Return the runtime's program: the one `known` from before while it is there, else by PATH, else the usual places.

    What interprets it (`node`) is found in the same way. Raises RuntimeNotInstalled, with the command to install it.
    """
    path = environment.get("PATH", os.defpath)
    there = manifest.program_from is None and known.startswith("/") and is_program(Path(known))
    program = known if there else installed(manifest, environment)
    if program is None:
        raise RuntimeNotInstalled(
            f"{manifest.title} ({manifest.program}) is not installed on this host",
            next_step=manifest.install.command or f"install {manifest.program}",
        )
    folder = str(Path(program).parent)
    folders = () if folder in path.split(os.pathsep) else (folder,)
    interpreter = _interpreter(Path(program))
    if interpreter is None or shutil.which(interpreter, path=os.pathsep.join([folder, path])) is not None:
        return Found(program, folders)
    found = _in_usual_places(interpreter, environment)
    if found is None:
        raise RuntimeNotInstalled(
            f"{manifest.title} is installed on this host, and {interpreter}, which it runs on, is not found",
            why=f"{program} asks for it",
            next_step=f"install {interpreter}, or put its folder on PATH in the agent's env file",
        )
    return Found(program, (*folders, str(found.parent)))


def installed(manifest: Manifest, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the absolute path of the runtime's program, by PATH and then the usual places, or None."""
    around = os.environ if environment is None else environment
    program = preferred_program(manifest, around)
    found = shutil.which(program, path=around.get("PATH", os.defpath))
    if found is not None:
        return str(Path(found).absolute())
    usual = _in_usual_places(program, around) if "/" not in program else None
    return str(usual) if usual is not None else None


def preferred_program(manifest: Manifest, environment: Mapping[str, str]) -> str:
    """Return the program to start: what the manifest's variable ($SHELL) names, where it is one the manifest knows."""
    if manifest.program_from is not None:
        named = environment.get(manifest.program_from, "")
        if named.startswith("/") and Path(named).name in manifest.programs and is_program(Path(named)):
            return named
    return manifest.program


def is_program(path: Path) -> bool:
    """Return whether this is a file that may be run."""
    return path.is_file() and os.access(path, os.X_OK)


def _in_usual_places(program: str, environment: Mapping[str, str]) -> Path | None:
    folders = (folder for place in _usual_places(environment) for folder in _expand(place))
    return next((folder / program for folder in folders if is_program(folder / program)), None)


def _usual_places(environment: Mapping[str, str]) -> Iterator[Path]:
    home = environment.get("HOME") or str(Path.home())
    prefix = _npm_prefix(Path(home) / ".npmrc", home, environment)
    if prefix is not None:
        yield prefix / "bin"
    for variable, default, below in _PLACES:
        named = environment.get(variable, "") if variable else ""
        base = Path(named) if named.startswith("/") else Path(home + default.removeprefix("~"))
        yield (base if named.startswith("/") or default.startswith("~") else Path(default)) / below


def _npm_prefix(file: Path, home: str, environment: Mapping[str, str]) -> Path | None:
    """Return where npm puts programs of `install -g`, by the user's .npmrc. One that cannot be read says nothing."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_NPMRC_LIMIT).decode(errors="replace")
    except OSError:
        return None
    found = _NPM_PREFIX.search(text)
    if found is None:
        return None
    place = _NPM_VARIABLE.sub(lambda match: home if match[1] == "HOME" else environment.get(match[1], ""), found[1])
    place = home + place[1:] if place.startswith("~") else place
    return Path(place) if place.startswith("/") else None


def _expand(place: Path) -> list[Path]:
    if "*" not in place.parts:
        return [place]
    at = place.parts.index("*")
    before, after = Path(*place.parts[:at]), place.parts[at + 1 :]
    try:
        versions = sorted(before.iterdir(), key=_by_version, reverse=True)
    except OSError:  # the place is not there, or not ours to look into: nothing of ours is in it
        return []
    return [version.joinpath(*after) for version in versions]


def _by_version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _interpreter(program: Path) -> str | None:
    """Return the name that a script's first line looks for on PATH, or None: it is no such script."""
    try:
        with program.open("rb") as file:
            first = file.read(_SHEBANG_BYTES).split(b"\n", 1)[0]
    except OSError:  # it may be run and not be read
        return None
    found = _SHEBANG.match(first)
    return os.fsdecode(found[1]) if found is not None else None
