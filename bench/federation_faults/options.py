"""How a seed is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """`window`: seconds in which faults happen; `converge_seconds`: how soon after it every view has to be right.

    `keeping_ghosts`: the registers let no row of a peer go, which the checker has to find.
    """

    seed: int
    window: float = 10.0
    faults: int = 7
    converge_seconds: float = 5.0
    keeping_ghosts: bool = False
