"""From a profile to a roster. Pure but for `provision` and `load_policy`, which read files."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from mosaic_framework.catalog import Catalog
from mosaic_framework.document import read_bytes, read_tree, validate
from mosaic_framework.errors import InvalidInput
from mosaic_framework.fields import Name, StrictModel, Word
from mosaic_framework.marked import DocumentInvalid, Problems
from mosaic_framework.paths import Home
from mosaic_framework.profile_model import Profile
from mosaic_framework.profiles import read_profile
from mosaic_framework.roles import get_contract
from mosaic_framework.roster_file import dump_roster, parse_roster
from mosaic_framework.roster_model import Agent, Defaults, Roster, RuntimeOverride, Tmux

POLICY_FILE = "runtime-policy.yaml"
SOCKET_NAME = "mosaic-fleet"
HOLDER_SESSION = "_holder"
WORKING_DIRECTORY = "~"
RESET_COMMANDS = {"claude": "/clear", "pi": "/new"}


class RuntimeChoice(StrictModel):
    """The program of a seat, and the model it is asked for."""

    runtime: Name
    model_hint: Word | None = None


class RuntimePolicy(StrictModel):
    """Which class runs on what: the one place where a provisioned seat's runtime is decided."""

    default: RuntimeChoice = RuntimeChoice(runtime="claude")
    classes: dict[Name, RuntimeChoice] = Field(default_factory=dict)

    def choose(self, class_name: str) -> RuntimeChoice:
        """Return what a seat of that class runs on."""
        return self.classes.get(class_name, self.default)


class PolicyInvalid(DocumentInvalid):
    """The runtime policy is not valid."""

    code = "policy-invalid"


class ProvisionImpossible(InvalidInput):
    """This profile does not make a valid roster."""

    code = "provision-impossible"


def load_policy(home: Home) -> RuntimePolicy:
    """Return what `$MOSAIC_HOME/fleet/runtime-policy.yaml` says; without that file, claude for every class.

    Shape: `default: {runtime: claude}` and `classes: {code: {runtime: pi, model_hint: …}}`. Raises PolicyInvalid.
    """
    path = home.fleet / POLICY_FILE
    if not path.exists():
        return RuntimePolicy()
    problems = Problems(str(path))
    tree = read_tree(read_bytes(path, noun="runtime policy"), problems)
    policy = validate(tree, RuntimePolicy, problems) if tree is not None else None
    if policy is None or problems:
        raise PolicyInvalid(str(path), problems.sorted(), noun="runtime policy")
    return policy


def provision(
    profile_id: str,
    *,
    catalog: Catalog,
    policy: RuntimePolicy | None = None,
    full: bool = False,
    unattended: bool = False,
) -> Roster:
    """Return the roster of a profile: the floor's seats, or with `full` every seat.

    Raises NotFound, ProfileInvalid, ContractInvalid where a seat's contract cannot be read, and RosterInvalid where the
    policy names an unknown runtime or two seats would have one name.
    """
    profile = read_profile(catalog, profile_id)
    roster = make_roster(profile, policy=policy or RuntimePolicy(), full=full, unattended=unattended)
    for class_name in dict.fromkeys(agent.class_ for agent in roster.agents):
        get_contract(catalog, class_name)
    return parse_roster(dump_roster(roster), source=f"profile {profile_id}", catalog=catalog).roster


def make_roster(profile: Profile, *, policy: RuntimePolicy, full: bool = False, unattended: bool = False) -> Roster:
    """Return the roster of a valid profile (pure). Raises ProvisionImpossible where two seats would have one name."""
    seated = [seat for seat in profile.roster if full or seat.class_name in profile.floor]
    names = {seat.class_name: seat_names(seat.class_name, seat.multiplicity) for seat in seated}
    every = [name for group in names.values() for name in group]
    twice = next((name for name in every if every.count(name) > 1), None)
    if twice is not None:
        raise ProvisionImpossible(f"two seats of profile {profile.id} would be called {twice}")
    lasting = {*profile.floor, profile.lead}
    agents = []
    for class_name, group in names.items():
        choice = policy.choose(class_name)
        superior = _superior(profile, class_name, names)
        for name in group:
            fields: dict[str, object] = {"name": name, "runtime": choice.runtime, "class_": class_name}
            if choice.model_hint is not None:
                fields["model_hint"] = choice.model_hint
            fields["persistent_persona" if class_name in lasting else "reset_between_tasks"] = True
            if superior is not None:
                fields["reports_to"] = superior
            if unattended:
                fields["unattended"] = True
            agents.append(Agent.model_validate(fields))
    return Roster(
        version=1,
        transport="tmux",
        profile=profile.id,
        floor=list(profile.floor),
        tmux=Tmux(socket_name=SOCKET_NAME, holder_session=HOLDER_SESSION),
        defaults=Defaults(working_directory=WORKING_DIRECTORY),
        runtimes={name: RuntimeOverride(reset_command=command) for name, command in RESET_COMMANDS.items()},
        agents=agents,
    )


def seat_names(class_name: str, multiplicity: int) -> list[str]:
    """Return the names of the seats of a class: the class itself for one, else numbered from 0."""
    return [class_name] if multiplicity == 1 else [f"{class_name}{number}" for number in range(multiplicity)]


def topology(roster: Roster) -> list[str]:
    """Return the roster's chain of reports as lines of a drawn tree, one agent a line, in roster order."""
    children: dict[str | None, list[Agent]] = {}
    for agent in roster.agents:
        children.setdefault(_reports_to(roster, agent), []).append(agent)
    lines: list[str] = []
    drawn: set[str] = set()
    for root in children.get(None, []):
        lines += _draw(root, children, drawn, "", "")
    # Seats that report to one another in a ring hang from nothing; none is left out.
    for agent in roster.agents:
        if agent.name not in drawn:
            lines += _draw(agent, children, drawn, "", "")
    return lines


def _draw(
    agent: Agent, children: dict[str | None, list[Agent]], drawn: set[str], first: str, rest: str
) -> Iterator[str]:
    drawn.add(agent.name)
    shown = agent.name if agent.name == agent.class_ else f"{agent.name} ({agent.class_})"
    yield f"{first}{shown} · {agent.runtime}"
    below = [child for child in children.get(agent.name, []) if child.name not in drawn]
    for number, child in enumerate(below, start=1):
        last = number == len(below)
        yield from _draw(
            child, children, drawn, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   ")
        )


def _reports_to(roster: Roster, agent: Agent) -> str | None:
    """Return the name of the agent that this one reports to: by name, or the first of that class."""
    wanted = agent.reports_to
    if wanted is None or wanted == agent.name:
        return None
    if roster.agent(wanted) is not None:
        return wanted
    return next((one.name for one in roster.agents if one.class_ == wanted and one.name != agent.name), None)


def _superior(profile: Profile, class_name: str, names: dict[str, list[str]]) -> str | None:
    """Return the seat that a class reports to: the nearest one up the chart that is seated; None for the top."""
    climbed = _above(profile, class_name)
    while climbed is not None and climbed not in names:
        climbed = _above(profile, climbed)
    return names[climbed][0] if climbed is not None else None


def _above(profile: Profile, class_name: str) -> str | None:
    seat = profile.seat(class_name)
    if seat is None or class_name == profile.lead:
        return None
    return seat.reports_to or profile.lead
