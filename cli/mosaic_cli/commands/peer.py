"""mosaic peer: token, join, ls, show, grant, ungrant, role, revoke, rm."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mosaic_cli import completion, groups, options
from mosaic_cli.output import Format
from mosaic_cli.text import duration

app = groups.noun("peer", "Other clusters: paired by a one-time token, shown and allowed what is granted, and no more.")


class Role(StrEnum):
    """What the people of a peer may count as here."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class Kind(StrEnum):
    """What may be granted."""

    SEE = "see"
    SEND = "send"
    WATCH = "watch"
    CLAIM = "claim"


class Fields(StrEnum):
    """Groups of fields that `see` may show beside the basic ones."""

    DETAIL = "detail"
    WORK = "work"
    PROCESS = "process"


Peer = Annotated[
    str, typer.Argument(metavar="PEER", help="A peer of `mosaic peer ls`.", autocompletion=completion.peers)
]
PeerRole = Annotated[
    Role, typer.Option("--role", help="What its people count as here: viewer looks; operator also sends and claims.")
]


@app.command("token")
def token(
    name: Annotated[str, typer.Argument(help="What the other cluster will be called here.")],
    role: PeerRole = Role.VIEWER,
    ttl: Annotated[
        float, typer.Option("--ttl", parser=duration, metavar="TIME", help="How long it can be used.")
    ] = 600.0,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Make a one-time token that pairs another cluster with this one: the token on stdout, what to do on stderr."""
    from mosaic_cli import peering

    peering.make_token(name, role=role.value, ttl=ttl, form=output_form, context=context, tenant=tenant)


@app.command("join")
def join(
    token_file: options.TokenFile = None,
    name: Annotated[
        str, typer.Option("--name", help="What the other cluster will be called here; default: what it calls itself.")
    ] = "",
    called: Annotated[str, typer.Option("--as", help="Refuse a token that was made for another name than this.")] = "",
    role: PeerRole = Role.VIEWER,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Pair this cluster with another, with a token of `mosaic peer token` from standard input or a file."""
    from mosaic_cli import peering

    peering.join(
        token_file, name=name, called=called, role=role.value, form=output_form, context=context, tenant=tenant
    )


@app.command("ls")
def list_peers(
    output_form: options.Output = Format.TABLE,
    watch: options.Watch = False,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """List other clusters, those that need a person first, and the tombstones of those that were."""
    if watch:
        from mosaic_cli.peer_watch import watch_peers

        watch_peers(form=output_form, context=context, tenant=tenant)
        return
    from mosaic_cli import peering

    peering.show_all(form=output_form, context=context, tenant=tenant)


@app.command("show")
def show(
    peer: Peer,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show one peer, and what each side may do at the other."""
    from mosaic_cli import peering

    peering.show_one(peer, form=output_form, context=context, tenant=tenant)


@app.command("grant")
def grant(
    peer: Peer,
    kind: Annotated[Kind, typer.Argument(help="see agents, send to them, watch terminals, or claim cards.")],
    selector: Annotated[
        str, typer.Argument(help="Which: '*', or class=… host=… agent=… runtime=… label.KEY=…, joined by commas.")
    ],
    fields: Annotated[
        list[Fields] | None, typer.Option("--with", help="Of see: more fields; may be said more than once.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", min=1, help="Of claim: how many cards at once; default 1.")
    ] = None,
    ttl: Annotated[
        float, typer.Option("--for", parser=duration, metavar="TIME", help="How long it lasts, at most 365d.")
    ] = 30 * 86400.0,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Let a peer see, send, watch or claim here, until a time. What is not granted is denied."""
    from mosaic_cli import peering

    peering.grant(
        peer,
        kind.value,
        selector,
        fields=[field.value for field in fields or ()],
        most=most or 0,
        ttl=ttl,
        form=output_form,
        context=context,
        tenant=tenant,
    )


@app.command("ungrant")
def ungrant(
    peer: Peer,
    grants: Annotated[
        list[str] | None, typer.Argument(metavar="[GRANT]...", help="Ids of `mosaic peer show`, or their ends.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="All grants of this kind.")] = None,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """End grants of a peer, at once."""
    from mosaic_cli import peering

    peering.ungrant(
        peer,
        grants or [],
        kind=kind.value if kind else "",
        form=output_form,
        context=context,
        tenant=tenant,
    )


@app.command("role")
def change_role(
    peer: Peer,
    role: Annotated[Role, typer.Argument(help="What its people count as here from now on.")],
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Let the people of a peer count as viewer or operator here."""
    from mosaic_cli import peering

    peering.change_role(peer, role.value, form=output_form, context=context, tenant=tenant)


@app.command("revoke")
def revoke(
    peer: Peer,
    reason: options.Reason = "",
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """End a pairing on both sides: streams are cut, grants and trust are gone; a tombstone stays."""
    from mosaic_cli import peering

    peering.revoke(peer, reason=reason, dry_run=dry_run, yes=yes, form=output_form, context=context, tenant=tenant)


@app.command("rm")
def remove(
    peer: Peer,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Delete the tombstone of a pairing that is over."""
    from mosaic_cli import peering

    peering.remove(peer, dry_run=dry_run, yes=yes, context=context, tenant=tenant)
