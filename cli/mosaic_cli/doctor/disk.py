"""Disks: space and inodes where home, journal and register are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.paths import Home, runtime_place

from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding

_LOW, _OUT = 1 << 30, 100 << 20
_SOCKETS_OUT = 1 << 20  # sockets, locks and small files
_FEW_INODES, _NO_INODES = 10_000, 200


@dataclass(frozen=True, slots=True)
class Filesystem:
    """One file system: what of ours is on it, the bytes and inodes free to this user, whether it counts inodes."""

    places: tuple[str, ...]
    path: Path
    free: int
    inodes: int
    counts_inodes: bool
    only_sockets: bool = False


def check(home: Home) -> Iterator[Finding]:
    """Look at every file system that something of ours is on."""
    for found in _filesystems(home):
        yield from judge(found)


def judge(found: Filesystem) -> Iterator[Finding]:
    """Say whether there is room."""
    what = ", ".join(found.places)
    low, out = (0, _SOCKETS_OUT) if found.only_sockets else (_LOW, _OUT)
    text = f"{_amount(found.free)} free for {what} ({found.path})"
    if found.free < low or found.free < out:
        level = WRONG if found.free < out else NOTE
        yield Finding("disk", level, f"{text}: journal and register stop when it is full", f"du -xh -d 2 {found.path}")
    else:
        yield Finding("disk", WELL, text)
    if found.counts_inodes and found.inodes < _FEW_INODES:
        level = WRONG if found.inodes < _NO_INODES else NOTE
        text = f"{found.inodes:,} files can still be made for {what} ({found.path}): inodes run out before space does"
        yield Finding("disk", level, text, f"du --inodes -x -d 2 {found.path}")


def _filesystems(home: Home) -> Sequence[Filesystem]:
    wanted = [("home", home.root), ("journal", home.state), ("logs", home.logs), ("sockets", runtime_place())]
    if register := _register(home):
        wanted.append(("register", register))
    by_device: dict[int, list[tuple[str, Path]]] = {}
    for name, path in wanted:
        there = next(one for one in (path, *path.parents) if one.exists())
        by_device.setdefault(there.stat().st_dev, []).append((name, there))
    found = []
    for places in by_device.values():
        path = places[0][1]
        room = os.statvfs(path)
        names = tuple(name for name, _ in places)
        inodes = room.f_favail
        found.append(
            Filesystem(names, path, room.f_bavail * room.f_frsize, inodes, room.f_files > 0, names == ("sockets",))
        )
    return found


def _register(home: Home) -> Path | None:
    """Return where the embedded register's data is when root runs it: the home is closed to the server."""
    identity = home.state / "postgres-id"
    try:
        return Path(f"/var/lib/mosaic/{home.digest}-{identity.read_text('utf-8').strip()}")
    except FileNotFoundError:
        return None


def _amount(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size // 1024} KiB"
