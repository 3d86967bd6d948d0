"""Addresses: the one seat that `agent`, `host/agent` or, of this cluster, `cluster/host/agent` means in a tenant."""

from __future__ import annotations

from uuid import UUID

from mosaic_framework.errors import Ambiguous, InvalidInput, NotFound
from mosaic_framework.names import AGENT_NAME, match_address, nearest, split_cluster

from mosaic_controlplane.register import agent as agent_table
from mosaic_controlplane.register import cluster as cluster_table
from mosaic_controlplane.register.agent import Seat
from mosaic_controlplane.register.database import Connection


class OfAnotherCluster(InvalidInput):
    """This is not done to an agent of another cluster."""

    code = "of-another-cluster"
    hint = "agents of a peer are sent to, interrupted, watched and tailed; for the rest ask its people"


async def one_seat(connection: Connection, *, tenant_id: UUID, address: str) -> Seat:
    """Return the seat. Raises NotFound with the nearest names, Ambiguous with the candidates, or OfAnotherCluster."""
    here = await of_own(connection, address)
    found: list[Seat] = []
    parts = here.split("/")
    if len(parts) <= 2 and all(AGENT_NAME.fullmatch(part) for part in parts):
        *host, name = parts
        found = await agent_table.named(connection, tenant_id=tenant_id, name=name, host="".join(host))
    # All are read only for an address that nobody has, to say which come near it.
    return choose(found or await agent_table.addresses(connection, tenant_id=tenant_id), here)


async def of_own(connection: Connection, address: str) -> str:
    """Return an address without the name of this cluster, if it has it. Raises OfAnotherCluster."""
    cluster, rest = split_cluster(address)
    if cluster and not await is_own(connection, cluster):
        raise OfAnotherCluster(f"{address[:200]!r} is the address of an agent of another cluster")
    return rest


async def is_own(connection: Connection, cluster: str) -> bool:
    """Whether that is this cluster's own name."""
    own = await cluster_table.find(connection)
    return own is not None and cluster == own.alias


def choose(seats: list[Seat], address: str) -> Seat:
    """Return the one seat of `seats` that `address` means (pure). Raises NotFound or Ambiguous."""
    by_pair = {(seat.host, seat.name): seat for seat in seats}
    found = match_address(address, list(by_pair))
    shown = address if len(address) <= 80 else f"{address[:80]}…"
    if len(found) == 1:
        return by_pair[found[0]]
    if found:
        candidates = [f"{host}/{name}" for host, name in found]
        raise Ambiguous(
            f"{shown!r} is the name of {len(found)} agents",
            why=f"it may mean {', '.join(candidates[:6])}",
            next_step="say host/agent",
            details={"candidates": " ".join(candidates)},
        )
    names = {seat.name for seat in seats} | {f"{seat.host}/{seat.name}" for seat in seats}
    close = nearest(address[:200], names)
    if close:
        why = f"the nearest names are {', '.join(close)}"
    else:
        why = "no agent has a name like it" if seats else "no roster has been applied yet"
    raise NotFound(
        f"there is no agent {shown!r}",
        why=why,
        next_step="mosaic agent ls",
        details={"nearest": " ".join(close)} if close else {},
    )
