"""`mosaic fleet provision`: a profile becomes a roster; shown first, written when asked for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mosaic_framework.catalog import Catalog
from mosaic_framework.paths import Home
from mosaic_framework.provision import RuntimeChoice, RuntimePolicy, load_policy, provision, topology
from mosaic_framework.reseed import reseed
from mosaic_framework.roster_file import dump_roster
from mosaic_framework.roster_model import Roster
from mosaic_framework.roster_write import RosterExists, plan_writing, roster_target
from mosaic_framework.wizard import SCHEMA_LINE, next_steps, says_same

from mosaic_cli import output
from mosaic_cli.failures import UsageError
from mosaic_cli.init_fleet import find_runtimes, is_usual
from mosaic_cli.output import Thing
from mosaic_cli.roster_writing import finish


@dataclass(frozen=True, slots=True)
class ProvisionWish:
    """What the command line says. `runtimes`: class → "runtime" or "runtime:model", "*" for every other class."""

    profile: str
    full: bool = False
    write: bool = False
    force: bool = False
    unattended: bool = False
    runtimes: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None


def provision_fleet(wish: ProvisionWish) -> Thing:
    """Make the roster of a profile, and write it where asked to.

    Raises NotFound, ProfileInvalid, PolicyInvalid, and RosterExists where a roster would be replaced without force.
    """
    home = Home.from_environment()
    catalog = Catalog.open(home)
    policy = choices(load_policy(home), wish.runtimes)
    roster = provision(wish.profile, catalog=catalog, policy=policy, full=wish.full, unattended=wish.unattended)
    target = roster_target(home, wish.path)
    usual = is_usual(home, target)
    text = _text(roster, full=wish.full, source=str(target), with_schema=usual)

    def same(content: bytes) -> bool:
        return says_same(content, roster, source=str(target), catalog=catalog)

    writing = plan_writing(home, target, text, says_same=same)
    if not wish.write:
        output.say(f"nothing was written; to write {target}: {_again(wish, force=writing.kind == 'changed')}")
        body = {
            "file": str(target),
            "change": writing.kind,
            "roster": roster.as_written(),
            "topology": topology(roster),
        }
        return Thing("RosterPlan", str(target), body, [], f"{text}\n{_commented(roster)}")
    if writing.kind == "changed" and not wish.force:
        raise RosterExists(
            f"there is a roster already: {writing.path}",
            why=f"the new one would differ in {sum(line[:1] in '+-' for line in writing.diff()[2:])} lines",
            next_step="look at it without --write; --force replaces it and keeps a backup",
        )
    steps = next_steps(roster, find_runtimes(catalog), catalog, path="" if usual else str(target))
    if usual:
        home.fleet.mkdir(mode=0o700, parents=True, exist_ok=True)
        reseed(home, catalog, only_seed=True)
    thing = finish(home, writing, roster, steps, force=wish.force)
    drawn = "\n".join(topology(roster))
    return Thing(thing.kind, thing.name, thing.body, thing.lines, f"{drawn}\n\n{thing.text}")


def _again(wish: ProvisionWish, *, force: bool) -> str:
    """Return the command that writes just what was shown."""
    words = ["mosaic", "fleet", "provision", "--profile", wish.profile]
    words += ["--full"] if wish.full else []
    words += ["--unattended"] if wish.unattended else []
    for name, choice in wish.runtimes.items():
        words += ["--runtime", choice if name == "*" else f"{name}={choice}"]
    words += ["--roster", str(wish.path)] if wish.path is not None else []
    return shlex.join([*words, "--write", *(["--force"] if force else [])])


def choices(policy: RuntimePolicy, given: Mapping[str, str]) -> RuntimePolicy:
    """Return the policy with what the command line says over it. Raises UsageError."""
    classes = dict(policy.classes)
    default = policy.default
    for name, text in given.items():
        runtime, _, model = text.partition(":")
        try:
            choice = RuntimeChoice(runtime=runtime, model_hint=model or None)
        except ValueError as error:
            raise UsageError(f"--runtime {name}={text} is not understood", why="say CLASS=RUNTIME[:MODEL]") from error
        if name == "*":
            default = choice
        else:
            classes[name] = choice
    return RuntimePolicy(default=default, classes=classes)


def _text(roster: Roster, *, full: bool, source: str, with_schema: bool) -> str:
    if source.endswith(".json"):
        return json.dumps(roster.as_written(), ensure_ascii=False, indent=2) + "\n"
    seats = "every seat" if full else "the seats of its floor"
    return (
        (SCHEMA_LINE if with_schema else "")
        + f"# Made by `mosaic fleet provision` from the profile {roster.profile}: {seats}.\n"
        "# It is yours to edit; it is never overwritten without --force. Then: mosaic fleet apply\n"
        + dump_roster(roster)
    )


def _commented(roster: Roster) -> str:
    """Return the topology as comments, so that all of stdout is still a roster."""
    return "\n".join(["# Who reports to whom:", *(f"#   {line}" for line in topology(roster))])
