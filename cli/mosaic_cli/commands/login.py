"""mosaic login: become an operator of a cluster, with a one-time token."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import groups, options, output

app = groups.verb("login")


@app.command()
def login(
    token_file: options.TokenFile = None,
    name: Annotated[str, typer.Option("--name", help="What to call the context; default: the cluster's host.")] = "",
) -> None:
    """Log in with a one-time code from standard input or a file: of `mosaic operator token`, or, for a cluster's first
    operator, of `mosaic-controlplane operator-token`."""
    from mosaic_cli.join import login_operator

    context = login_operator(token_file, name=name)
    output.say(f"logged in; the current context is {context.name} (try: mosaic fleet ps)")
