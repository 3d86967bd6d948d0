"""Linger: whether what systemd keeps for this user outlives a logout and comes back at boot."""

from __future__ import annotations

from collections.abc import Iterator

from mosaic_framework import units
from mosaic_framework.paths import Home
from mosaic_framework.users import user_name

from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding


def check(home: Home) -> Iterator[Finding]:
    """Look at who keeps the seats, and whether the user lingers."""
    user = user_name()
    yield judge(supervision=units.read_supervision(home), user=user, lingers=units.lingers(user))


def judge(*, supervision: str, user: str, lingers: bool) -> Finding:
    """Say what a logout and a boot do to the seats of this machine."""
    if supervision != units.SYSTEMD:
        text = "seats are kept by the built-in supervision: after a boot run mosaic up"
        return Finding("linger", NOTE, text, "or let systemd keep them: mosaic fleet install")
    if not lingers:
        text = f"systemd ends the seats when {user} logs out, and starts them only at the next login"
        return Finding("linger", WRONG, text, f"sudo loginctl enable-linger {user}")
    return Finding("linger", WELL, f"{user} lingers: seats outlive a logout and come back at boot")
