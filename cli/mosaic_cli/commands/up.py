"""mosaic up."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import groups, options

app = groups.verb("up")


@app.command()
def up(
    enrol_port: Annotated[
        int | None, typer.Option("--enrol-port", min=0, max=65535, help="Where machines join; 0: any free one.")
    ] = None,
    fleet_port: Annotated[
        int | None,
        typer.Option("--fleet-port", min=0, max=65535, help="Where hosts and operators connect; 0: any free one."),
    ] = None,
    peer_port: Annotated[
        int | None, typer.Option("--peer-port", min=0, max=65535, help="Where other clusters connect; 0: any free one.")
    ] = None,
    timeout: options.Timeout = 90.0,
) -> None:
    """Start register, control plane and host-agent on this machine, in the background. Again: changes nothing."""
    from mosaic_framework.paths import Home

    from mosaic_cli.bring_up import BringUp, Options

    BringUp(Home.from_environment(), Options(enrol_port, fleet_port, peer_port, timeout)).run()
