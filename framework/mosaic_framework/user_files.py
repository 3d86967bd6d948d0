"""Questions settled in a user's own JSON file: merged, a backup before the first change, undone on uninstall.

What was there before is written to `$MOSAIC_HOME/state/user-files.json` first, so that a crash in between leaves
nothing that cannot be undone. The file is replaced whole and keeps its mode; of a link, what it leads to is changed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from mosaic_framework.errors import FleetError
from mosaic_framework.launch import Circumstances
from mosaic_framework.manifest import UserFile
from mosaic_framework.marks import fill, fill_json
from mosaic_framework.paths import Home, write_private
from mosaic_framework.roster_write import replace_file

RECORD = "user-files.json"
BACKUPS = "user-files"
_SIZE_LIMIT = 64 * 1024 * 1024
# The programs' own lock (npm's proper-lockfile) touches its folder every 5 s and calls it dead after 10 s.
_LOCK_DEAD_SECONDS = 10.0
_LOCK_WAIT_SECONDS = 5.0


class UserFileUnusable(FleetError):
    """A file of the user's cannot be changed."""

    code = "user-file-unusable"


@dataclass(frozen=True, slots=True)
class Undone:
    """What was done about one file on uninstall: how many values were taken back, and how many the user had changed."""

    file: Path
    undone: int
    left: int


def user_file(what: UserFile, environment: Mapping[str, str]) -> Path:
    """Return where the file is for this environment."""
    named = environment.get(what.folder_from, "") if what.folder_from is not None else ""
    return Path(named or environment.get("HOME") or Path.home()) / what.file


def settle(home: Home, what: UserFile, around: Circumstances, environment: Mapping[str, str]) -> bool:
    """Give the file its values where it lacks them, and say whether it was changed. Raises UserFileUnusable."""
    path = user_file(what, environment).resolve()
    wanted = [
        (tuple(fill(key, around.marks) for key in one.keys), fill_json(one.value, around.marks))
        for one in what.settings
        if one.at_home or not around.at_home
    ]
    if all(_get(_read(path), keys) == (True, value) for keys, value in wanted):
        return False
    try:
        with _locked(path, what.lock):
            content = _read(path)
            missing = [(keys, value) for keys, value in wanted if _get(content, keys) != (True, value)]
            _remember(home, path, what.lock, content, missing)
            for keys, value in missing:
                _set(content, keys, value, path)
            _write(path, content)
    except OSError as error:
        raise UserFileUnusable(f"{path} cannot be changed", why=error.strerror or str(error)) from error
    return True


def undo_all(home: Home) -> list[Undone]:
    """Take back every value that is still ours, in every file; what the user changed since stays. For uninstalling.

    Raises UserFileUnusable; what has been undone until then stays undone.
    """
    record = _record(home)
    done = []
    for name, entry in list(record.items()):
        path = Path(name)
        undone = left = 0
        with _locked(path, entry["lock"]):
            content = _read(path)
            for one in reversed(entry["values"]):
                keys = tuple(one["keys"])
                there, value = _get(content, keys)
                if there and value == one["value"]:
                    _restore(content, keys, one)
                    undone += 1
                elif there:
                    left += 1
            if undone:
                if content or not entry["made"]:
                    _write(path, content)
                else:
                    path.unlink(missing_ok=True)
        done.append(Undone(path, undone, left))
        del record[name]
        _save(home, record)
    return done


def _read(path: Path) -> dict[str, JsonValue]:
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserFileUnusable(f"{path} cannot be read", why=error.strerror or str(error)) from error
    try:
        content = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as error:
        raise UserFileUnusable(
            f"{path} is not valid JSON, and is left alone", why=str(error), next_step="mend it, or move it away"
        ) from error
    if not isinstance(content, dict):
        raise UserFileUnusable(f"{path} holds no JSON object, and is left alone", next_step="mend it, or move it away")
    return content


def _write(path: Path, content: dict[str, JsonValue]) -> None:
    replace_file(path, (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "surrogatepass"))


def _get(content: JsonValue, keys: Sequence[str]) -> tuple[bool, JsonValue]:
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            return False, None
        content = content[key]
    return True, content


def _set(content: dict[str, JsonValue], keys: Sequence[str], value: JsonValue, path: Path) -> None:
    for key in keys[:-1]:
        below = content.setdefault(key, {})
        if not isinstance(below, dict):
            raise UserFileUnusable(f"{path} holds no JSON object at {key!r}, and is left alone")
        content = below
    content[keys[-1]] = value


def _restore(content: dict[str, JsonValue], keys: Sequence[str], one: Mapping[str, Any]) -> None:
    """Put back what was there before, and take away the objects that were made for ours and are empty again."""
    if "before" in one:
        _get(content, keys[:-1])[1][keys[-1]] = one["before"]  # type: ignore[index,call-overload]
        return
    for depth in range(len(keys) - 1, -1, -1):
        parent = _get(content, keys[:depth])[1]
        assert isinstance(parent, dict)
        if depth < len(keys) - 1 and (depth < one["made_below"] or parent[keys[depth]] != {}):
            return
        del parent[keys[depth]]


def _remember(
    home: Home,
    path: Path,
    lock: str | None,
    content: dict[str, JsonValue],
    missing: Sequence[tuple[Sequence[str], JsonValue]],
) -> None:
    record = _record(home)
    entry = record.get(str(path))
    if entry is None:
        entry = record[str(path)] = {
            "backup": _backup(home, path),
            "made": not path.exists(),
            "lock": lock,
            "values": [],
        }
    known = {tuple(one["keys"]): one for one in entry["values"]}
    for keys, value in missing:
        if (one := known.get(tuple(keys))) is not None:
            one["value"] = value  # what was there before us stays what it was
            continue
        there, before = _get(content, keys)
        depth = next((n for n in range(len(keys)) if not _get(content, keys[: n + 1])[0]), len(keys))
        entry["values"].append(
            {"keys": list(keys), "value": value, "made_below": depth} | ({"before": before} if there else {})
        )
    _save(home, record)


def _backup(home: Home, path: Path) -> str | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S%fZ")
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    backup = home.state / BACKUPS / f"{path.name.lstrip('.')}.{digest}.{stamp}.bak"
    write_private(backup, content)
    return str(backup)


def _record(home: Home) -> dict[str, Any]:
    path = home.state / RECORD
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserFileUnusable(
            f"{path}, which says what was changed in your own files, is damaged",
            next_step=f"the backups are in {home.state / BACKUPS}; move {path} away",
        ) from error
    return dict(found)


def _save(home: Home, record: Mapping[str, Any]) -> None:
    write_private(home.state / RECORD, (json.dumps(record, indent=1) + "\n").encode())


@contextlib.contextmanager
def _locked(path: Path, suffix: str | None) -> Iterator[None]:
    """Hold the lock that the file's own program takes: a folder, there while somebody writes."""
    if suffix is None:
        yield
        return
    lock = path.with_name(path.name + suffix)
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            if _is_dead(lock):
                with contextlib.suppress(OSError):
                    lock.rmdir()
                continue
            if time.monotonic() > deadline:
                raise UserFileUnusable(
                    f"{path} is being written by its program all the time", why=f"{lock} stays"
                ) from None
            time.sleep(0.02)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.rmdir()


def _is_dead(lock: Path) -> bool:
    try:
        return time.time() - lock.stat().st_mtime > _LOCK_DEAD_SECONDS
    except FileNotFoundError:
        return False
