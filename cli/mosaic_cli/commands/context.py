"""mosaic context: ls, use, show."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from mosaic_framework.paths import Home

from mosaic_cli import completion, context, groups, options, output
from mosaic_cli.context import Context
from mosaic_cli.output import Column, Format, Listing, Thing

app = groups.noun("context", "Clusters this user can reach.")
Name = Annotated[str, typer.Argument(help="A context of `mosaic context ls`.", autocompletion=completion.contexts)]


@app.command("ls")
def list_contexts(output_form: options.Output = Format.TABLE) -> None:
    """List the contexts of this user; the current one has a star."""
    known = context.load(Home.from_environment())

    def document(item: Context) -> dict[str, Any]:
        return _document(item, current=item.name == known.current)

    columns: list[Column[Context]] = [
        Column("CURRENT", lambda item: "*" if item.name == known.current else " "),
        Column("NAME", lambda item: item.name),
        Column("TENANT", lambda item: item.tenant),
        Column("DEFAULT HOST", lambda item: item.default_host),
        Column("ADDRESSES", lambda item: ",".join(item.addresses)),
        Column("IDENTITY", lambda item: item.identity, wide=True),
    ]
    listing = Listing(
        "ContextList",
        known.items,
        columns,
        lambda item: item.name,
        document,
        empty="no context yet; make one with: mosaic up, or: mosaic login",
    )
    output.show(listing, output_form)


@app.command("use")
def use(name: Name) -> None:
    """Make a context the current one."""
    home = Home.from_environment()
    known = context.load(home)
    context.save(home, known.put(known.get(name), make_current=True))
    output.say(f"the current context is {name}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Default: the current one.", autocompletion=completion.contexts)] = "",
    output_form: options.Output = Format.TABLE,
    context_name: options.Context = "",
) -> None:
    """Show one context and who we are there."""
    home = Home.from_environment()
    known = context.load(home)
    item = known.chosen(name or context_name)
    from mosaic_framework.identity_files import StoredIdentity

    identity = StoredIdentity.load(item.identity_folder(home))
    body = _document(item, current=item.name == known.current) | {
        "operator": identity.name,
        "spiffeId": identity.spiffe_id,
        "trustDomain": identity.trust_domain,
        "cluster": identity.cluster,
        "notAfter": identity.not_after.isoformat(timespec="seconds"),
    }
    lines = [
        ("context", item.name),
        ("cluster", f"{identity.cluster} ({identity.trust_domain})"),
        ("addresses", ", ".join(item.addresses)),
        ("tenant", item.tenant),
        ("default host", item.default_host),
        ("operator", identity.name),
        ("valid until", f"{identity.not_after.astimezone():%Y-%m-%d %H:%M}"),
        ("identity", str(item.identity_folder(home))),
    ]
    output.show(Thing("Context", item.name, body, lines), output_form)


def _document(item: Context, *, current: bool) -> dict[str, Any]:
    return {
        "name": item.name,
        "current": current,
        "addresses": list(item.addresses),
        "tenant": item.tenant,
        "defaultHost": item.default_host,
        "identity": item.identity,
    }
