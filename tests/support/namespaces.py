"""Real hosts on one machine: network namespaces with host names of their own, joined by a switch, cut and healed.

Needs root and iproute2. The switch is a bridge in a namespace; hosts hang on it by veth pairs, and so does the test.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def inside(namespace: str, name: str) -> list[str]:
    """Return what to put in front of a command so that it runs in `namespace` on a machine that is called `name`."""
    enter = ["nsenter", f"--net=/run/netns/{namespace}", "unshare", "--uts"]
    return [*enter, "sh", "-c", f'hostname {name}; exec "$@"', "sh"]


class Network:
    """A switch. The test itself is at `<net>.1`; hosts get the next addresses in order."""

    def __init__(self) -> None:
        # Interface names hold 15 bytes; the pid keeps runs side by side apart.
        self._id = f"m{os.getpid() % 100_000}"
        self._net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self._switch = f"{self._id}-sw"
        self._hosts: dict[str, int] = {}

    @property
    def here(self) -> str:
        """The test's own address on the switch."""
        return f"{self._net}.1"

    @property
    def namespace(self) -> str:
        """The switch's own namespace: what hosts send to one another and to the test is forwarded there."""
        return self._switch

    def open(self) -> None:
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "name", "bridge0", "type", "bridge")
        ip("-n", self._switch, "link", "set", "bridge0", "up")
        ip("link", "add", f"{self._id}t", "type", "veth", "peer", "name", "p0", "netns", self._switch)
        ip("-n", self._switch, "link", "set", "p0", "master", "bridge0", "up")
        ip("addr", "add", f"{self.here}/24", "dev", f"{self._id}t")
        ip("link", "set", f"{self._id}t", "up")

    def add(self, name: str) -> list[str]:
        """Make a host; returns what to put in front of a command so that it runs there, under that host name."""
        number = len(self._hosts) + 1
        self._hosts[name] = number
        namespace = f"{self._id}-{number}"
        ip("netns", "add", namespace)
        ip("-n", self._switch, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("-n", self._switch, "link", "set", f"p{number}", "master", "bridge0", "up")
        ip("-n", namespace, "addr", "add", f"{self._net}.{number + 1}/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        return inside(namespace, name)

    def address(self, name: str) -> str:
        return f"{self._net}.{self._hosts[name] + 1}"

    def cut(self, name: str) -> None:
        """Pull the host's plug: frames are dropped, no connection is told."""
        ip("-n", self._switch, "link", "set", f"p{self._hosts[name]}", "down")

    def heal(self, name: str) -> None:
        """Put the plug back."""
        ip("-n", self._switch, "link", "set", f"p{self._hosts[name]}", "up")

    def close(self) -> None:
        for namespace in [self._switch, *(f"{self._id}-{number}" for number in self._hosts.values())]:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", f"{self._id}t"], capture_output=True, check=False)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Lend a switch; skips where namespaces cannot be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("nsenter") is None:
        pytest.skip("network namespaces need root and iproute2")
    made = Network()
    try:
        made.open()
        yield made
    finally:
        made.close()
