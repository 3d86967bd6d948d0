"""A machine of its own for a seed: namespaces for its processes, mounts and network, which end with it and take all
along.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.faults.clocks import FaketimeMissing, library
from tests.support.checkout import ROOT

# The shell stays, as the first process there, and takes in what others leave behind; network namespaces get their
# names in a folder that nobody else sees.
# So has the shared memory that libfaketime names after a process id.
_FIRST = 'mount -t tmpfs tmpfs /run/netns && mount -t tmpfs tmpfs /dev/shm && "$@"; exit $?'
_NETNS = Path("/run/netns")


@dataclass
class Verdict:
    """What came of a seed. `folder` is there, with every log, when something was found.

    `gave_up`: why there is no judgement; nothing was found then, and nothing shown.
    """

    seed: int
    violations: list[str]
    faults: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    folder: str = ""
    gave_up: str = ""

    @property
    def lasted(self) -> float:
        """How long the seed took, in seconds."""
        return sum(self.seconds.values())


class Seeded(Protocol):
    """How a seed is run: a dataclass of what JSON can say."""

    @property
    def seed(self) -> int: ...


def missing(*, clocks: bool = True) -> str:
    """Return why no seed can be run here; empty when one can. `clocks`: it sets those of its machines."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "nsenter", "unshare", "setpriv", "mount", "tmux"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    try:
        if clocks:
            library()
    except FaketimeMissing as error:
        return str(error)
    return ""


def run(options: Seeded, *, limit: float = 180.0, program: str = "bench.faults.seed") -> Verdict:
    """Run one seed to its end by `program`, at most `limit` seconds."""
    _NETNS.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))  # short, as sockets are in it
    folder.chmod(0o711)
    command = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    told = json.dumps(asdict(options))  # type: ignore[call-overload]  # no type says that it is a dataclass
    inner = [sys.executable, "-m", program, str(folder), told]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MOSAIC_", "TMUX"))}
    with (folder / "seed.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "sh", "-c", _FIRST, "sh", *inner],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return Verdict(options.seed, [], folder=str(folder), gave_up=f"it did not end within {limit:g} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
    return _read(options, folder)


def _read(options: Seeded, folder: Path) -> Verdict:
    path = folder / "verdict.json"
    if not path.exists():
        log = (folder / "seed.log").read_text(errors="replace")
        return Verdict(options.seed, [], folder=str(folder), gave_up=f"it came to no verdict: {log[-1500:]}")
    told: dict[str, Any] = json.loads(path.read_text())
    verdict = Verdict(
        options.seed, told["violations"], told["faults"], told["seconds"], told["counts"], folder=str(folder)
    )
    if not verdict.violations:
        shutil.rmtree(folder, ignore_errors=True)
        verdict.folder = ""
    return verdict
