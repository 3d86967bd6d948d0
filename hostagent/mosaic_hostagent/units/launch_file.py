"""What a seat's unit is to start, and what came of it: `state/seats/INSTANCE.json` and `.tally`. Standard library only.

The host-agent writes the launch; only the waiter writes the tally. A launch that has begun once is begun again as a run
of its own: a new id, a new token, and its own copy of the files that were made for the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from mosaic_hostagent import crashes
from mosaic_hostagent.units.plain import read_json, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a megabyte a process
    from typing import Any

    Launch = dict[str, Any]
    Tally = dict[str, Any]

FOLDER = "seats"
SESSIONS = "sessions"
TOKEN = "MOSAIC_AGENT_TOKEN"  # noqa: S105 - the variable's name
LETTERBOX = "MOSAIC_LETTERBOX"
LETTERBOX_DIGITS = 12
"""So much of a run's id the name of its letterbox ends in."""


def clock() -> float:
    """Return seconds that go on while the machine sleeps, and start anew when it boots."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def path(home: str, instance: str, kind: str = "json") -> str:
    """Return where a seat's launch lies, or its tally."""
    return f"{home}/state/{FOLDER}/{instance}.{kind}"


def read(home: str, instance: str) -> Launch:
    """Return what is to be started; empty when the seat is not wanted here."""
    return read_json(path(home, instance))


def read_tally(home: str, instance: str, launch: Mapping[str, Any]) -> Tally:
    """Return what came of the tries so far; one that was asked for anew has none."""
    none: Tally = {"asked": launch["asked"], "launched": "", "latest": "", "problem": "", "begun": False}
    none |= {"count": 0, "next": 0.0, "resting": 0}
    try:
        found = read_json(path(home, instance, "tally"))
    except ValueError:
        return none  # somebody else wrote there
    if found.get("asked") != launch["asked"]:
        found = {key: found[key] for key in ("launched", "latest", "problem") if key in found}
    return {**none, **found}


def write_tally(home: str, instance: str, tally: Mapping[str, object]) -> None:
    """Replace the tally."""
    write_json(path(home, instance, "tally"), tally)


def pause(tally: Mapping[str, Any]) -> float:
    """Return the seconds until the next try may be."""
    left = float(tally["next"]) - clock()
    return left if 0 < left <= crashes.LONGEST else 0.0  # more than that was written before the machine booted


def as_new_run(home: str, launch: Launch, tally: Mapping[str, Any]) -> Launch:
    """Return the launch under an id that no run has had, and that tells when it begins.

    It is the prepared one when the host-agent has just asked for the start, and a fresh one for all that follow.
    """
    prepared, latest = launch["run_id"], tally["latest"]
    if not tally["begun"] and tally["launched"] != prepared:
        return launch
    fresh = _new_run_id()
    token = os.urandom(32).hex()
    env = {key: str(value).replace(prepared, fresh) for key, value in launch["env"].items()}
    if TOKEN in env:
        env[TOKEN] = token
    if LETTERBOX in env:  # a socket's path is short: it has only the end of the id
        env[LETTERBOX] = env[LETTERBOX].removesuffix(prepared[-LETTERBOX_DIGITS:]) + fresh[-LETTERBOX_DIGITS:]
    sessions = f"{home}/state/{SESSIONS}"
    source = next((one for one in (prepared, latest) if one and os.path.isdir(f"{sessions}/{one}")), "")  # noqa: PTH112
    if source:
        _copy(f"{sessions}/{source}", f"{sessions}/{fresh}", source, fresh)
        import hashlib  # it loads OpenSSL: seldom needed, and never given back

        digest = hashlib.sha256(token.encode()).hexdigest()
        write_json(f"{sessions}/{fresh}/session.json", {"agent_id": launch["agent_id"], "token_sha256": digest})
    argv = [str(word).replace(prepared, fresh) for word in launch["argv"]]
    return {**launch, "run_id": fresh, "argv": argv, "env": env}


def _copy(source: str, target: str, old: str, new: str) -> None:
    """Copy the files of a run; where they name it, they name the new one."""
    os.mkdir(target, 0o700)  # noqa: PTH102 - as above
    for entry in os.scandir(source):
        to = f"{target}/{entry.name.replace(old, new)}"
        if entry.is_dir(follow_symlinks=False):
            _copy(entry.path, to, old, new)
        elif entry.is_file(follow_symlinks=False):
            with open(entry.path, "rb") as file:  # noqa: PTH123
                content = file.read()
            handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, entry.stat().st_mode & 0o777)
            with os.fdopen(handle, "wb") as file:
                file.write(content.replace(old.encode(), new.encode()))


def _new_run_id() -> str:
    """Return a UUIDv7 (RFC 9562): 48 bits of milliseconds, then version, variant and chance."""
    value = ((time.time_ns() // 1_000_000) & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
