"""The last step of what makes a roster file: show the difference, ask, write, say what to run next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaic_framework.paths import Home
from mosaic_framework.roster_model import Roster
from mosaic_framework.roster_write import Writing, write_roster

from mosaic_cli import diffs, output, questions
from mosaic_cli.asking import NotAgreed, agree
from mosaic_cli.output import Thing

_DONE = {"created": "written", "changed": "written anew", "unchanged": "as it was; nothing to do"}
_WOULD = {"created": "would be written", "changed": "would be written anew", "unchanged": "as it is; nothing to do"}


def finish(
    home: Home,
    writing: Writing,
    roster: Roster,
    steps: Sequence[str],
    *,
    force: bool = False,
    dry_run: bool = False,
    ask: bool = False,
    yes: bool = False,
) -> Thing:
    """Write unless it is a dry run, and return what was done. `ask`: even before a new file is made.

    Raises RosterHandEdited without `force`; a person's no ends with 1.
    """
    if writing.kind == "changed" or dry_run or ask:
        for line in diffs.render(writing.diff()).splitlines():
            output.say(line)
    backup = None
    if not dry_run:
        if writing.kind == "changed" and writing.by_tool:
            agree(f"replace {writing.path} (a backup is kept)", yes=yes or force)
        elif ask and writing.kind == "created" and not questions.agreed(f"Write {writing.path}?", default=True):
            raise NotAgreed(1)
        backup = write_roster(home, writing, force=force)
    told = (_WOULD if dry_run else _DONE)[writing.kind]
    body: dict[str, Any] = {
        "file": str(writing.path),
        "change": writing.kind,
        "dryRun": dry_run,
        "backup": str(backup) if backup else None,
        "agents": [
            {"name": agent.name, "class": agent.class_, "runtime": agent.runtime, "unattended": agent.unattended}
            for agent in roster.agents
        ],
        "next": list(steps),
    }
    lines = [
        ("roster", f"{writing.path} ({told})"),
        ("backup", str(backup) if backup else ""),
        ("agents", ", ".join(f"{agent.name} ({agent.runtime})" for agent in roster.agents)),
    ]
    text = "next:\n" + "".join(f"  {step}\n" for step in steps)
    return Thing("RosterWriting", str(writing.path), body, lines, text)
