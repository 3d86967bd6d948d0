"""What the backlog tells agents, by the way of every other message."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import UUID

from mosaic_framework.ids import new_id

from mosaic_controlplane.register import message as message_table
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.message import NewMessage
from mosaic_controlplane.register.replica import WakeKey

SENDER_ID = UUID("00000000-0000-7000-8000-00006261636b")
"""The backlog as a sender: a connector of no cluster in particular."""

_DEADLINE = timedelta(hours=1)


def limit_notice(card: CardRow) -> str:
    """Return what an agent is told whose claim reached its wall-clock limit."""
    kept = "it is blocked until a person looks at it" if card.status == "blocked" else "somebody else may claim it now"
    complete = f"mosaic backlog complete {card.card_id} --fence {card.fence}"
    return (
        f"Your claim on card {card.card_id} ({card.title}) has ended: it reached its limit of {card.time_limit}, "
        f"and {kept}. Stop working on it. If the work is complete, `{complete}` is accepted as long as nobody else has "
        "taken the card; else leave what you have where the next one finds it."
    )


async def tell_of_limit(connection: Connection, card: CardRow) -> list[WakeKey]:
    """Queue the notice to the agent that held `card`, in the transaction that ended its claim; returns whom to wake."""
    if card.holder_kind != "agent" or card.holder_id is None:
        return []
    body = limit_notice(card)
    host_id = await message_table.queue(
        connection,
        tenant_id=card.tenant_id,
        message=NewMessage(
            message_id=new_id(),
            sender_kind="connector",
            sender_id=SENDER_ID,
            sender_name="backlog",
            recipient_id=card.holder_id,
            body=body,
            payload_digest=hashlib.sha256(body.encode()).hexdigest(),
            deadline=_DEADLINE,
            reply_to=None,
            thread_id=None,
        ),
    )
    return [] if host_id is None else [WakeKey.host(card.tenant_id, host_id), WakeKey.change(card.tenant_id)]
