"""Hosts that come and go: drained, taken out, and what is done about those that are lost."""

from __future__ import annotations

import time

from mosaic_framework.errors import Unfinished
from mosaic_proto.v1 import host_life_pb2 as pb

from mosaic_cli import output
from mosaic_cli.asking import agree
from mosaic_cli.client import Connection, connect
from mosaic_cli.documents import host_document, now
from mosaic_cli.fleet_view import host_state
from mosaic_cli.host_words import CLAIMS, lost_after
from mosaic_cli.output import Format, Thing

_LOOK_SECONDS = 1.0
"""How often what is still held is asked for: claims are told to nobody."""


def drain(name: str, *, timeout: float, detach: bool, form: Format, context: str, tenant: str) -> None:
    """Drain a host, and wait until its agents hold nothing. Raises Unfinished after `timeout` seconds (it goes on)."""
    with connect(context, tenant=tenant) as connection:
        reply = _drain(connection, name)
        deadline = time.monotonic() + timeout
        told = ""
        while reply.held and not detach:
            waits = ", ".join(f"{one.agent}: {one.card_id}" for one in reply.held[:4])
            waits += f" (and {len(reply.held) - 4} more)" if len(reply.held) > 4 else ""
            if waits != told:
                output.say(f"  waiting for {waits}")
                told = waits
            if time.monotonic() >= deadline:
                raise Unfinished(
                    f"not finished after {timeout:.0f} s; {name} stays drained",
                    why=f"still held: {waits}",
                    next_step=f"mosaic host drain {name}, or give the cards to others: mosaic backlog reclaim",
                )
            time.sleep(_LOOK_SECONDS)
            reply = _drain(connection, name)
    _show(reply, form)


def undrain(name: str, *, form: Format, context: str, tenant: str) -> None:
    """Let a host's agents claim again."""
    with connect(context, tenant=tenant) as connection:
        request = pb.DrainHostRequest(tenant=connection.tenant, name=name)
        reply = connection.call(connection.host_life.Undrain, request)
    _show(reply, form)


def _drain(connection: Connection, name: str) -> pb.DrainHostReply:
    request = pb.DrainHostRequest(tenant=connection.tenant, name=name)
    reply: pb.DrainHostReply = connection.call(connection.host_life.Drain, request)
    return reply


def _show(reply: pb.DrainHostReply, form: Format) -> None:
    held = [{"agent": one.agent, "card": one.card_id, "title": one.title} for one in reply.held]
    lines = [
        ("host", reply.host.name),
        ("state", host_state(reply.host)),
        ("held", ", ".join(f"{one.agent}: {one.card_id}" for one in reply.held) or "nothing"),
    ]
    output.show(Thing("Host", reply.host.name, host_document(reply.host, now()) | {"held": held}, lines), form)


def remove(name: str, *, dry_run: bool, yes: bool, form: Format, context: str, tenant: str) -> None:
    """Take a host out of the fleet, after asking."""
    with connect(context, tenant=tenant) as connection:
        tried = _remove(connection, name, dry_run=True)
        if dry_run:
            output.say(f"would take {name} out of the fleet")
            reply = tried
        else:
            agree(f"take host {name} out of the fleet for good", yes=yes)
            reply = _remove(connection, name, dry_run=False)
    lines = [("host", name), ("state", host_state(reply.host))]
    output.show(Thing("Host", name, host_document(reply.host, now()), lines), form)


def _remove(connection: Connection, name: str, *, dry_run: bool) -> pb.RemoveHostReply:
    request = pb.RemoveHostRequest(tenant=connection.tenant, name=name, dry_run=dry_run)
    reply: pb.RemoveHostReply = connection.call(connection.host_life.Remove, request)
    return reply


def policy(seconds: float | None, lost_claims: str, *, form: Format, context: str, tenant: str) -> None:
    """Show the policy about lost hosts, changed first when there is anything to change."""
    with connect(context, tenant=tenant) as connection:
        if seconds is None and not lost_claims:
            reply = connection.call(
                connection.host_life.GetLostPolicy, pb.GetLostPolicyRequest(tenant=connection.tenant)
            )
        else:
            # On the wire 0 leaves it as it is; whoever asks for no time at all is told that it is too little.
            milliseconds = 0 if seconds is None else max(1, round(seconds * 1000))
            request = pb.SetLostPolicyRequest(
                tenant=connection.tenant, lost_after_ms=milliseconds, lost_claims=lost_claims
            )
            reply = connection.call(connection.host_life.SetLostPolicy, request)
    lines = [
        ("lost after", lost_after(reply.lost_after_ms)),
        ("its claims", f"{reply.lost_claims}: {CLAIMS.get(reply.lost_claims, '')}"),
    ]
    document = {"lostAfterSeconds": reply.lost_after_ms / 1000, "lostClaims": reply.lost_claims}
    output.show(Thing("LostPolicy", "lost", document, lines), form)
