"""mosaic version: of this program, and of the cluster when it can be reached."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from mosaic_framework import __version__
from mosaic_framework.errors import FleetError

from mosaic_cli import groups, options, output
from mosaic_cli.output import Format, Thing

app = groups.verb("version")


@app.command()
def version(
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    client: Annotated[bool, typer.Option("--client", help="Only this program's; do not ask the cluster.")] = False,
) -> None:
    """Show the version of this program and of the cluster."""
    cluster = None if client else _cluster(context)
    lines = [("mosaic", __version__)]
    if cluster:
        lines.append(("cluster", f"{cluster['version']} ({cluster['alias']}, {cluster['trustDomain']})"))
    output.show(Thing("Version", __version__, {"client": __version__, "cluster": cluster}, lines), output_form)


def _cluster(context: str) -> dict[str, Any] | None:
    """Ask the cluster. This program's own version is worth showing even when nobody answers, so that is only talk."""
    from mosaic_proto.v1 import fleet_pb2 as pb

    from mosaic_cli.client import connect

    try:
        with connect(context) as connection:
            reply = connection.call(connection.fleet.GetCluster, pb.GetClusterRequest())
    except FleetError as error:
        output.say(f"no cluster answers: {error.what}")
        return None
    return {
        "alias": reply.cluster,
        "trustDomain": reply.trust_domain,
        "version": reply.version,
        "replicaId": reply.replica_id,
        "replicas": reply.replicas,
    }
