"""mosaic backlog: claim, renew, propose, complete, release, block. In a pane, the default card is the one held."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import options, output
from mosaic_cli.commands.backlog_cards import RequestId
from mosaic_cli.output import Format
from mosaic_cli.text import duration

app = typer.Typer()

HeldCard = Annotated[str, typer.Argument(metavar="[CARD]", help="Default: the card that you hold.")]
Fence = Annotated[
    int, typer.Option("--fence", min=0, help="The number that the claim told; default: that of your claim.")
]
Claimant = Annotated[
    str,
    typer.Option(
        "--claimant", envvar="MOSAIC_CLAIMANT", help="A UUID that stands for one worker; for scripts of an operator."
    ),
]
Lease = Annotated[
    float, typer.Option("--lease", parser=duration, metavar="TIME", help="How long it is yours unless renewed.")
]
Cluster = Annotated[
    str, typer.Option("--cluster", metavar="PEER", help="The card is this peer's; what it grants is what you may.")
]
SpentCost = Annotated[float, typer.Option("--spent-cost", min=0, help="In the account's currency; added.")]
SpentTokens = Annotated[int, typer.Option("--spent-tokens", min=0, help="Added.")]
SpentTime = Annotated[float, typer.Option("--spent-time", parser=duration, metavar="TIME", help="Added.")]
Evidence = Annotated[list[str] | None, typer.Option("--evidence", help="A link or a line; again for each; added.")]
PullRequest = Annotated[str, typer.Option("--pull-request", help="Where the change is proposed.")]
Head = Annotated[str, typer.Option("--head", help="The commit.")]


@app.command("claim")
def claim(
    card: Annotated[str, typer.Argument(metavar="[CARD]", help="This card; default: the best one.")] = "",
    class_: Annotated[str, typer.Option("--class", help="Cards that this class may take.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="Only with this label; again for each.")] = None,
    most: Annotated[int, typer.Option("--max", min=1, max=100, help="At most so many cards.")] = 1,
    wait: Annotated[
        float, typer.Option("--wait", parser=duration, metavar="TIME", help="Wait so long for work, at most 1h.")
    ] = 0.0,
    lease: Lease = 0.0,
    claimant: Claimant = "",
    cluster: Cluster = "",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Take the best ready card, or the one named: it is yours alone until its lease is over. None at all is exit 3."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog import claiming

    request = pb.ClaimRequest(
        claimant_id=claimant,
        cluster=cluster,
        filter=pb.CardFilter(labels=label or [], **{"class": class_}),
        card_id=card,
        max=most,
    )
    wish = claiming.Wish(wait=wait, lease=lease, request_id=request_id)
    claiming.claim(request, wish, form=output_form, context=context, tenant=tenant)


@app.command("renew")
def renew(
    card: HeldCard = "",
    fence: Fence = 0,
    lease: Lease = 0.0,
    extend: Annotated[
        float,
        typer.Option(
            "--extend", parser=duration, metavar="TIME", help="Move the wall-clock limit to so long from now."
        ),
    ] = 0.0,
    claimant: Claimant = "",
    cluster: Cluster = "",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Keep a card for longer. For an agent its host does this by itself, up to the card's wall-clock limit."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog import calls
    from mosaic_cli.backlog.view import claim_listing
    from mosaic_cli.client import connect

    with connect(context, tenant=tenant) as connection:
        request = pb.RenewRequest(
            tenant=connection.tenant, claimant_id=claimant, card_id=card, fence=fence, cluster=cluster
        )
        if lease:
            request.lease.CopyFrom(calls.span(lease))
        if extend:
            request.extend.CopyFrom(calls.span(extend))
        reply = calls.write(connection, lambda stub: stub.Renew, request, request_id=request_id)
    output.show(claim_listing(reply.claims), output_form)


@app.command("propose")
def propose(
    card: HeldCard = "",
    branch: Annotated[str, typer.Option("--branch", help="Where the change is.")] = "",
    head: Head = "",
    pull_request: PullRequest = "",
    evidence: Evidence = None,
    note: Annotated[str, typer.Option("--note", "-m", help="For whoever looks at it.")] = "",
    fence: Fence = 0,
    spent_cost: SpentCost = 0.0,
    spent_tokens: SpentTokens = 0,
    spent_time: SpentTime = 0.0,
    claimant: Claimant = "",
    cluster: Cluster = "",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Propose a change: the card goes to review, and its gate completes or releases it."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog.changing import change, spent

    request = pb.ProposeRequest(
        claimant_id=claimant,
        cluster=cluster,
        card_id=card,
        fence=fence,
        branch=branch,
        head=head,
        pull_request=pull_request,
        evidence=evidence or [],
        note=note,
        spent=spent(spent_cost, spent_tokens, spent_time),
    )
    change("Propose", request, request_id=request_id, form=output_form, context=context, tenant=tenant)


@app.command("complete")
def complete(
    card: HeldCard = "",
    result: Annotated[str, typer.Option("--result", "-m", help="What came of it.")] = "",
    head: Head = "",
    pull_request: PullRequest = "",
    evidence: Evidence = None,
    fence: Fence = 0,
    spent_cost: SpentCost = 0.0,
    spent_tokens: SpentTokens = 0,
    spent_time: SpentTime = 0.0,
    claimant: Claimant = "",
    cluster: Cluster = "",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Finish a card: what waits for it alone can now be claimed."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog.changing import change, spent

    request = pb.CompleteRequest(
        claimant_id=claimant,
        cluster=cluster,
        card_id=card,
        fence=fence,
        result=result,
        head=head,
        pull_request=pull_request,
        evidence=evidence or [],
        spent=spent(spent_cost, spent_tokens, spent_time),
    )
    change("Complete", request, request_id=request_id, form=output_form, context=context, tenant=tenant)


@app.command("release")
def release(
    card: HeldCard = "",
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; the next holder reads it.")] = "",
    fence: Fence = 0,
    spent_cost: SpentCost = 0.0,
    spent_tokens: SpentTokens = 0,
    spent_time: SpentTime = 0.0,
    claimant: Claimant = "",
    cluster: Cluster = "",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Give a card back: it is ready for the next one."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog.changing import change, spent

    request = pb.ReleaseRequest(
        claimant_id=claimant,
        cluster=cluster,
        card_id=card,
        fence=fence,
        reason=reason,
        spent=spent(spent_cost, spent_tokens, spent_time),
    )
    change("Release", request, request_id=request_id, form=output_form, context=context, tenant=tenant)


@app.command("block")
def block(
    card: HeldCard = "",
    reason: Annotated[str, typer.Option("--reason", "-m", help="Who must do what before it can go on.")] = ...,  # type: ignore[assignment]
    fence: Fence = 0,
    spent_cost: SpentCost = 0.0,
    spent_tokens: SpentTokens = 0,
    spent_time: SpentTime = 0.0,
    claimant: Claimant = "",
    cluster: Cluster = "",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Say that nothing can be done about a card without a person; `unblock` makes it ready again."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog.changing import change, spent

    request = pb.BlockRequest(
        claimant_id=claimant,
        cluster=cluster,
        card_id=card,
        fence=fence,
        reason=reason,
        spent=spent(spent_cost, spent_tokens, spent_time),
    )
    change("Block", request, request_id=request_id, form=output_form, context=context, tenant=tenant)
