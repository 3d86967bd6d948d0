"""The end of a pairing, from either side: what is left is a tombstone."""

from __future__ import annotations

import structlog

from mosaic_controlplane.register import audit
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer import BY_PEER, PeerRow

METHOD = "mosaic.v1.FederationService/Part"

log = structlog.get_logger(__name__)


async def parted(
    database: Database, peer: PeerRow, *, reason: str, peer_address: str = "", request_id: str = ""
) -> bool:
    """Write down that the other side has ended the pairing, however that was heard. False when it was known already."""
    reason = reason[:500].replace("\0", "")  # it may be of a reply, which nobody has looked through
    async with database.transaction() as connection:
        ended = await peer_table.revoke(
            connection,
            tenant_id=peer.tenant_id,
            peer_id=peer.peer_id,
            by=BY_PEER,
            by_name=peer.name,
            reason=reason,
        )
        if ended:
            await audit.record(
                connection,
                tenant_id=peer.tenant_id,
                caller_kind="peer",
                caller_id=str(peer.peer_id),
                caller_name=peer.name,
                caller_role=peer.role,
                peer_address=peer_address,
                method=METHOD,
                target=f"peer/{peer.name}",
                request_id=request_id,
                detail={"reason": reason},
            )
    if ended:
        log.warning("a peer has ended the pairing", peer=peer.name, pairing=str(peer.peer_id))
    return ended
