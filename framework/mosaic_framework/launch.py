"""The launch of a seat: an argument vector and an environment, made of its manifest and what the roster says (pure).

Never a line for a shell. What is data stays data: marks are replaced once, texts are quoted for the language they are
put into, and nothing is expanded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from mosaic_framework.errors import InvalidInput
from mosaic_framework.manifest import Manifest
from mosaic_framework.marks import fill, fill_json, merge, toml_string, with_forms

# Linux takes no longer single argument or variable (MAX_ARG_STRLEN).
ARGUMENT_LIMIT = 128 * 1024


class LaunchImpossible(InvalidInput):
    """This seat cannot be launched as it is described."""

    code = "launch-impossible"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where and as whom a seat is launched. `folder`: its working directory, links resolved; `session`: private."""

    folder: Path
    session: Path
    as_root: bool = False
    at_home: bool = False
    """the working directory is the user's home itself"""

    @property
    def marks(self) -> dict[str, str]:
        """What stands for the marks of a manifest."""
        return with_forms({"folder": str(self.folder), "session": str(self.session)})


@dataclass(frozen=True, slots=True)
class Wish:
    """What the roster says of a launch. `command` replaces program and arguments; `env` wins over the manifest's."""

    model: str = ""
    unattended: bool = False
    args: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def launch_vector(
    manifest: Manifest,
    wish: Wish,
    around: Circumstances,
    *,
    program: str = "",
    seed: str = "",
    seed_file: Path | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Return the argument vector that starts a seat, and what the manifest and the roster add to its environment.

    `program`: where it was found; else the manifest's name for it. `seed_file` holds `seed`, for a runtime that reads
    it from a file, always or when it is too long for an argument. Raises LaunchImpossible.
    """
    marks = around.marks
    vector = [program or manifest.program, *(fill(one, marks) for one in manifest.args)]
    env = {key: fill(text, marks) for key, text in manifest.env.items()}
    if wish.model:
        vector += [fill(one, {"model": wish.model}) for one in manifest.model_args]
    if wish.unattended:
        consent = manifest.unattended
        vector += [fill(one, marks) for one in consent.args]
        env |= {key: fill(text, marks) for key, text in consent.env.items()}
        env |= consent.env_as_root if around.as_root else {}
        env |= consent.env_at_home if around.at_home else {}
    env |= wish.env
    if seed:
        prompt_args, prompt_env = _seed_arguments(manifest, seed, seed_file)
        vector += prompt_args
        for key, text in prompt_env.items():
            env[key] = _joined(key, text, wish.env[key]) if key in wish.env else text
    vector = list(wish.command) if wish.command else [*vector, *wish.args]
    check_passable(vector, env)
    return vector, env


def session_files(manifest: Manifest, wish: Wish, around: Circumstances) -> dict[str, JsonValue]:
    """Return the files of the session's private folder, name → JSON content."""
    files: dict[str, JsonValue] = {**manifest.files}
    if wish.unattended:
        for name, content in manifest.unattended.files.items():
            files[name] = merge(files[name], content) if name in files else content
    return {name: fill_json(content, around.marks) for name, content in files.items()}


def check_passable(vector: Sequence[str], env: Mapping[str, str]) -> None:
    """Raise LaunchImpossible for what no system can start."""
    if not vector or not vector[0]:
        raise LaunchImpossible("the seat's command is empty")
    for part in (*vector, *(f"{key}={value}" for key, value in env.items())):
        if "\0" in part:
            raise LaunchImpossible("the seat's command or environment holds a NUL character")
        size = len(os.fsencode(part))
        if size >= ARGUMENT_LIMIT:
            raise LaunchImpossible(
                f"the seat's command or environment holds {size:,} bytes in one piece",
                why=f"the system takes less than {ARGUMENT_LIMIT:,}",
                next_step="shorten what agents are told (mosaic agent show NAME --contract), or the roster's texts",
            )


def _seed_arguments(manifest: Manifest, text: str, file: Path | None) -> tuple[list[str], dict[str, str]]:
    prompt = manifest.system_prompt
    if prompt is None:
        return [], {}
    in_file = prompt.kind == "file"
    if in_file and file is None:
        raise LaunchImpossible(f"{manifest.name} reads its contract from a file, and none was written")
    marks = with_forms({"file": str(file)}) if file is not None else {}
    if not in_file:
        marks["text"] = toml_string(text) if prompt.kind == "toml-argument" else text
    args = [fill(one, marks) for one in prompt.args]
    too_long = any(len(os.fsencode(one)) >= ARGUMENT_LIMIT for one in args)
    if too_long and prompt.file_args and file is not None:
        args = [fill(one, marks) for one in prompt.file_args]
    return args, {key: fill(one, marks) for key, one in prompt.env.items()}


def _joined(key: str, ours: str, theirs: str) -> str:
    """Return a variable that carries the contract and that the roster sets too: both, as one JSON object."""
    try:
        values = [json.loads(theirs), json.loads(ours)]
    except ValueError:
        values = []
    if not values or not all(isinstance(value, dict) for value in values):
        raise LaunchImpossible(
            f"the seat's env sets {key}, which carries its contract",
            why="it is no JSON object, so the two cannot be joined",
            next_step=f"take {key} out of the agent's env",
        )
    return json.dumps(merge(*values), ensure_ascii=False)
