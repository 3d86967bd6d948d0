"""Where the control plane is: what its replicas said of one another, kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import structlog

from mosaic_hostagent.config import is_address
from mosaic_hostagent.storage import StateUnwritable, write_state

FILE = "addresses.json"
MOST = 8
"""How many are kept: those of replicas that are away too, for they may be all that is left the next time."""

log = structlog.get_logger(__name__)


def spread(addresses: Sequence[str], *, host_id: str) -> list[str]:
    """Return the addresses in this host's own order, always the same: each of n is the first of about 1/n of all hosts.

    One that comes or goes leaves the order of the others as it is (rendezvous hashing, Thaler and Ravishankar 1998).
    """
    return sorted(set(addresses), key=lambda address: hashlib.sha256(f"{host_id} {address}".encode()).digest())


def following(addresses: Sequence[str], last: str) -> str:
    """Return what is dialled after `last`: the next in order, the first when that one is unknown or was at the end."""
    position = addresses.index(last) + 1 if last in addresses else 0
    return addresses[position % len(addresses)]


class KnownAddresses:
    """Fleet addresses (host:port), the newest word first, in the host's own order.

    `state/addresses.json` names the host identity it is of.
    """

    def __init__(self, folder: Path, *, host_id: str) -> None:
        self._path = folder / FILE
        self._host_id = host_id
        self._told = self._load()

    def to_dial(self, of_identity: Sequence[str]) -> list[str]:
        """Return all that may be dialled, in order: what the control plane said, then what the host joined with."""
        return list(dict.fromkeys([*self._told, *spread(of_identity, host_id=self._host_id)]))

    def learn(self, told: Sequence[str]) -> None:
        """Take the addresses of the replicas that live now; those known before stay behind them while there is room."""
        told = spread([address for address in told if is_address(address)], host_id=self._host_id)
        known = list(dict.fromkeys([*told, *self._told]))[:MOST]
        if not told or known == self._told:
            return
        self._told = known
        content = json.dumps({"host": self._host_id, "addresses": known})
        try:
            write_state(self._path, content.encode() + b"\n")
        except StateUnwritable as error:
            log.error("the control plane's addresses are not on disk", what=error.what, why=error.why)

    def _load(self) -> list[str]:
        try:
            found = json.loads(self._path.read_bytes())
            if found["host"] != self._host_id:
                return []
            return [address for address in found["addresses"] if is_address(address)][:MOST]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            # They are told again with the next link, which the identity's own addresses lead to.
            log.warning("the addresses on disk cannot be read", file=str(self._path), why=str(error))
            return []
