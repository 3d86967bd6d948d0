"""Journalled facts of a host become rows: steps of messages, starts and ends of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from mosaic_framework.steps import reached

from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import card_lease as lease_table
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import message as message_table
from mosaic_controlplane.register import run as run_table
from mosaic_controlplane.register import runtime_update as update_table
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.host import LinkKey
from mosaic_controlplane.register.replica import WakeKey
from mosaic_controlplane.register.runtime_update import Progress

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """A message of this host made a step, `age` ago."""

    message_id: UUID
    step: str
    source: str
    detail: str
    reason: str
    age: timedelta


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A seat was launched."""

    run_id: UUID
    agent_id: UUID
    model: str
    account: str
    age: timedelta


@dataclass(frozen=True, slots=True)
class RunOver:
    """A run ended."""

    run_id: UUID
    agent_id: UUID
    reason: str
    exit_status: int | None
    age: timedelta


Event = Step | RunBegan | RunOver | Progress


async def record(database: Database, wakes: Wakes, key: LinkKey, events: Sequence[Event], *, newest: int) -> None:
    """Write `events` in one transaction under the link's epoch. Repeats change nothing. Raises LinkSuperseded.

    `newest` is their last sequence in the host's journal: one that says less at a later hello is an older one restored.
    """
    moved: list[UUID] = []
    reached("controlplane.events-received")
    async with database.transaction() as connection:
        await host_table.hold_link_with_events(connection, key, newest=newest)
        for event in events:
            match event:
                case Step():
                    if await message_table.step(
                        connection,
                        tenant_id=key.tenant_id,
                        host_id=key.host_id,
                        message_id=event.message_id,
                        name=event.step,
                        reason=event.reason,
                        age=event.age,
                        source=event.source,
                        detail=event.detail,
                    ):
                        moved.append(event.message_id)
                case RunBegan():
                    await run_table.start(
                        connection,
                        tenant_id=key.tenant_id,
                        host_id=key.host_id,
                        run_id=event.run_id,
                        agent_id=event.agent_id,
                        model=event.model,
                        account=event.account,
                        age=event.age,
                    )
                case RunOver():
                    await run_table.finish(
                        connection,
                        tenant_id=key.tenant_id,
                        host_id=key.host_id,
                        run_id=event.run_id,
                        agent_id=event.agent_id,
                        reason=event.reason,
                        exit_status=event.exit_status,
                        age=event.age,
                    )
                    await lease_table.run_ended(
                        connection,
                        tenant_id=key.tenant_id,
                        run_id=event.run_id,
                        agent_id=event.agent_id,
                        host_id=key.host_id,
                    )
                case Progress():
                    await update_table.progress(connection, tenant_id=key.tenant_id, host_id=key.host_id, told=event)
    reached("controlplane.events-recorded")
    wakes.tell(WakeKey.change(key.tenant_id), *(WakeKey.message(key.tenant_id, message_id) for message_id in moved))


async def record_waits(database: Database, wakes: Wakes, key: LinkKey, reasons: Mapping[UUID, str]) -> None:
    """Write why messages of a host are not further, under the link's epoch. Raises LinkSuperseded."""
    if not reasons:
        return
    async with database.transaction() as connection:
        await host_table.hold_link(connection, key)
        told = await message_table.waits(connection, tenant_id=key.tenant_id, host_id=key.host_id, reasons=reasons)
    wakes.tell(*(WakeKey.message(key.tenant_id, message_id) for message_id in told))
