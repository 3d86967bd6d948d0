"""Which replicas a login knows: those of its certificate, and any that a reply has told of since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mosaic_framework.identity_files import StoredIdentity, alone

MOST = 8
"""How many are kept, as by a host: those of replicas that are away too, for they may be all that is left next time."""


def with_told(known: Sequence[str], told: Sequence[str]) -> list[str]:
    """Return what is known after so many were told to live now: those first, then the others while there is room."""
    return list(dict.fromkeys([*told, *known]))[:MOST]


def keep(folder: Path, identity: StoredIdentity) -> None:
    """Write the addresses of `identity` to the one in `folder`, should it be that. Raises OSError, FleetError."""
    with alone(folder):
        newest = StoredIdentity.load(folder)  # it may have been renewed, or be another one by now
        if newest.identity_id == identity.identity_id:
            replace(newest, fleet_addresses=identity.fleet_addresses).save(folder)
