"""The clock: how far this machine's is from the control plane's, and that from the database's."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding
from mosaic_cli.text import age

_OFF, _FAR_OFF = 2.0, 60.0
"""Seconds: below the first nobody is misled; from the second on, times are useless and new certificates in danger."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Seconds since the epoch: ours before and after the call, and what the replica and its database said meanwhile."""

    before: float
    after: float
    replica: float
    database: float


def judge(read: Readings, repair: str) -> Iterable[Finding]:
    """Say how far the clocks are apart. The other's time lies between our two readings: only what is more counts."""
    certain = max(read.before - read.replica, read.replica - read.after)
    ahead = (read.before + read.after) / 2 - read.replica
    if certain < _OFF:
        yield Finding("clock", WELL, "agrees with the control plane's")
    else:
        text = f"this machine's clock is {age(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the control plane's"
        if certain >= _FAR_OFF:
            yield Finding("clock", WRONG, f"{text}: certificates seem too old or too new here", repair)
        else:
            yield Finding("clock", NOTE, f"{text}; ages shown here are wrong by that", repair)
    apart = read.replica - read.database
    if abs(apart) >= _OFF:
        text = f"the control plane's clock is {age(abs(apart))} {'ahead of' if apart > 0 else 'behind'} its database's"
        yield Finding("clock", NOTE, text, f"where the control plane runs: {repair}")


def judge_by_certificate(begins: datetime, ends: datetime, now: datetime, repair: str) -> Iterable[Finding]:
    """Say how far off the clock is at least, by the certificate that a control plane shows now, which is renewed daily.

    For when it can be asked nothing else: who takes it for not valid yet, or for expired, gets no connection.
    """
    for off, way in ((begins - now, "behind"), (now - ends, "ahead of")):
        if off > timedelta(0):
            text = f"this machine's clock is at least {age(off.total_seconds())} {way} the control plane's"
            yield Finding("clock", WRONG, f"{text}, whose certificate of today is of no use by it", repair)


def set_clock() -> str:
    """Return the command that sets the clock of this kind of machine."""
    if sys.platform == "darwin":
        return "sudo sntp -sS time.apple.com"
    if shutil.which("chronyc"):
        return "sudo chronyc makestep"
    return "sudo timedatectl set-ntp true"
