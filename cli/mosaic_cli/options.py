"""Options that many commands share, so that they are called, explained and completed alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mosaic_cli import completion
from mosaic_cli.output import Format
from mosaic_cli.text import duration

Output = Annotated[Format, typer.Option("--output", "-o", help="How to show it.")]
Context = Annotated[
    str,
    typer.Option(
        "--context",
        envvar="MOSAIC_CONTEXT",
        help="The cluster to talk to; default: the current context.",
        autocompletion=completion.contexts,
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", envvar="MOSAIC_TENANT", help="Default: the context's tenant.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", parser=duration, metavar="TIME", help="How long to wait for the effect, e.g. 30s or 5m."),
]
Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for the effect.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Keep showing changes; with -o json one object a line.")]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why, for who looks later.")]
Roster = Annotated[
    Path | None,
    typer.Option("--roster", help="The roster file; default: fleet/roster.yaml in the Mosaic home."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="Read the token from this file; default: standard input."),
]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME[=VALUE]", help="Only with this label; may be said more than once."),
]


Cluster = Annotated[
    str,
    typer.Option("--cluster", metavar="NAME", help="Only of this cluster: a peer's name; '*': this one and all peers."),
]


def labels(words: list[str]) -> tuple[tuple[str, str | None], ...]:
    """Return the selectors that `--label` names: a name, and the value asked for, None for any."""
    found = []
    for word in words:
        name, has_value, value = word.partition("=")
        found.append((name, value if has_value else None))
    return tuple(found)
