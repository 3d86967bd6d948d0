"""Locks that one process at a time may hold, with its pid inside for whoever comes second."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from mosaic_framework.paths import private_folder


class LockTaken(Exception):
    """Another process holds the lock. `holder` is what it wrote into it: at least its pid, unless unreadable."""

    def __init__(self, path: Path, holder: dict[str, str]) -> None:
        self.path = path
        self.holder = holder
        super().__init__(f"{path} is held by pid {holder.get('pid', 'unknown')}")


class FileLock:
    """An flock on a file of its own. The kernel lets go of it with the process, however that ends."""

    def __init__(self, handle: int, path: Path) -> None:
        self._handle = handle
        self.path = path

    @classmethod
    def take(cls, path: Path, **facts: str) -> FileLock:
        """Take the lock at `path` and write our pid and `facts` into it. Raises LockTaken at once."""
        private_folder(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                raise LockTaken(path, _read_holder(handle)) from None
            finally:
                os.close(handle)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": str(os.getpid()), **facts}).encode(), 0)
        return cls(handle, path)

    def release(self) -> None:
        """Let go; may be called twice. The file stays: without it two processes could lock two files of one name."""
        if self._handle >= 0:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = -1


def _read_holder(handle: int) -> dict[str, str]:
    try:
        found = json.loads(os.pread(handle, 4096, 0) or b"{}")
    except ValueError:
        return {}  # it is being written just now
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
