"""Cards of peers that are claimed from here, and what is written under such a claim: at the owner, never kept here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from mosaic_framework.errors import Conflict, FleetError, NotFound, Unreachable

from mosaic_controlplane.federation.elsewhere import NotReached, ask, one_peer
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.forwarding import ANSWER_SECONDS
from mosaic_controlplane.register.database import Database


class UnderPeer(Protocol):
    """What every request about a peer's cards has."""

    request_id: str
    cluster: str
    card_id: str


Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply")


class PeerWork:
    """Claims of every tenant at its peers."""

    def __init__(self, database: Database, outgoing: Outgoing) -> None:
        self._database = database
        self._outgoing = outgoing

    async def call(
        self,
        verb: str,
        request: Any,
        caller: Caller,
        *,
        tenant_id: UUID,
        run_id: UUID,
        waits: float = 0.0,
        cards: Callable[[Any], list[str]],
    ) -> Any:
        """Make the call at the cluster that the request names, for the worker `run_id`, and write it down here.

        `waits`: for how many seconds it may wait there; `cards`: which cards a reply is of. A claim waits nowhere else:
        raises PeerUnreachable when the cluster is away; NoSuchPeer, PeerRevoked, and what the owner refuses with.
        """
        async with self._database.connection() as connection:
            peer = await one_peer(connection, tenant_id=tenant_id, name=request.cluster)
        onward_request = type(request)()
        onward_request.CopyFrom(request)
        onward_request.tenant = onward_request.cluster = ""
        onward_request.claimant_id = str(run_id)

        async def call(stub: Any, onward: Any) -> Any:
            method: Callable[..., Awaitable[Any]] = getattr(stub, verb)
            return await method(onward_request, metadata=onward.metadata, timeout=waits + ANSWER_SECONDS)

        try:
            reply = await ask(self._outgoing, peer, caller, call, request_id=request.request_id)
        except NotReached as error:
            raise error.told from error
        except Unreachable as error:
            error.details["in_doubt"] = "true"
            raise
        except (NotFound, Conflict) as error:
            raise _from(error, peer.name) from error
        done = cards(reply)
        if done:
            async with self._database.connection() as connection:
                await auditing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method=f"BacklogService/{verb}",
                    target=f"{peer.name}: {' '.join(done)}"[:1000],
                    request_id=request.request_id,
                    detail={"peer": str(peer.peer_id)},
                )
        return reply


def _from(error: FleetError, peer: str) -> FleetError:
    """Return an error of the owner without the command that helps there and not here."""
    if error.next_step.startswith("mosaic backlog"):
        error.next_step = f"what you hold there, and what not: ask the people of {peer}"
    return error
