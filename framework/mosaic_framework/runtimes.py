"""Runtimes: which manifests there are, what agents are told of them, and which version of a program is here."""

from __future__ import annotations

import os
import re
import subprocess

from mosaic_framework.catalog import Catalog
from mosaic_framework.contracts import plain_lines
from mosaic_framework.document import read_tree, validate
from mosaic_framework.errors import FleetError
from mosaic_framework.manifest import Manifest
from mosaic_framework.marked import DocumentInvalid, Problems
from mosaic_framework.programs import find_program

SUFFIX = ".yaml"
NOTES_SUFFIX = ".md"
VERSION_TIMEOUT_SECONDS = 20


class ManifestInvalid(DocumentInvalid):
    """The runtime manifest is not valid."""

    code = "manifest-invalid"


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


def read_notes(catalog: Catalog, manifest: Manifest) -> str:
    """Return what an agent is told of its own program: a person's `runtimes.local/<name>.md`, else what ships.

    Raises DataUnreadable.
    """
    file = catalog.find("runtimes", manifest.name, NOTES_SUFFIX)
    return plain_lines(file.read()) if file is not None else manifest.notes or ""


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


def read_version(manifest: Manifest, program: str) -> str:
    """Ask the installed `program` for its version and return it ("2.1.329").

    Raises VersionUnknown, or RuntimeNotInstalled: what interprets it is not there.
    """
    command = [program, *manifest.version.args]
    env = {**os.environ, "PATH": find_program(manifest, os.environ, known=program).path(os.environ.get("PATH", ""))}
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
