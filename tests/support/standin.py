"""A stand-in for a runtime's program: it writes down exactly how it was started, and waits to be ended."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """\
#!{python} -IS
import json, os, signal
content = open("/proc/self/environ", "rb").read().decode("utf-8", "surrogateescape")
argv = open("/proc/self/cmdline", "rb").read().decode("utf-8", "surrogateescape").split("\\0")[2:-1]
record = {{"argv": argv, "env": content.split("\\0")[:-1], "folder": os.getcwd(), "pid": os.getpid()}}
partial = {record!r} + ".partial"
with open(partial, "w") as file:
    json.dump(record, file)
os.replace(partial, {record!r})
while True:
    signal.pause()
"""

_HOSTILE = """a 'b' "c" \\ $(touch TRACE) `touch TRACE`; touch TRACE && {text} {folder} %d #{pid} #(touch TRACE)
~ * ünï 😀
\tnext \\"""


@dataclass(frozen=True)
class Started:
    """How the program was started. `env` has no variable twice; `argv` begins with its own path."""

    argv: list[str]
    env: dict[str, str]
    folder: str
    pid: int


@dataclass(frozen=True)
class StandIn:
    """A program at `path`; it writes to `record`."""

    path: Path
    record: Path

    @property
    def started(self) -> Started | None:
        """How it was started last, or None: not yet."""
        try:
            found = json.loads(self.record.read_text("utf-8", "surrogateescape"))
        except FileNotFoundError:
            return None
        pairs = [entry.partition("=") for entry in found["env"]]
        assert len({name for name, _, _ in pairs}) == len(pairs)
        return Started(found["argv"], {name: value for name, _, value in pairs}, found["folder"], found["pid"])


def make_stand_in(path: Path, record: Path) -> StandIn:
    """Make a stand-in at `path`, which is to be called as the program it stands for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_SCRIPT.format(python=os.path.realpath(sys.executable), record=str(record)))
    path.chmod(0o755)
    return StandIn(path, record)


def hostile(trace: Path) -> str:
    """Return a text that a shell, tmux, a template or a format would read; `trace`: a file that none may make."""
    return _HOSTILE.replace("TRACE", str(trace))
