"""mosaic host: token, join, ls, show; draining, removing and what is done about lost hosts: host_life."""

from __future__ import annotations

from typing import Annotated

import typer
from mosaic_framework.names import check_name

from mosaic_cli import completion, groups, options, output
from mosaic_cli.commands import host_life
from mosaic_cli.output import Format, Thing
from mosaic_cli.text import duration

app = groups.noun("host", "Machines of the fleet.")
app.add_typer(host_life.app)


@app.command("token")
def token(
    name: Annotated[str, typer.Argument(help="What the host will be called.")],
    ttl: Annotated[
        float, typer.Option("--ttl", parser=duration, metavar="TIME", help="How long it can be used.")
    ] = 600.0,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Make a one-time token with which a machine joins as NAME: the token on stdout, what to do with it on stderr."""
    check_name(name, what="host")
    from mosaic_proto.v1 import fleet_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.documents import moment, rfc3339
    from mosaic_cli.text import local_time

    with connect(context, tenant=tenant) as connection:
        request = pb.CreateHostTokenRequest(tenant=connection.tenant, name=name, ttl_seconds=max(int(ttl), 1))
        reply = connection.call(connection.hosts.CreateToken, request)
    if output_form in (Format.TABLE, Format.WIDE, Format.NAME):
        output.write(reply.token + "\n")
        output.say(f"on the machine that becomes {name}, run: mosaic host join")
        output.say(f"and paste the token there; it works once, until {local_time(moment(reply.expires_at))}")
    else:
        body = {"name": name, "token": reply.token, "expiresAt": rfc3339(reply.expires_at)}
        output.show(Thing("HostToken", name, body, []), output_form)


@app.command("join")
def join(
    token_file: options.TokenFile = None,
    name: Annotated[str, typer.Option("--name", help="Refuse a token that was made for another host.")] = "",
    start: Annotated[bool, typer.Option("--start/--no-start", help="Start the host-agent at once.")] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Leave the cluster this machine is in now.")] = False,
    timeout: options.Timeout = 30.0,
) -> None:
    """Join this machine to a cluster, with a token of `mosaic host token` from standard input or a file."""
    from mosaic_cli.join import join_host

    join_host(token_file, name=name, start=start, replace=replace, timeout=timeout)


@app.command("ls")
def list_hosts(
    output_form: options.Output = Format.TABLE,
    watch: options.Watch = False,
    every: Annotated[bool, typer.Option("--all", help="Also those that were taken out of the fleet.")] = False,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """List hosts, those that were not heard of first."""
    from mosaic_cli import listing

    listing.show_hosts(form=output_form, watch=watch, every=every, context=context, tenant=tenant)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A host of `mosaic host ls`.", autocompletion=completion.hosts)],
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show one host."""
    from mosaic_proto.v1 import fleet_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.documents import host_document, moment
    from mosaic_cli.fleet_view import host_state
    from mosaic_cli.host_words import last_beat, lost_words
    from mosaic_cli.nearest import no_such_host
    from mosaic_cli.text import local_time

    with connect(context, tenant=tenant) as connection:
        reply = connection.call(connection.hosts.List, pb.ListHostsRequest(tenant=connection.tenant))
    host = next((host for host in reply.hosts if host.name == name), None)
    if host is None:
        raise no_such_host(name, [host.name for host in reply.hosts])
    drains = host.draining_since.seconds > 0
    lines = [
        ("host", host.name),
        ("tenant", host.tenant),
        ("state", host_state(host)),
        ("problem", host.link_problem),
        ("last beat", last_beat(host, reply.at)),
        ("draining", f"since {local_time(moment(host.draining_since))}, by {host.draining_by}" if drains else ""),
        ("when lost", lost_words(host) if host.lost_claims else ""),
        ("seats", str(host.seats)),
        ("generation", f"{host.observed_generation} of {host.generation}"),
        ("version", host.version),
        ("machine", host.machine),
        ("joined", local_time(moment(host.joined_at))),
        ("id", f"{host.id}, identity {host.identity_epoch}, link {host.link_epoch}"),
    ]
    output.show(Thing("Host", host.name, host_document(host, reply.at), lines), output_form)
