"""An environment as a user has it: the wheel, its dependencies, and no checkout near."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.support.checkout import ROOT, tracked_files

PARTS = ("cli", "controlplane", "framework", "hostagent", "proto", "LICENSE", "README.md", "pyproject.toml")

# Stands in every environment made here. A test names the place at which a program is to kill itself; the product has no
# such switch.
_KILLER = """\
import os
place = os.environ.get("TEST_KILLED_AT")
if place:
    import signal
    from mosaic_framework import steps
    steps._observer = lambda name: name == place and os.kill(os.getpid(), signal.SIGKILL)
"""


_PIP = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_COMPILE": "0"}


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of a source tree into a folder that has no other, and return it."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    return next(folder.glob("*.whl"))


def copy_of_the_source(folder: Path) -> Path:
    """Copy the tracked files that a wheel is built from, for a test that changes them."""
    for path in tracked_files():
        relative = path.relative_to(ROOT)
        if relative.parts[0] in PARTS:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / relative)
    return folder


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, in which nothing of ours is installed at first."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        """Make one whose dependencies are those of the tests' own environment, without any path to the checkout."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
        made = cls(folder)
        dependencies = folder / "dependencies"
        dependencies.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if not entry.name.startswith(("mosaic", "_mosaic", "__editable__")) and entry.suffix != ".pth":
                (dependencies / entry.name).symlink_to(entry)
        (made.packages / "dependencies.pth").write_text(f"{dependencies}\n")
        (made.packages / "sitecustomize.py").write_text(_KILLER)
        return made

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def install(self, wheel: Path) -> None:
        """Install the wheel by pip, whatever is there, as a user does; nothing is fetched."""
        done = self.run(self.python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", str(wheel))
        assert done.returncode == 0, done.stderr

    def keep(self) -> None:
        """Put what is installed now aside, for `put_back`."""
        shutil.copytree(self.packages, self.folder / "kept", symlinks=True)

    def put_back(self) -> None:
        """Be as at the time of `keep`, whatever was installed, or half installed, since."""
        shutil.rmtree(self.packages)
        shutil.copytree(self.folder / "kept", self.packages, symlinks=True)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command with nothing of the checkout in its environment."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MOSAIC_", "PIP_"))}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**kept, **_PIP, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def mosaic(self, home: Path, *arguments: str, killed_at: str = "") -> subprocess.CompletedProcess[str]:
        """Run the installed `mosaic` in a home."""
        program = str(self.folder / "bin" / "mosaic")
        return self.run(program, *arguments, MOSAIC_HOME=str(home), TEST_KILLED_AT=killed_at)
