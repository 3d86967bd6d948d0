"""What a peer may do here: looked up at each call, and again while a stream runs. What is not granted is not there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog
from mosaic_framework import selector
from mosaic_framework.errors import FleetError, NotFound, Unreachable
from mosaic_framework.selector import Of
from mosaic_proto.v1 import fleet_pb2

from mosaic_controlplane.federation.errors import NotGranted, PeerRevoked
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.renewal import identity_of
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh import addresses
from mosaic_controlplane.register import agent as agent_table
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_grant
from mosaic_controlplane.register.agent import Seat
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.peer_grant import GrantRow

_SOONEST = 0.2
_LONGEST = 60.0
_NAMES = {"send": "sending to agents", "watch": "watching terminals", "claim": "claiming cards"}
_DONE = {"send": "send to", "watch": "watch"}

log = structlog.get_logger(__name__)


async def grants(connection: Connection, caller: Caller, kind: str) -> list[GrantRow]:
    """Return the grants of that kind that the calling peer has. Raises NotGranted when there is none, PeerRevoked."""
    found = await peer_grant.active(connection, tenant_id=caller.tenant_id, peer_id=caller.id, kinds=[kind])
    if not found:
        peer = await peer_table.find(connection, caller.id)
        if peer is None or not peer.stands:  # it went with its grants, while the call or the stream was under way
            raise PeerRevoked(why=peer.revoked_reason if peer else "")
        raise NotGranted(
            f"this cluster does not grant {_NAMES[kind]} to yours",
            next_step=f"ask its people for it: mosaic peer grant NAME {kind} SELECTOR",
        )
    return found


async def one_seat(connection: Connection, caller: Caller, *, kind: str, address: str) -> tuple[Seat, datetime]:
    """Return the one seat that an address means among those granted, and until when it is.

    What is there and not granted is told as what is not there. Raises NotGranted, NotFound or Ambiguous.
    """
    held = await grants(connection, caller, kind)
    until: dict[Seat, datetime] = {}
    for seat, runtime, spec in await agent_table.called(
        connection, tenant_id=caller.tenant_id, name=address.rpartition("/")[2]
    ):
        facts = selector.agent_facts(
            host=seat.host,
            agent=seat.name,
            agent_class=seat.class_name,
            runtime=runtime,
            labels=fleet_pb2.SeatSpec.FromString(spec).labels,
        )
        ends = [one.expires_at for one in held if selector.parse(one.selector, Of.AGENTS).matches(facts)]
        if ends:
            until[seat] = max(ends)
    try:
        seat = addresses.choose(list(until), address)
    except NotFound:
        raise NotFound(
            f"there is no agent {address[:80]!r} that your cluster may {_DONE[kind]}",
            next_step="see what is granted: mosaic peer ls, mosaic peer show",
        ) from None
    return seat, until[seat]


@asynccontextmanager
async def while_granted(
    standings: Standings, caller: Caller, until: datetime, again: Callable[[], Awaitable[datetime]]
) -> AsyncIterator[None]:
    """End the block when the grant that it rests on does: raises what `again`, which looks it up, raises then.

    `until`: when the grant runs out; `again` returns that anew. It is asked at every change of the peer's standing.
    """
    lost: list[FleetError] = []
    since = standings.changes

    async def watch(ended: asyncio.Timeout) -> None:
        try:
            await _until_lost(standings, caller, until, again, since)
        except FleetError as error:
            lost.append(error)
        ended.reschedule(asyncio.get_running_loop().time())

    ended = asyncio.timeout(None)
    watcher: asyncio.Task[None] | None = None
    try:
        async with ended:
            watcher = asyncio.create_task(watch(ended), name="while-granted")
            yield
    except TimeoutError:
        if lost and ended.expired():
            raise lost[0] from None
        raise
    finally:
        if watcher is not None:
            watcher.cancel()


async def _until_lost(
    standings: Standings, caller: Caller, until: datetime, again: Callable[[], Awaitable[datetime]], since: int
) -> None:
    """Return never; raise why the block must end."""
    with standings.watching(identity_of(caller), since=since) as changed:
        while True:
            left = (until - datetime.now(UTC)).total_seconds()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(left, _SOONEST), _LONGEST)):
                    await changed.wait()
            changed.clear()
            try:
                until = await again()
            except Unreachable:
                log.warning("could not look up what is granted to a peer", peer=caller.name)
                await asyncio.sleep(1.0)
                changed.set()
