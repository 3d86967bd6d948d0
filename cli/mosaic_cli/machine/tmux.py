"""Whether tmux is here and new enough."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from mosaic_framework.errors import FleetError

OLDEST = (3, 2)


class TmuxUnfit(FleetError):
    """tmux is missing or too old."""

    code = "tmux-unfit"


def check_tmux() -> str:
    """Return the version of tmux, e.g. "3.3a". Raises TmuxUnfit with the command that installs it."""
    path = shutil.which("tmux")
    if path is None:
        raise TmuxUnfit("tmux is not installed", why="agents live in tmux sessions", next_step=install_command())
    try:
        said = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TmuxUnfit(f"{path} does not run", why=str(error), next_step=install_command()) from error
    version = parse_version(said)
    if version is not None and version < OLDEST:
        raise TmuxUnfit(
            f"{said} is too old",
            why=f"{path}: at least tmux {OLDEST[0]}.{OLDEST[1]} is needed",
            next_step=install_command(),
        )
    return said.removeprefix("tmux ")


def parse_version(said: str) -> tuple[int, int] | None:
    """Return (major, minor) of what `tmux -V` says; None for a development build, which has no number."""
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def install_command() -> str:
    """Return the command that installs tmux on this kind of machine."""
    if sys.platform == "darwin":
        return "brew install tmux"
    for tool, command in (
        ("apt-get", "sudo apt-get install tmux"),
        ("dnf", "sudo dnf install tmux"),
        ("pacman", "sudo pacman -S tmux"),
        ("apk", "sudo apk add tmux"),
        ("zypper", "sudo zypper install tmux"),
    ):
        if shutil.which(tool):
            return command
    return "install tmux 3.2 or newer with this system's package manager"
