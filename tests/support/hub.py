"""A switch in user space for network namespaces: it loses, delays and cuts what it is told to, by port or by pair.

The kernel's own way (`tc netem`) is not built everywhere; TAP devices are. Needs root, iproute2 and /dev/net/tun.
Run as a program (COUNT of ports) it makes the TAP devices `hub0` … in its own namespace, says `ready`, and takes one
JSON object a line on its standard input: {"cut": [[a, b], …], "loss": {port: share}, "delay": {port: seconds}}. Each
replaces what was there before.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field

from tests.support.checkout import ROOT

_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000  # IFF_TAP | IFF_NO_PI
_FRAME = 2048
_WAITING_FRAMES = 4096  # of delayed ones: more are dropped, as a router with a full buffer does
_ETHERNET = 14


@dataclass
class Rules:
    """What happens to a frame on its way from one port to another."""

    cut: set[frozenset[int]] = field(default_factory=set)
    loss: dict[int, float] = field(default_factory=dict)
    delay: dict[int, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> Rules:
        told = json.loads(line)
        return cls(
            {frozenset(pair) for pair in told["cut"]},
            {int(port): share for port, share in told["loss"].items()},
            {int(port): seconds for port, seconds in told["delay"].items()},
        )

    def line(self) -> str:
        return json.dumps({"cut": [sorted(pair) for pair in self.cut], "loss": self.loss, "delay": self.delay})

    def way(self, source: int, target: int, chance: random.Random) -> float | None:
        """Return the seconds that a frame takes; None: it is lost. Each port loses by itself, as each line does."""
        if frozenset((source, target)) in self.cut:
            return None
        for port in (source, target):
            if port in self.loss and chance.random() < self.loss[port]:
                return None
        return self.delay.get(source, 0.0) + self.delay.get(target, 0.0)


class Told:
    """The rules as they come in, in parts of any size."""

    def __init__(self) -> None:
        self._rest = b""

    def rules_after(self, part: bytes) -> Rules | None:
        """Return the last rules that are whole with this part; None where it ends none."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        return Rules.parse(lines[-1].decode()) if lines else None


class Hub:
    """The switch as a process of its own."""

    def __init__(self, ports: int) -> None:
        self.rules = Rules()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.hub", str(ports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"

    def apply(self) -> None:
        """Let `rules`, as they are now, hold."""
        assert self._process.stdin is not None
        self._process.stdin.write(self.rules.line() + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def _tap(name: str) -> int:
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP_WITHOUT_HEADER))
    return handle


class _Switch:
    """Learns who sits at which port; sends on, or keeps for as long as the way takes."""

    def __init__(self, ports: list[int]) -> None:
        self.rules = Rules()
        self._ports = ports
        self._known: dict[bytes, int] = {}
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._numbers = itertools.count()
        self._chance = random.Random(0)

    def take(self, source: int, frame: bytes) -> None:
        if len(frame) < _ETHERNET:
            return
        self._known[frame[6:12]] = source
        known = self._known.get(frame[:6])
        for target in [known] if known is not None else range(len(self._ports)):
            if target == source:
                continue
            seconds = self.rules.way(source, target, self._chance)
            if seconds is None:
                continue
            if not seconds:
                self._send(target, frame)
            elif len(self._waiting) < _WAITING_FRAMES:
                heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._numbers), target, frame))

    def send_what_is_due(self) -> float | None:
        """Send on what has waited long enough; returns the seconds until the next, None when nothing waits."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(self._waiting)
            self._send(target, frame)
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None

    def _send(self, target: int, frame: bytes) -> None:
        try:
            os.write(self._ports[target], frame)
        except OSError:  # the device is down, or its queue full: a frame is lost, as on any wire
            return


def _run(count: int) -> None:
    ports = [_tap(f"hub{number}") for number in range(count)]
    switch = _Switch(ports)
    poll = select.epoll()
    numbers = {handle: number for number, handle in enumerate(ports)}
    for handle in (*ports, sys.stdin.fileno()):
        poll.register(handle, select.EPOLLIN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    told = Told()
    while True:
        due = switch.send_what_is_due()
        for handle, _events in poll.poll(None if due is None else due):
            if handle not in numbers:
                # Not by readline: of several lines that come at once it keeps all but the first to itself.
                part = os.read(handle, 65_536)
                if not part:
                    return
                switch.rules = told.rules_after(part) or switch.rules
                continue
            for _ in range(64):  # then look at the others, too
                try:
                    frame = os.read(handle, _FRAME)
                except BlockingIOError:
                    break
                except OSError:  # the device was taken down with its namespace
                    poll.unregister(handle)
                    break
                switch.take(numbers[handle], frame)


if __name__ == "__main__":
    _run(int(sys.argv[1]))
