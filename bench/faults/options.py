"""How a seed is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """`window`: seconds in which faults happen; `converge_seconds`: how soon after it every view has to be right."""

    seed: int
    window: float = 9.0
    faults: int = 8
    converge_seconds: float = 5.0
    without_fence: bool = False
