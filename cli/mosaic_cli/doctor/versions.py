"""Versions that do not go together: this program, host-agents, replicas, and the register's migrations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding


@dataclass(frozen=True, slots=True)
class Versions:
    """What runs where. `replicas`: all that were told, the one that answered among them; `hosts`: name → version.

    `register` and `known` are the newest migration of the register and of the replica's program; 0: not told.
    """

    here: str
    answering: str
    replicas: Sequence[str]
    hosts: Mapping[str, str]
    register: int
    known: int


def judge(found: Versions) -> Iterator[Finding]:
    """Say what is of another version than the control plane."""
    well = True
    others = sorted({*found.replicas, found.answering} - {""})
    if len(others) > 1:
        text = f"replicas run {' and '.join(others)}"
        yield Finding("versions", NOTE, text, "finish the upgrade where the older one runs: mosaic update")
        well = False
    if found.here != found.answering:
        text = f"this program is {found.here}, the control plane {found.answering}"
        yield Finding("versions", NOTE, text, "mosaic update, here or there: on the older one")
        well = False
    behind = sorted(name for name, version in found.hosts.items() if version not in ("", found.answering))
    if behind:
        kinds = " and ".join(sorted({found.hosts[name] for name in behind}))
        names = ", ".join(behind[:5]) + (f" and {len(behind) - 5} more" if len(behind) > 5 else "")
        text = f"{len(behind)} of {len(found.hosts)} host-agents run {kinds}, not {found.answering}: {names}"
        yield Finding("versions", NOTE, text, "there: mosaic update, then restart the host-agent (its agents run on)")
        well = False
    if found.register > found.known > 0:
        text = f"the register has migration {found.register}, the control plane that answers knows {found.known}"
        yield Finding("versions", WRONG, text, "update that control plane: mosaic update, then: mosaic down; mosaic up")
        well = False
    elif 0 < found.register < found.known:
        text = f"the register has migration {found.register}, the control plane that answers brings {found.known}"
        yield Finding("versions", NOTE, text, "let the control plane start anew: it migrates the register")
        well = False
    if well:
        yield Finding("versions", WELL, f"{found.here} everywhere, register at migration {found.register}")
