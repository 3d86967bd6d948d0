"""Who calls the backlog, and as whom; what several of its calls answer with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_controlplane.api import backlog_encode as encode
from mosaic_controlplane.api.encode import optional_identifier
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.backlog.errors import CardNotFound
from mosaic_controlplane.backlog.standing import actor_of
from mosaic_controlplane.backlog.wishes import AGENT_LEASE, DEFAULT_LEASE
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import Actor

if TYPE_CHECKING:
    from grpc.aio import ServicerContext


@dataclass(frozen=True, slots=True)
class Desk:
    """Who calls, for which tenant, as whom in the backlog."""

    caller: Caller
    tenant_id: UUID
    actor: Actor

    @property
    def tenant(self) -> str:
        return self.caller.tenant

    @property
    def default_lease(self) -> timedelta:
        """An agent's host renews for its run; for anybody else nobody does."""
        return AGENT_LEASE if self.caller.kind == "agent" else DEFAULT_LEASE


def card_reply(row: CardRow, caller: Caller) -> pb.CardReply:
    """Return a card as the answer to a write."""
    return pb.CardReply(card=encode.card(row, tenant=caller.tenant))


def named(card_id: str) -> str:
    """Return the id, or raise CardNotFound when it is empty."""
    if not card_id:
        raise CardNotFound("no card is named", next_step="mosaic backlog ls")
    return card_id


def desk_of(context: ServicerContext[Any, Any], tenant: str, claimant_id: str = "") -> Desk:
    """Return who calls. Raises InvalidInput for an agent's claimant id, and what tenant_of raises."""
    caller = caller_of(context)
    actor = actor_of(caller, claimant=optional_identifier(claimant_id, what="claimant id"))
    return Desk(caller, tenant_of(caller, tenant), actor)
