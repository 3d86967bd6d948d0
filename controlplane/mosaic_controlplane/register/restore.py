"""What a register needs when it was restored from a backup, before the first replica starts on it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from mosaic_framework.errors import Conflict

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("restore")


class ReplicaRuns(Conflict):
    """A replica of the control plane runs on this register."""

    code = "replica-runs"
    hint = "stop every replica (mosaic down), wait 15 s, and run this again"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done: how many hosts are told everything anew, tokens and claims made void, messages asked for again."""

    register_epoch: UUID
    hosts: int
    tokens: int
    messages: int
    claims: int

    @property
    def told(self) -> str:
        """What a person is told of it."""
        return (
            f"{self.hosts} hosts will be told everything anew, {self.messages} messages are asked for again, "
            f"{self.tokens} join tokens and {self.claims} claims of cards are void"
        )


async def check_no_replica(connection: Connection) -> None:
    """Raise ReplicaRuns when a replica of the control plane was heard of within 15 s."""
    address = await connection.fetchval(SQL.replica_alive)
    if address is not None:
        raise ReplicaRuns(why=f"the one at {address} was heard of within 15 s")


async def take_up(connection: Connection, *, register_epoch: UUID) -> Restored:
    """Make this register one that has been restored, in the caller's transaction. Raises ReplicaRuns."""
    await check_no_replica(connection)
    await connection.execute(SQL.new_epoch, register_epoch)
    await connection.execute(SQL.forget_replicas)
    tokens = await connection.fetch(SQL.void_tokens)
    hosts = await connection.fetch(SQL.raise_hosts)
    await connection.execute(SQL.raise_seats)
    messages = await connection.fetch(SQL.ask_again)
    claims = await connection.fetchval(SQL.void_claims, register_epoch)
    # Last, for the triggers have written down what was just done.
    await connection.execute(SQL.forget_changes)
    return Restored(register_epoch, len(hosts), len(tokens), len(messages), claims)
