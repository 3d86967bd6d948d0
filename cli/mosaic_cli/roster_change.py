"""`fleet add` and `fleet remove`: one edit of the roster file, made the desired roster at once, or taken back.

The file and the register change together: what the control plane refuses is not left standing in the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import InvalidInput, RosterChanged
from mosaic_framework.pane import Pane
from mosaic_framework.paths import Home
from mosaic_framework.roles import resolve_class
from mosaic_framework.roster_edit import add_agent, remove_agents
from mosaic_framework.roster_file import load_roster, roster_path
from mosaic_framework.roster_model import Agent
from mosaic_framework.roster_write import replace_file
from pydantic import ValidationError

from mosaic_cli import context as contexts
from mosaic_cli import diffs, output
from mosaic_cli.alone import alone
from mosaic_cli.apply import Change, Wish, apply_roster
from mosaic_cli.client import ConnectionLost, NoAnswer
from mosaic_cli.output import Listing, Thing

CHANGE = "roster change"
"""What is done alone: of two changes at once, the second would undo the first without knowing of it."""

Edit = Callable[[str, str, Catalog], str]
"""(text, source, catalog) → the text changed."""


@dataclass(frozen=True, slots=True)
class ChangeWish:
    """What the command line says beside the edit itself. `apply` False: change the file alone."""

    path: Path | None = None
    apply: bool = True
    dry_run: bool = False
    yes: bool = False
    detach: bool = False
    timeout: float = 60.0


def agent_of(fields: dict[str, Any]) -> Agent:
    """Return the agent that the command line describes; fields not given are left out. Raises InvalidInput."""
    try:
        return Agent.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        told = first.get("ctx", {}).get("error", first["msg"])
        raise InvalidInput(
            f"--{where}: {told}" if where != "name" else str(told), next_step="mosaic fleet add --help"
        ) from error


def add(agent: Agent, wish: ChangeWish, *, start: bool, context: str, tenant: str) -> Listing[Change] | Thing:
    """Add one agent. Without `start` it is added stopped, and stays so until it is started.

    Raises Conflict (the name is taken), FloorBroken, RosterInvalid, RosterChanged, and what applying raises.
    """

    def edit(text: str, source: str, catalog: Catalog) -> str:
        return add_agent(text, agent, source=source, catalog=catalog, canonical=_canonical(catalog))

    def edit_stopped(text: str, source: str, catalog: Catalog) -> str:
        sleeping = agent.model_copy(update={"lifecycle": "on-demand"})
        return add_agent(text, sleeping, source=source, catalog=catalog, canonical=_canonical(catalog))

    # A seat that is new and started on demand is not started; changed to its own lifecycle later, it stays as it is.
    first = edit_stopped if not start and agent.lifecycle == "always" else None
    return _change(edit, wish, context=context, tenant=tenant, first=first)


def remove(names: list[str], wish: ChangeWish, *, context: str, tenant: str) -> Listing[Change] | Thing:
    """Remove agents. Raises NotFound, FloorBroken (the last holder of a floor class), and what applying raises."""

    def edit(text: str, source: str, catalog: Catalog) -> str:
        return remove_agents(text, names, source=source, catalog=catalog, canonical=_canonical(catalog))

    return _change(edit, wish, context=context, tenant=tenant)


def _change(
    edit: Edit, wish: ChangeWish, *, context: str, tenant: str, first: Edit | None = None
) -> Listing[Change] | Thing:
    home = Home.from_environment()
    with alone(home, CHANGE):
        return _changed(home, edit, wish, context=context, tenant=tenant, first=first)


def _changed(
    home: Home, edit: Edit, wish: ChangeWish, *, context: str, tenant: str, first: Edit | None
) -> Listing[Change] | Thing:
    catalog = Catalog.open(home)
    path = (wish.path or roster_path(home)).resolve()
    before = load_roster(path, catalog=catalog).text
    after = edit(before, str(path), catalog)
    for line in diffs.render(
        diffs.unified(before, after, before_name=str(path), after_name=f"{path} (new)")
    ).splitlines():
        output.say(line)
    if wish.apply and Pane.from_environment(os.environ) is None:
        contexts.load(home).chosen(context)  # told before anything is written: no cluster is set up here
    if wish.dry_run:
        output.say("nothing was done")
        return _written(path, dry_run=True)
    original = path.read_bytes()
    if not wish.apply:
        replace_file(path, after.encode())
        return _written(path, dry_run=False)
    known = _versions(home)
    try:
        if first is not None:
            replace_file(path, first(before, str(path), catalog).encode())
            apply_roster(Wish(path, yes=wish.yes, detach=True), context=context, tenant=tenant)
        replace_file(path, after.encode())
        settings = Wish(path, yes=wish.yes, detach=wish.detach, timeout=wish.timeout)
        return apply_roster(settings, context=context, tenant=tenant)
    except (ConnectionLost, NoAnswer):
        output.say(f"whether it was applied is not known; {path} says what was wanted; look: mosaic fleet diff")
        raise
    except BaseException as error:
        applied = _versions(home) != known
        replace_file(path, after.encode() if applied else original)
        if not applied:
            output.say(f"{path} is as it was")
        if isinstance(error, RosterChanged):
            error.next_step = "take the other one over first: mosaic fleet diff --pull"
        raise


def _versions(home: Home) -> dict[str, bytes]:
    """Return the roster versions that were applied from here, as kept by `apply`, for comparing."""
    folder = home.state / "rosters"
    return {path.name: path.read_bytes() for path in folder.glob("*.json")} if folder.is_dir() else {}


def _canonical(catalog: Catalog) -> Callable[[str], str | None]:
    return lambda name: resolve_class(catalog, name)


def _written(path: Path, *, dry_run: bool) -> Thing:
    told = "would be changed" if dry_run else "changed; make it so: mosaic fleet apply"
    return Thing("RosterWriting", str(path), {"file": str(path), "dryRun": dry_run}, [("roster", f"{path} ({told})")])
