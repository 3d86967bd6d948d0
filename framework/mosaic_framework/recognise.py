"""Which runtime a process is, and the model it was started with, from its argument vector (pure).

Only positive evidence counts: a vector that fits no manifest, or more than one, is nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mosaic_framework.manifest import Manifest

_INTERPRETERS = frozenset({"node", "nodejs", "bun", "deno", "python", "python3", "sh", "bash", "dash", "env"})


@dataclass(frozen=True, slots=True)
class Recognised:
    """A runtime's name, and the model that its arguments name; empty: they name none."""

    runtime: str
    model: str


def recognise(argv: Sequence[str], manifests: Iterable[Manifest]) -> Recognised | None:
    """Return what the process with this argument vector is, or None.

    A program is known by the name it was called by, also when an interpreter runs it (`node …/bin/codex`) and when it
    is a login shell (`-bash`).
    """
    names = _called(argv)
    found = [manifest for manifest in manifests if names & {manifest.program, *manifest.programs}]
    if len(found) != 1:
        return None
    return Recognised(found[0].name, model_in(argv, found[0]))


def model_in(argv: Sequence[str], manifest: Manifest) -> str:
    """Return the model that the vector names by the runtime's own flag, the last one if it is there twice, or ""."""
    marked = [index for index, word in enumerate(manifest.model_args) if "{model}" in word]
    if len(marked) != 1:
        return ""
    place, model = marked[0], ""
    before, template = manifest.model_args[:place], manifest.model_args[place]
    head, _, end = template.partition("{model}")
    for index, word in enumerate(argv):
        if place == 1 and before[0].startswith("--") and word.startswith(f"{before[0]}="):
            model = word.removeprefix(f"{before[0]}=")
        elif (
            index > place
            and list(argv[index - place : index]) == before
            and word.startswith(head)
            and word.endswith(end)
        ):
            model = word[len(head) : len(word) - len(end)]
    return model


def _called(argv: Sequence[str]) -> set[str]:
    """Return the names that the program may go by."""
    if not argv or not argv[0]:
        return set()
    name = PurePosixPath(argv[0].split(" ")[0]).name.removeprefix("-")
    if name not in _INTERPRETERS:
        return {name}
    script = next((word for word in argv[1:] if not word.startswith("-")), "")
    return {PurePosixPath(script).name} if script else {name}
