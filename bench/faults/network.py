"""The machines' network of one seed: a namespace with a name for each, joined by a switch that can be told to fail.

It is made in the seed's own network and mount namespaces (machine.py), so names and addresses collide with nothing,
and all of it goes with the seed's last process.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.hub import Hub, Rules
from tests.support.namespaces import inside, ip

HERE = "clients"
_NET = "10.99.0"


class Network:
    """`names` of machines; whoever makes it is the machine `clients`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._ports = {name: number for number, name in enumerate([HERE, *names])}
        ip("link", "set", "lo", "up")
        self._hub = Hub(len(self._ports))
        self._rules = Rules()
        for name, number in self._ports.items():
            device, inner = f"hub{number}", () if name == HERE else ("-n", name)
            if inner:
                ip("netns", "add", name)
                ip("link", "set", device, "netns", name)
                ip(*inner, "link", "set", "lo", "up")
            ip(*inner, "addr", "add", f"{self.address(name)}/24", "dev", device)
            ip(*inner, "link", "set", device, "up")

    def address(self, name: str) -> str:
        return f"{_NET}.{self._ports[name] + 1}"

    def prefix(self, name: str) -> list[str]:
        """What to put in front of a command so that it runs on that machine."""
        return inside(name, name)

    def cut(self, one: str, others: Sequence[str] = ()) -> None:
        """Let nothing pass between `one` and `others`; without others, and all."""
        self._rules.cut |= self._pairs(one, others)
        self._apply()

    def join(self, one: str, others: Sequence[str] = ()) -> None:
        """Take a cut back."""
        self._rules.cut -= self._pairs(one, others)
        self._apply()

    def lose(self, names: Sequence[str], share: float) -> None:
        """Lose this share of the frames from and to each of `names`."""
        for name in names:
            self._rules.loss[self._ports[name]] = share
        self._apply()

    def delay(self, name: str, seconds: float) -> None:
        """Let each frame from and to `name` take so long."""
        self._rules.delay[self._ports[name]] = seconds
        self._apply()

    def heal(self) -> None:
        """Let everything pass at once again."""
        self._rules = Rules()
        self._apply()

    def close(self) -> None:
        self._hub.close()

    def _pairs(self, one: str, others: Sequence[str]) -> set[frozenset[int]]:
        names = others or [name for name in self._ports if name != one]
        return {frozenset((self._ports[one], self._ports[name])) for name in names}

    def _apply(self) -> None:
        self._hub.rules = self._rules
        self._hub.apply()
