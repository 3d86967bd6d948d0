"""Three clusters and how they are paired: A with B, B with C (pure)."""

from __future__ import annotations

from dataclasses import dataclass

REPLICAS = {"a": ("a1",), "b": ("b1", "b2"), "c": ("c1",)}
"""cluster → its control planes, each on a machine of its own"""
DATABASES = {cluster: f"{cluster}-db" for cluster in REPLICAS}
HOSTS = {"b": "b-host", "c": "c-host"}
"""cluster → its one real host"""
SEATS = {"b-host": ("b-one", "b-two"), "c-host": ("c-one",)}
MACHINES = (*(name for names in REPLICAS.values() for name in names), *DATABASES.values(), *HOSTS.values())
PAIRS = (("a", "b"), ("b", "c"))

MOST_CLAIMED = {"a": 2, "c": 3}
"""cluster → how many of B's cards it may hold at once"""
CLAIMS = {"a": "class=docs", "c": "*"}
"""cluster → which of B's cards it may claim"""

SECRET = "secret"
CLASSES = ("builder", "reviewer", "docs", SECRET)
"""Of played agents. No grant ever matches the class `secret`."""
SEES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("class=builder", ()),
    ("class=builder,class=reviewer", ("detail",)),
    ("class=reviewer,class=docs", ("work", "process")),
    ("class=builder,class=reviewer,class=docs", ("detail", "work", "process")),
    ("class=docs,label.zone=x*", ()),
)
"""What an owner grants in turn: selectors, and the groups of fields beside the basic ones."""


@dataclass(frozen=True, slots=True)
class Side:
    """A view: what `viewer` is shown of what `owner` owns."""

    viewer: str
    owner: str


SIDES = tuple(side for one, other in PAIRS for side in (Side(one, other), Side(other, one)))


def other_sides(cluster: str) -> list[str]:
    """Return the clusters that one is paired with."""
    return [side.owner for side in SIDES if side.viewer == cluster]
