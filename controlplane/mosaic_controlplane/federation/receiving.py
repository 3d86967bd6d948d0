"""Messages that peers send to agents of this cluster: within what is granted, and otherwise as anybody's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from mosaic_framework.errors import Conflict, NotFound

from mosaic_controlplane.federation import granted
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.messages import Draft, Messages, Sender
from mosaic_controlplane.register import message as message_table
from mosaic_controlplane.register import request as request_table
from mosaic_controlplane.register.agent import Seat
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.message import MessageRow

SENDER_KIND = "connector"
"""What a peer is as the sender of a message: something that speaks for people and agents who are not from here."""

_CANCEL = "FederationService/CancelMessage"


class CancelledBefore(Conflict):
    """This message was cancelled before it came."""

    code = "cancelled-before"


class PeerMessages:
    """What peers send, and what they may know of it: of their own messages alone."""

    def __init__(self, database: Database, messages: Messages) -> None:
        self._database = database
        self._messages = messages

    async def send(self, draft: Draft, caller: Caller, *, speaker: str) -> MessageRow:
        """Queue what `speaker` sends through the peer `caller`. Sent again under its id, it is the first one.

        Raises NotGranted, NotFound for what is not granted as for what is not there, CancelledBefore, and as
        Messages.send.
        """

        async def find(connection: Connection) -> Seat:
            if await request_table.refused_before(
                connection, tenant_id=caller.tenant_id, caller=caller.key, request_id=draft.message_id
            ):
                raise CancelledBefore(details={"message_id": str(draft.message_id)})
            seat, _ = await granted.one_seat(connection, caller, kind="send", address=draft.to)
            return seat

        return await self._messages.send(
            draft, caller=caller, tenant_id=caller.tenant_id, sender=Sender(SENDER_KIND, caller.id, speaker), find=find
        )

    async def follow(self, message_id: UUID, caller: Caller, *, until: str) -> AsyncIterator[MessageRow]:
        """Yield the receipt of a message of this peer, as Messages.follow does. Raises NotFound for any other."""
        async with self._database.connection() as connection:
            if not await self._is_of(connection, message_id, caller):
                raise _absent(message_id)
        async for row in self._messages.follow(tenant_id=caller.tenant_id, message_id=message_id, until=until):
            yield row

    async def cancel(self, message_id: UUID, caller: Caller) -> MessageRow:
        """Take back a message of this peer. One that never came is not taken when it comes later: raises NotFound."""
        async with self._database.transaction() as connection:
            known = await self._is_of(connection, message_id, caller)
            if not known:
                await request_table.refuse_later(
                    connection, tenant_id=caller.tenant_id, caller=caller.key, request_id=message_id, method=_CANCEL
                )
                # It may have come while the other transaction held the lock.
                known = await self._is_of(connection, message_id, caller)
        if not known:
            raise _absent(message_id)
        return await self._messages.cancel(tenant_id=caller.tenant_id, prefix=str(message_id), caller=caller)

    async def _is_of(self, connection: Connection, message_id: UUID, caller: Caller) -> bool:
        kept = await message_table.identity(connection, tenant_id=caller.tenant_id, message_id=message_id)
        return kept is not None and (kept.sender_kind, kept.sender_id) == (SENDER_KIND, caller.id)


def _absent(message_id: UUID) -> NotFound:
    return NotFound(f"no message {message_id} came from your cluster", details={"message_id": str(message_id)})
