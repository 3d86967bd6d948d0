"""The floor: the classes of which a fleet always keeps a seat. Pure rules, for every path that changes a roster.

A roster's own `floor` counts; without one, orchestrator and enhancer. A fleet that did not come from a profile has one
orchestrator and never two. `canonical` turns an alias into its class (roles.resolve_class), so that a seat of the class
`reviewer` holds the floor's `review`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from mosaic_framework.errors import Conflict, NotFound
from mosaic_framework.names import nearest
from mosaic_framework.roster_model import Agent, Roster

Canonical = Callable[[str], str | None]
SOLE_CLASS = "orchestrator"


class FloorBroken(Conflict):
    """The fleet would lose its floor."""

    code = "floor-broken"


def unstaffed(roster: Roster, canonical: Canonical = lambda name: name) -> list[str]:
    """Return the floor's classes that no agent of the roster has, in the floor's order."""
    return _unstaffed(roster.agents, roster.floor_classes(), canonical)


def without_agents(roster: Roster, names: Collection[str], canonical: Canonical = lambda name: name) -> Roster:
    """Return the roster without these agents.

    Raises NotFound with the nearest names, FloorBroken where one of them is the last holder of a floor class. A class
    that nobody held before does not stand in the way: this removal does not break what is broken.
    """
    missing = [name for name in names if roster.agent(name) is None]
    if missing:
        near = nearest(missing[0], [agent.name for agent in roster.agents])
        raise NotFound(
            f"there is no agent {missing[0][:80]!r} in the roster",
            why=f"the nearest: {', '.join(near)}" if near else "",
            details={"nearest": ",".join(near)},
        )
    left = [agent for agent in roster.agents if agent.name not in names]
    before = set(unstaffed(roster, canonical))
    after = _unstaffed(left, roster.floor_classes(), canonical)
    lost = [name for name in after if name not in before]
    if lost:
        holders = _holders(roster.agents, lost[0], canonical)
        raise FloorBroken(
            f"{' and '.join(holders)} cannot be removed: the fleet keeps a seat of class {lost[0]}",
            why=f"the floor of this fleet is {', '.join(roster.floor_classes())}",
            next_step=f"add another agent of class {lost[0]} first",
        )
    if not left:
        raise FloorBroken("the last agent cannot be removed", why="a roster has at least one agent")
    return roster.model_copy(update={"agents": left})


def with_agent(roster: Roster, agent: Agent, canonical: Canonical = lambda name: name) -> Roster:
    """Return the roster with one more agent, not yet checked as a whole.

    Raises Conflict for a name that is taken, FloorBroken for a second orchestrator in a fleet that is to have one.
    """
    if roster.agent(agent.name) is not None:
        raise Conflict(f"there is already an agent {agent.name!r} in the roster", next_step="choose another name")
    class_name = canonical(agent.class_) or agent.class_
    holders = _holders(roster.agents, SOLE_CLASS, canonical)
    if class_name == SOLE_CLASS and holders and roster.profile is None and SOLE_CLASS in roster.floor_classes():
        raise FloorBroken(
            f"{agent.name} cannot be added: the fleet has its orchestrator, {holders[0]}",
            why="a fleet has one orchestrator",
            next_step="give the new agent another class",
        )
    return roster.model_copy(update={"agents": [*roster.agents, agent]})


def _unstaffed(agents: Iterable[Agent], floor: Iterable[str], canonical: Canonical) -> list[str]:
    held = {canonical(agent.class_) or agent.class_ for agent in agents}
    return [name for name in floor if (canonical(name) or name) not in held]


def _holders(agents: Iterable[Agent], class_name: str, canonical: Canonical) -> list[str]:
    wanted = canonical(class_name) or class_name
    return [agent.name for agent in agents if (canonical(agent.class_) or agent.class_) == wanted]
