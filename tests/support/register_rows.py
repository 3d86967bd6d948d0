"""Rows that tests of the register start from: a tenant, a host, seats, a caller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import rosters
from mosaic_controlplane.mesh.rosters import WantedSeat
from mosaic_controlplane.register import agent, host, replica
from mosaic_controlplane.register.agent import SeatSpecRow
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.host import LinkKey
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2


@dataclass
class Site:
    """A tenant with one host and one replica."""

    database: Database
    tenant_id: UUID
    host_id: UUID
    replica_id: UUID
    register_epoch: UUID
    journal_id: UUID
    version: int = 0

    @property
    def operator(self) -> Caller:
        return Caller("operator", self.tenant_id, "default", UUID(int=7), "anna", "admin", 1, "")

    async def apply(self, *names: str) -> None:
        wanted = [wanted_seat(name) for name in names]
        async with self.database.transaction() as connection:
            done = await rosters.apply(
                connection,
                tenant_id=self.tenant_id,
                document="{}",
                wanted=wanted,
                base_version=self.version,
                default_host="",
                applied_by="anna",
            )
        self.version = done.version

    async def agent_id(self, name: str) -> UUID:
        async with self.database.connection() as connection:
            seats = await agent.addresses(connection, tenant_id=self.tenant_id)
        return next(seat.agent_id for seat in seats if seat.name == name)

    async def link(self, *, journal_id: UUID | None = None, journal_epoch: int = 0, ready: bool = True) -> LinkKey:
        async with self.database.transaction() as connection:
            opened = await host.open_link(
                connection,
                tenant_id=self.tenant_id,
                host_id=self.host_id,
                identity_epoch=1,
                replica_id=self.replica_id,
                journal_id=journal_id or self.journal_id,
                journal_epoch=journal_epoch,
                journal_sequence=None,
                version="0",
                machine="m",
                observed_generation=0,
            )
            key = LinkKey(self.tenant_id, self.host_id, opened.link_epoch)
            if ready:
                await host.confirm_link(connection, key)
        return key

    async def age_host(self, by: timedelta) -> None:
        """Move the host's clock of silence back, as if `by` had passed without a beat."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update fleet.host set last_beat_at = last_beat_at - $1::interval, stale_at = stale_at - $1::interval,"
                " lease_until = lease_until - $1::interval",
                by,
            )


def wanted_seat(name: str, *, host_name: str = "", model: str = "") -> WantedSeat:
    spec = fleet_pb2.SeatSpec(name=name, runtime="shell", manifest_json="{}", model=model)
    content = spec.SerializeToString(deterministic=True)
    row = SeatSpecRow(UUID(int=0), name, "worker", "shell", "", content, content, desired_running=True)
    return WantedSeat(host_name, row)


async def make_site(database: Database) -> Site:
    """A tenant `default` with a joined host `alpha` and a replica."""
    tenant_id, host_id, replica_id, register_epoch = new_id(), new_id(), new_id(), new_id()
    async with database.connection() as connection:
        await connection.execute(
            "insert into fleet.cluster (trust_domain, alias, register_epoch) values ('test.mosaic', 'test', $1)",
            register_epoch,
        )
        await connection.execute("insert into fleet.tenant (tenant_id, name) values ($1, 'default')", tenant_id)
        await connection.execute(
            "insert into fleet.host (tenant_id, host_id, name) values ($1, $2, 'alpha')", tenant_id, host_id
        )
        await replica.arrive(connection, replica_id=replica_id, address="127.0.0.1:1", version="0")
    return Site(database, tenant_id, host_id, replica_id, register_epoch, new_id())
