"""Liveness: beats gathered in memory and flushed as one statement; hosts judged by the database's clock."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
from mosaic_framework import __version__

from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.pace import beat_interval
from mosaic_controlplane.mesh.stall import CursorStall
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import audit, change, host, leaf, message, migrate, replica, request
from mosaic_controlplane.register.database import Connection, Database, RegisterUnreachable
from mosaic_controlplane.register.migrate import RegisterMismatch
from mosaic_controlplane.register.replica import WakeKey

TICK_SECONDS = 0.5  # a host is stale after three beats (15 s), and shown so within one second more
AWAY_SECONDS = 5.0  # how long a replica may serve without the register
STALL_SECONDS = 5.0  # a transaction of ours is over within a second; one left open is ended by Postgres after 30 s
_HOUSEKEEPING_TICKS = 1200
_PACE_TICKS = 20
_UPGRADE_TICKS = 30

log = structlog.get_logger(__name__)


class Liveness:
    """The duties that a replica has all the time. All replicas may run them at once: each row changes only once."""

    def __init__(
        self,
        database: Database,
        wakes: Wakes,
        links: Links,
        replica_id: UUID,
        address: str,
        *,
        peer_address: str = "",
        enrol_address: str = "",
    ) -> None:
        self._database = database
        self._wakes = wakes
        self._links = links
        self._replica_id = replica_id
        self._address = address
        self._peer_address = peer_address
        self._enrol_address = enrol_address
        self.replica_addresses = [address]
        """The fleet addresses of all live replicas, this one first: what joiners are told, and hosts with each link."""
        self.cursor_stall = CursorStall()
        self._reached = time.monotonic()
        self._stall_told = False
        self._upgraded = False

    def register_away(self) -> float:
        """Return for how many seconds the register has not answered: those since the last tick that went through."""
        return time.monotonic() - self._reached

    async def arrive(self) -> None:
        """Enter this replica in the register. Before the first call is served: hosts are told of all replicas."""
        async with self._database.connection() as connection:
            await self._enter(connection)
            self._learn(await replica.addresses(connection))

    async def _enter(self, connection: Connection) -> None:
        """Enter this replica in the register. Raises RegisterMismatch when a newer one has left it behind meanwhile."""
        await replica.arrive(
            connection,
            replica_id=self._replica_id,
            address=self._address,
            version=__version__,
            register_version=migrate.newest_version(),
            peer_address=self._peer_address,
            enrol_address=self._enrol_address,
        )
        await migrate.confirm(connection)

    def _learn(self, addresses: list[str]) -> None:
        self.replica_addresses = [self._address, *(other for other in addresses if other != self._address)]

    async def run(self) -> None:
        """Tick until cancelled. What may take long is done beside it: a replica that does not tick serves nobody."""
        tasks = [asyncio.create_task(self._repeat(work)) for work in (self._tick, self._do_chores)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, work: Callable[[int], Awaitable[None]]) -> None:
        """Do `work` at every tick, which it is told the number of."""
        for ticks in itertools.count():
            await asyncio.sleep(TICK_SECONDS)
            try:
                await work(ticks)
            except RegisterUnreachable as error:
                log.warning("the register is away", why=error.why)
            except RegisterMismatch:
                raise  # a newer replica has completed its upgrade: nothing that this one does is right any more
            except Exception:  # one tick that failed must not end the replica: the next does its work
                log.exception("a tick failed")

    async def _tick(self, _ticks: int) -> None:
        await self.tick()

    async def _do_chores(self, ticks: int) -> None:
        if ticks % _PACE_TICKS == 0:
            await self._keep_pace()
        if ticks % _UPGRADE_TICKS == 0 and not self._upgraded:
            await self._finish_upgrade()
        if ticks % _HOUSEKEEPING_TICKS == 0:
            await self._keep_house()

    async def let_hosts_go(self) -> None:
        """Send hosts to the other replicas while the register is away from this one, until cancelled.

        Their beats would go on to be answered and be written by nobody. Where there is no other replica they stay:
        nothing is won by dialling this one anew.
        """
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if len(self._links) and len(self.replica_addresses) > 1 and self.register_away() >= AWAY_SECONDS:
                log.warning("hosts are sent to other replicas: the register is away", links=len(self._links))
                self._links.let_go()

    async def tick(self) -> None:
        """Flush beats, judge hosts, expire what is past its deadline."""
        # Each in a transaction of its own: none waits for a host's row while it holds another one, or the cluster's.
        async with self._database.connection() as connection:
            with self._links.beats_to_write() as beats:
                revived = await host.flush_beats(connection, beats) if beats else []
            async with connection.transaction():
                changed = await host.tick(connection)
            expired = await message.expire(connection)
            known = await replica.beat(connection, replica_id=self._replica_id)
            if not known:  # paused for so long that another replica took this one for dead
                await self._enter(connection)
            addresses = await replica.addresses(connection)
            xmin, xmax = await change.bounds(connection)
        self._reached = time.monotonic()
        self._note_stall(self.cursor_stall.observe(xmin=xmin, xmax=xmax, now=time.monotonic()))
        if known:
            await self._wakes.say_watching()
        else:
            log.warning("the register had forgotten this replica")
            await self._wakes.rescan()
        self._learn(addresses)
        for _tenant_id, _host_id, name, state in changed:
            log.warning("a host's liveness changed", host=name, state=state)
        self._wakes.tell(
            *(WakeKey.change(tenant_id) for tenant_id, *_ in changed),
            *(WakeKey.message(tenant_id, message_id) for tenant_id, message_id in expired),
            *(WakeKey.change(tenant_id) for tenant_id in revived),
        )

    def _note_stall(self, seconds: float) -> None:
        told, self._stall_told = self._stall_told, seconds >= STALL_SECONDS
        if self._stall_told and not told:
            log.warning("an open transaction holds watchers back", seconds=round(seconds, 1))
        elif told and not self._stall_told:
            log.info("watchers are held back no more")

    async def _keep_pace(self) -> None:
        """Let hosts beat as often as their number allows; links tell them (Links.look)."""
        async with self._database.connection() as connection:
            hosts, now = await host.beating(connection)
            new = beat_interval(hosts, now)
            if new != now:
                await host.set_pace(connection, now=now, new=new)
                log.info("hosts beat at another pace", hosts=hosts, seconds=new.total_seconds())

    async def _finish_upgrade(self) -> None:
        """Take out of the register what only older replicas used, once none of them lives."""
        async with self._database.own() as connection:
            self._upgraded = await migrate.finish(connection)

    async def _keep_house(self) -> None:
        async with self._database.connection() as connection:
            await request.forget_old(connection)
            await audit.forget_old(connection)
            await change.forget_old(connection)
            await leaf.forget_old(connection)
