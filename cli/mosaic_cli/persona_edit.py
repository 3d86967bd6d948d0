"""`mosaic persona edit`: a contract of the person's own, begun from the shipped one, by an editor or from a file.

The editor works on a draft, so that a contract which counts is never half written, and a look around changes nothing.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from mosaic_framework.catalog import FILE_LIMIT, Catalog
from mosaic_framework.contracts import ContractInvalid, contract_problems, parse_contract, plain_lines
from mosaic_framework.errors import FleetError, NotFound, TooLarge
from mosaic_framework.overrides import begin_override, override_path
from mosaic_framework.paths import Home, private_folder, write_private
from mosaic_framework.roles import KIND, SUFFIX, class_names, get_contract, resolve_class

from mosaic_cli import output
from mosaic_cli.failures import UsageError

_EDITORS = ("VISUAL", "EDITOR")


class EditorFailed(FleetError):
    """The editor did not end well."""

    code = "editor-failed"


def edit_persona(catalog: Catalog, name: str, *, file: Path | None) -> bool:
    """Make or change the own contract of a class or alias; returns whether anything changed.

    Raises NotFound with the nearest names, ContractInvalid (the draft is kept, and told), UsageError, EditorFailed.
    """
    class_name = resolve_class(catalog, name) or get_contract(catalog, name).class_name
    now = catalog.get(KIND, class_name, SUFFIX)
    before = plain_lines(now.read())
    path = override_path(catalog, class_name)
    draft = None if file is not None else _in_editor(before, class_name)
    after = plain_lines(_read(file) if file is not None else _read(draft))
    if after == before:
        _drop(draft)
        output.say(
            f"nothing changed: {class_name} works under {'your' if now.own else 'the shipped'} contract as it was"
        )
        return False
    try:
        parse_contract(after, name=class_name, file=str(draft or file), source="override")
    except ContractInvalid as error:
        if draft is not None:
            error.next_step = f"correct it, then: mosaic persona edit {class_name} --file {shlex.quote(str(draft))}"
        raise
    if not now.own:
        begin_override(catalog, class_name)
    write_private(path, after.encode())
    _drop(draft)
    for problem in contract_problems(after, name=class_name, file=str(path), classes=class_names(catalog)):
        output.say(f"warning: {problem}")
    output.say(f"{path} is the contract of {class_name} now; agents get it with: mosaic fleet apply")
    return True


def _in_editor(text: str, class_name: str) -> Path:
    """Let the person edit a draft of `text`, and return where it is."""
    command = next((words for name in _EDITORS if (words := shlex.split(os.environ.get(name, "")))), None)
    if command is None and not sys.stdin.isatty():
        raise UsageError(
            "there is no editor here",
            why="neither VISUAL nor EDITOR is set, and this is no terminal",
            next_step=f"mosaic persona edit {class_name} --file FILE (or - for standard input)",
        )
    # In the home: a draft that is kept must survive what clears /tmp.
    folder = Path(tempfile.mkdtemp(dir=private_folder(Home.from_environment().state / "drafts")))
    draft = folder / f"{class_name}{SUFFIX}"
    draft.write_text(text, encoding="utf-8", newline="\n")
    words = [*(command or ["vi"]), str(draft)]
    try:
        done = subprocess.run(words, check=False)
    except OSError as error:
        _drop(draft)
        raise EditorFailed(
            f"the editor {words[0]!r} cannot be started",
            why=error.strerror or str(error),
            next_step="set VISUAL or EDITOR, or give the text with --file",
        ) from error
    if done.returncode:
        raise EditorFailed(
            f"the editor ended with {done.returncode}; nothing was changed",
            why=f"the draft is {draft}",
            next_step=f"mosaic persona edit {class_name} --file {shlex.quote(str(draft))}",
        )
    return draft


def _read(file: Path | None) -> str:
    """Return the text of a file, or of standard input for `-`. Raises NotFound, TooLarge, UsageError."""
    assert file is not None
    if str(file) == "-":
        content = sys.stdin.buffer.read(FILE_LIMIT + 1)
    else:
        try:
            with file.open("rb") as stream:
                content = stream.read(FILE_LIMIT + 1)
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {file}") from error
    if len(content) > FILE_LIMIT:
        raise TooLarge(f"{file} is too large for a contract", why=f"at most {FILE_LIMIT} bytes are read")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text in UTF-8", why=f"at byte {error.start}") from error


def _drop(draft: Path | None) -> None:
    if draft is not None:
        draft.unlink(missing_ok=True)
        try:
            draft.parent.rmdir()
        except OSError:  # the editor left a file of its own there, such as a swap file: not ours to remove
            output.say(f"left behind by the editor: {draft.parent}")
