"""Frames lost on a switch of tests/support/namespaces.py, by chance, each way. Needs nft."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from tests.support.namespaces import Network

_TABLE = """
table bridge lossy {{
  chain forward {{
    type filter hook forward priority 0; policy accept;
    numgen random mod 100 < {percent} counter drop
  }}
}}
"""


def _nft(network: Network, *arguments: str, rules: str = "") -> None:
    command = ["ip", "netns", "exec", network.namespace, "nft", *arguments]
    done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"nft {' '.join(arguments)}: {done.stderr}"


@contextlib.contextmanager
def lossy(network: Network, percent: int) -> Iterator[None]:
    """Drop so many of a hundred frames that cross the switch, in either direction."""
    _nft(network, "-f", "-", rules=_TABLE.format(percent=percent))
    try:
        yield
    finally:
        _nft(network, "delete", "table", "bridge", "lossy")
