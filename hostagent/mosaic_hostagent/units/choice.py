"""Which supervision this home has, as `mosaic fleet install` left it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mosaic_framework import units
from mosaic_framework.paths import Home
from mosaic_framework.users import user_name

from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.units.builtin import BuiltIn
from mosaic_hostagent.units.supervision import Supervision
from mosaic_hostagent.units.systemctl import Systemctl
from mosaic_hostagent.units.systemd import Holders, Systemd


def supervision_of(home: Home, *, environment: Mapping[str, str], stop_grace: float) -> tuple[ServerPool, Supervision]:
    """Return the tmux servers of a home, and who supervises its seats. Raises SupervisionUnknown."""
    if units.read_supervision(home) == units.BUILT_IN:
        pool = ServerPool(home.state, home=home.digest, environment=environment)
        return pool, BuiltIn(pool)
    systemctl = Systemctl(towards_systemd(environment))
    holders = Holders(systemctl=systemctl, state_folder=home.state, home=home.digest, environment=environment)
    pool = ServerPool(home.state, home=home.digest, environment=environment, holders=holders)
    return pool, Systemd(
        pool=pool,
        systemctl=systemctl,
        root=home.root,
        home=home.digest,
        user=user_name(),
        environment=environment,
        stop_grace=stop_grace,
    )


def towards_systemd(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which `systemctl --user` finds the user's manager, as pam_systemd would set it."""
    usual = Path(f"/run/user/{os.getuid()}")
    if environment.get("XDG_RUNTIME_DIR") or not usual.is_dir():
        return dict(environment)
    return {**environment, "XDG_RUNTIME_DIR": str(usual)}
