"""`peer ls -w`: the peers, looked at again and again, and what of them has changed."""

from __future__ import annotations

from typing import Any

from mosaic_proto.v1 import peers_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import connect
from mosaic_cli.looking import looks
from mosaic_cli.output import Format
from mosaic_cli.peer_view import peer_document, peer_listing

_RUNS_ON = ("heardAt", "heardAgoSeconds")
"""What of a peer differs at every look, and is no change."""


def watch_peers(*, form: Format, context: str, tenant: str) -> None:
    """Show peers until interrupted: JSON as one object a peer that changes or is removed, else the listing anew."""
    shown: dict[str, dict[str, Any]] = {}
    first = True
    with connect(context, tenant=tenant) as connection:
        request = pb.ListPeersRequest(tenant=connection.tenant)
        for reply in looks(connection, lambda: connection.call(connection.peers.List, request)):
            found = {peer.id: peer_document(peer, reply.at) for peer in reply.peers}
            news = [document for one, document in found.items() if _lasting(document) != _lasting(shown.get(one))]
            gone = [document for one, document in shown.items() if one not in found]
            shown = found
            if form is Format.JSON:
                for document in news + gone:
                    output.show_line("Peer", document | {"removed": document["id"] not in found})
            elif news or gone or first:
                output.show_anew(peer_listing(reply.peers, reply.at), form)
            first = False


def _lasting(document: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (document or {}).items() if key not in _RUNS_ON}
