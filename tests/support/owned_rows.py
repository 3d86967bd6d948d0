"""Hosts and seats written straight into a mesh's register, as if host-agents had reported them: no tmux, any number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from mosaic_controlplane.register import replica
from mosaic_controlplane.register.replica import WakeKey
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2

from tests.support.mesh import Mesh


@dataclass(frozen=True)
class Owned:
    """What a cluster owns: its register, its tenant."""

    register: asyncpg.Connection[asyncpg.Record]
    tenant_id: UUID

    async def settled(self) -> None:
        """Wait until nothing holds back what was written: transactions of other tests do, for a moment."""
        held_back = (
            "select exists (select from fleet.change"
            " where tenant_id = $1 and xid >= pg_snapshot_xmin(pg_current_snapshot()))"
        )
        async with asyncio.timeout(60):
            while await self.register.fetchval(held_back, self.tenant_id):
                await asyncio.sleep(0.02)

    async def host(self, name: str) -> UUID:
        """Add a host that is live."""
        host_id = new_id()
        await self.register.execute(
            "insert into fleet.host (tenant_id, host_id, name, state, last_beat_at, stale_at, lease_until)"
            " values ($1, $2, $3, 'live', now(), now() + interval '1 day', now() + interval '2 days')",
            self.tenant_id,
            host_id,
            name,
        )
        await self.tell()
        return host_id

    async def agent(
        self,
        host_id: UUID,
        name: str,
        *,
        class_name: str = "builder",
        runtime: str = "shell",
        state: str = "working",
        labels: Mapping[str, str] | None = None,
    ) -> UUID:
        """Add a seat on a host, with something in every column that may be shown."""
        agent_id = new_id()
        await self.register.execute(
            "insert into fleet.agent (tenant_id, agent_id, host_id, name, class, runtime, alias, spec, spec_digest,"
            " desired_running, generation, observed_generation, state, state_source, state_detail, state_since,"
            " reported_at, run_id, pid, command, exit_status, problem, supervision, unit, enabled, output_at,"
            " running_runtime, running_model, reported_model, runtime_version, runtime_session, driver, driven_since)"
            " values ($1, $2, $3, $4, $5, $6, 'an alias', $7, '', true, 3, 2, $8, 'hook', 'some evidence', now(),"
            " now(), $2, 4711, 'a command', 7, 'a problem', 'systemd', 'a unit', true, now(), 'shell', 'a model',"
            " 'reported', '1.2', 'a session', 'anna', now())",
            self.tenant_id,
            agent_id,
            host_id,
            name,
            class_name,
            runtime,
            _spec(name, labels or {}),
            state,
        )
        await self.tell()
        return agent_id

    async def set_state(self, agent_ids: Sequence[UUID], state: str) -> None:
        """Let seats be in another state."""
        await self.register.execute(
            "update fleet.agent set state = $2, state_since = now() where agent_id = any($1::uuid[]) and state <> $2",
            list(agent_ids),
            state,
        )
        await self.tell()

    async def set_labels(self, agent_id: UUID, name: str, labels: Mapping[str, str]) -> None:
        """Let the roster say other labels of a seat."""
        spec = _spec(name, labels)
        await self.register.execute(
            "update fleet.agent set spec = $2, spec_digest = $2, generation = generation + 1 where agent_id = $1",
            agent_id,
            spec,
        )
        await self.tell()

    async def tell(self) -> None:
        """Wake whoever watches."""
        await replica.notify(self.register, [WakeKey.change(self.tenant_id)])


@asynccontextmanager
async def owned(mesh: Mesh) -> AsyncIterator[Owned]:
    """Lend what the tenant `default` of a mesh owns."""
    register = await asyncpg.connect(mesh.controlplane.environment["MOSAIC_DATABASE_URL"])
    try:
        yield Owned(register, await register.fetchval("select tenant_id from fleet.tenant where name = 'default'"))
    finally:
        await register.close()


def _spec(name: str, labels: Mapping[str, str]) -> bytes:
    spec = fleet_pb2.SeatSpec(name=name, working_directory="/work", model="a model", labels=labels)
    return spec.SerializeToString(deterministic=True)
