"""A machine that boots: systemd as PID 1 in namespaces of its own, on an overlay of this machine's root, in a cgroup.

Needs root, overlayfs and systemd with logind. What is written on it lasts from one boot to the next, and is gone after.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import user_systemd

_BOOT_SECONDS = 60.0
_LOGIND = Path("/lib/systemd/systemd-logind")
# Only what linger needs: no udev, no mounts of the kernel's, no services of whatever else is installed here.
_TARGET = """[Unit]
Wants=dbus.socket systemd-logind.service
After=dbus.socket systemd-logind.service
AllowIsolate=yes
"""
_MASKED = (
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "systemd-journald-audit.socket",
    "systemd-journal-flush.service",
    "systemd-tmpfiles-setup.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "systemd-remount-fs.service",
    "systemd-random-seed.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "modprobe@.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
)


def home_folder() -> str:
    """Return this user's home as the system knows it, which is what its manager takes."""
    return pwd.getpwuid(os.getuid()).pw_dir


class BootedMachine:
    """One machine; `folder` holds what was written on it."""

    def __init__(self, folder: Path, cgroup: Path) -> None:
        self.folder, self.cgroup = folder, cgroup
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0
        system = folder / "upper" / "etc" / "systemd" / "system"
        system.mkdir(parents=True)
        for name in ("work", "root"):
            (folder / name).mkdir()
        (system / "mosaic-test.target").write_text(_TARGET)
        for name in _MASKED:
            (system / name).symlink_to("/dev/null")

    @property
    def log(self) -> Path:
        return self.folder / "boot.log"

    def boot(self) -> None:
        """Switch it on, and wait until logind answers."""
        self.cgroup.mkdir(exist_ok=True)
        root = self.folder / "root"
        script = f"""
            mount -t overlay overlay -o lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work {root}
            cd {root}
            mount -t proc proc proc
            mount -t tmpfs tmpfs run
            mount -t tmpfs tmpfs dev
            for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 dev/${{node%:*}} c 1 ${{node#*:}}; done
            mknod -m 666 dev/tty c 5 0
            mkdir dev/pts dev/shm
            mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666,mode=620
            ln -s pts/ptmx dev/ptmx
            mount -t sysfs sysfs sys
            mount -t cgroup2 cgroup2 sys/fs/cgroup
            mkdir -p mnt
            pivot_root . mnt
            umount -l /mnt
            exec env -i container=mosaic-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
              --unit=mosaic-test.target --show-status=false --log-target=console --log-level=warning
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["bash", "-ec", f'echo $$ > {self.cgroup}/cgroup.procs; exec unshare -fpmCuni bash -ec "$0"', script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        deadline = time.monotonic() + _BOOT_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def _answers(self) -> bool:
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._process.pid).children()
            if children and children[0].name() == "systemd":
                self._init = children[0].pid
                return self.run("loginctl", "list-users", "--no-legend").returncode == 0
        return False

    def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command on it, as a service would: with nobody logged in."""
        given = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home_folder(), **environment}
        return subprocess.run(
            ["nsenter", "-t", str(self._init), "-a", "env", "-i", *(f"{k}={v}" for k, v in given.items()), *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd="/",
        )

    def switch_off(self) -> None:
        """Pull the plug."""
        if self.cgroup.exists():
            (self.cgroup / "cgroup.kill").write_text("1")
        if self._process is not None:
            self._process.wait(20)
        user_systemd.remove_cgroup(self.cgroup)


@contextlib.contextmanager
def booted_machine() -> Iterator[BootedMachine]:
    """Lend a machine that is switched off; skips, and says why, where there can be none."""
    reason = user_systemd.missing() or ("" if _LOGIND.exists() else "logind is not installed")
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="boot-"))
    machine = BootedMachine(folder, user_systemd.new_cgroup(folder.name))
    try:
        yield machine
    finally:
        machine.switch_off()
        shutil.rmtree(folder, ignore_errors=True)
