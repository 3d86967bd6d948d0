"""The links of hosts that this replica holds: what goes down to each, and what comes up from it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from mosaic_framework.ids import new_id
from mosaic_framework.protocol import PACE
from mosaic_framework.steps import reached

from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.held_link import HeldLink, HelloFacts, HostNotHere, NoExplanation, TerminalUnavailable
from mosaic_controlplane.mesh.wakes import Wakes, wait_for_wake
from mosaic_controlplane.register import agent as agent_table
from mosaic_controlplane.register import briefing as briefing_table
from mosaic_controlplane.register import claims_of_lost
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register import message as message_table
from mosaic_controlplane.register import replica as replica_table
from mosaic_controlplane.register import run as run_table
from mosaic_controlplane.register import runtime_update as update_table
from mosaic_controlplane.register.agent import SeatReportRow
from mosaic_controlplane.register.database import Connection, Database, RegisterUnreachable
from mosaic_controlplane.register.host import LinkKey, LinkSuperseded, OpenedLink
from mosaic_controlplane.register.replica import Holder, WakeKey

JOURNAL_REPLACED = "the host's journal was replaced or restored, so nobody can say whether it was typed"
CAPTURE_SECONDS = 3.0
AT_ONCE = 5
"""Links that read from the register at one moment; its pool has 8 connections."""

log = structlog.get_logger(__name__)


class Links:
    """All links held by this replica."""

    def __init__(self, database: Database, wakes: Wakes, replica_id: UUID) -> None:
        self._database = database
        self._wakes = wakes
        self._replica_id = replica_id
        # Many links at once wait here and not for the pool, whose waiters give up after seconds, and who else needs it.
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._links: dict[UUID, HeldLink] = {}
        self._beats: dict[LinkKey, float] = {}
        self.bundle_digest: Callable[[], bytes] = bytes
        """which roots the cluster trusts now: hosts are told"""
        self.replica_addresses: Callable[[], list[str]] = list
        """the fleet addresses of all live replicas: hosts are told"""

    def __len__(self) -> int:
        return len(self._links)

    @property
    def beats_waiting(self) -> int:
        """How many hosts' beats the next flush writes."""
        return len(self._beats)

    def waiting(self) -> tuple[int, int]:
        """Return how many frames of all links wait to go down, and how many to be written."""
        found = [link.waiting() for link in list(self._links.values())]
        return sum(down for down, _ in found), sum(up for _, up in found)

    async def open(self, caller: Caller, hello: HelloFacts) -> tuple[LinkKey, OpenedLink]:
        """Give a host's link to this replica; what an earlier journal was given becomes unknown. Raises LinkRefused."""
        async with self._register() as connection, connection.transaction():
            opened = await host_table.open_link(
                connection,
                tenant_id=caller.tenant_id,
                host_id=caller.id,
                identity_epoch=caller.identity_epoch,
                replica_id=self._replica_id,
                journal_id=hello.journal_id,
                journal_epoch=hello.journal_epoch,
                journal_sequence=hello.journal_sequence,
                version=hello.version,
                machine=hello.machine,
                observed_generation=hello.observed_generation,
            )
            if opened.was_silent:
                await claims_of_lost.recall(connection, tenant_id=caller.tenant_id, host_id=caller.id)
            lost: list[UUID] = []
            if opened.journal_replaced:
                lost = await message_table.journal_replaced(
                    connection, tenant_id=caller.tenant_id, host_id=caller.id, reason=JOURNAL_REPLACED
                )
        if lost:
            log.warning("messages became unknown with a host's journal", host=caller.name, messages=len(lost))
        self._wakes.tell(
            WakeKey.change(caller.tenant_id), *(WakeKey.message(caller.tenant_id, message_id) for message_id in lost)
        )
        return LinkKey(caller.tenant_id, caller.id, opened.link_epoch), opened

    @contextlib.asynccontextmanager
    async def _register(self) -> AsyncIterator[Connection]:
        async with self._turns, self._database.connection() as connection:
            yield connection

    async def refuse(self, caller: Caller, problem: str) -> None:
        """Say in the register why a host's link was refused."""
        async with self._database.connection() as connection:
            await host_table.refuse_link(connection, tenant_id=caller.tenant_id, host_id=caller.id, problem=problem)
        self._wakes.tell(WakeKey.change(caller.tenant_id))

    async def hold(self, link: HeldLink) -> None:
        """Push desired state and messages down the link until cancelled or superseded here.

        Raises LinkSuperseded, RegisterUnreachable.
        """
        other = self._links.get(link.key.host_id)
        if other is not None and other.key.link_epoch > link.key.link_epoch:
            raise LinkSuperseded
        if other is not None:
            other.ended.set()
            other.wake.set()
        self._links[link.key.host_id] = link
        wake_key = WakeKey.host(link.key.tenant_id, link.key.host_id)
        try:
            with self._wakes.waiting_for(wake_key, link.wake):
                while not link.ended.is_set():
                    link.wake.clear()
                    await self._push_wanted(link)
                    if link.ended.is_set():
                        break
                    await self._push_messages(link)
                    await self._push_cancels(link)
                    if link.roots != (roots := self.bundle_digest()):
                        await link.downward.roots(roots)
                        link.roots = roots
                    await link.wake.wait()
            if link.cut_off:
                raise RegisterUnreachable(why="this replica is without it, and another one may not be")
        finally:
            if self._links.get(link.key.host_id) is link:
                del self._links[link.key.host_id]
            asked: list[asyncio.Future[Any]] = [*link.captures.values(), *link.explanations.values()]
            for waiting in asked:
                if not waiting.done():
                    waiting.set_exception(HostNotHere(f"the link to host {link.host_name} ended"))

    async def run(self) -> None:
        """Look every 5 s, and whenever wakes may have been lost, which links have work: one statement for all."""
        with self._wakes.rescans() as rescan:
            while True:
                await wait_for_wake(rescan)
                try:
                    await self.look()
                except RegisterUnreachable as error:
                    log.warning("links were not looked over", links=len(self._links), why=error.why or error.what)

    async def look(self) -> None:
        """Wake the links for which the register has something to do, whoever was not told of it."""
        # Of a host that was told nothing yet, its own task is at it.
        links = [link for link in self._links.values() if link.generation >= 0]
        if not links:
            return
        told = {link.key: (link.generation, link.beat_interval) for link in links}
        async with self._database.connection() as connection:
            with_work = set(await host_table.with_work(connection, told))
        roots, addresses = self.bundle_digest(), self.replica_addresses()
        replicas = frozenset(addresses)
        for link in links:
            if link.key.host_id in with_work or link.roots != roots:
                link.wake.set()
            # Not by a wake, after which each link reads the register: all of them are told at once.
            if link.replicas != replicas and link.downward.replicas(addresses):
                link.replicas = replicas

    def let_go(self) -> None:
        """End every link, so that its host dials another replica: this one can write down no beat of it."""
        for link in self._links.values():
            link.cut_off = True
            link.ended.set()
            link.wake.set()

    async def close(self, key: LinkKey) -> None:
        """Say in the register that the link is gone, unless a newer one has taken over."""
        async with self._database.connection() as connection:
            await host_table.close_link(connection, key)
        self._wakes.tell(WakeKey.change(key.tenant_id))

    async def _push_wanted(self, link: HeldLink) -> None:
        # The generation is read before the seats: should they change in between, they are sent again.
        async with self._register() as connection:
            generation, beat_interval = await host_table.wanted(connection, link.key)
            changed = generation != link.generation
            if changed:
                tenant_id, host_id = link.key.tenant_id, link.key.host_id
                seats = await agent_table.seats_of_host(connection, tenant_id=tenant_id, host_id=host_id)
                briefing = await briefing_table.get(connection, tenant_id=tenant_id)
                updates = await update_table.wanted_of_host(connection, tenant_id=tenant_id, host_id=host_id)
        if beat_interval != link.beat_interval:
            if PACE in link.capabilities:
                await link.downward.pace(beat_interval)
            elif beat_interval < link.beat_interval:
                # It cannot change its pace while linked. Too many beats harm nobody; with too few it would look stale.
                log.info("a host is to dial anew, for another pace", host=link.host_name)
                link.ended.set()
                return
            link.beat_interval = beat_interval
        if not changed:
            return
        await link.downward.desired(generation, seats, briefing)
        for update in updates:
            await link.downward.update(update)
        link.generation = generation

    async def _push_messages(self, link: HeldLink) -> None:
        while True:
            async with self._register() as connection:
                offers = await message_table.offer(connection, link.key)
            if not offers:
                return
            for offer in offers:
                reached("controlplane.message-offered")
                await link.downward.dispatch(offer)
                reached("controlplane.message-pushed")

    async def _push_cancels(self, link: HeldLink) -> None:
        """Ask for messages to be taken back; after the messages themselves, so that the host knows them."""
        async with self._register() as connection:
            asked = await message_table.cancels_of_host(
                connection, tenant_id=link.key.tenant_id, host_id=link.key.host_id
            )
        for message_id in asked:
            if message_id not in link.cancels:
                await link.downward.cancel(message_id)
        link.cancels = frozenset(asked)

    async def ready(self, key: LinkKey) -> None:
        """The host's journal holds the link's epoch: messages may be pushed. Raises LinkSuperseded."""
        async with self._database.connection() as connection:
            await host_table.confirm_link(connection, key)
        self._wakes.tell(WakeKey.host(key.tenant_id, key.host_id))

    def beat(self, key: LinkKey) -> None:
        """Note a beat; it is written with the next flush."""
        self._beats[key] = time.monotonic()

    @contextlib.contextmanager
    def beats_to_write(self) -> Iterator[dict[LinkKey, timedelta]]:
        """Lend the age of the newest beat of each link since the last time; what fails is lent again."""
        beats, self._beats = self._beats, {}
        now = time.monotonic()
        try:
            yield {key: timedelta(seconds=max(0.0, now - at)) for key, at in beats.items()}
        except BaseException:
            self._beats = beats | self._beats
            raise

    async def report_seats(self, key: LinkKey, reports: list[SeatReportRow]) -> None:
        """Write what the host says of its seats. Raises LinkSuperseded."""
        if not reports:
            return
        async with self._database.transaction() as connection:
            await host_table.hold_link(connection, key)
            await agent_table.report_seats(connection, tenant_id=key.tenant_id, host_id=key.host_id, reports=reports)
            sessions = {one.run_id: one.runtime_session for one in reports if one.run_id and one.runtime_session}
            await run_table.name_sessions(connection, tenant_id=key.tenant_id, host_id=key.host_id, sessions=sessions)
        self._wakes.tell(WakeKey.change(key.tenant_id))

    async def unmanaged(self, key: LinkKey, sessions: bytes) -> None:
        """The host tells which sessions on its tmux servers are not ours."""
        async with self._database.connection() as connection:
            await host_table.set_unmanaged(connection, key, sessions)
        self._wakes.tell(WakeKey.change(key.tenant_id))

    async def applied(self, key: LinkKey, generation: int) -> None:
        """The host has reconciled a generation."""
        async with self._database.connection() as connection:
            await host_table.set_observed(connection, key, generation)
        self._wakes.tell(WakeKey.change(key.tenant_id))

    async def elsewhere(self, *, tenant_id: UUID, host_id: UUID) -> Holder | None:
        """Return the other replica that holds a host's link; None when this one holds it, or nobody does.

        What has to be done where the link is goes there by `mesh/forwarding.py`.
        """
        if host_id in self._links:
            return None
        async with self._database.connection() as connection:
            holder = await replica_table.holder_of_link(connection, tenant_id=tenant_id, host_id=host_id)
        return holder if holder is not None and holder.replica_id != self._replica_id else None

    async def capture(self, host_id: UUID, host_name: str, agent_id: UUID, lines: int) -> str:
        """Return what the terminal of a seat shows now. Raises HostNotHere or TerminalUnavailable."""
        link = self.held(host_id, host_name)
        call_id = str(new_id())
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        link.captures[call_id] = answer
        try:
            async with asyncio.timeout(CAPTURE_SECONDS):
                await link.downward.capture(call_id, agent_id, lines)
                return await answer
        except TimeoutError:
            raise HostNotHere(f"host {link.host_name} did not answer within {CAPTURE_SECONDS:g} s") from None
        finally:
            link.captures.pop(call_id, None)

    async def explain(self, host_id: UUID, host_name: str, agent_id: UUID) -> bytes:
        """Return a mosaic.v1.Explanation of a seat's state, as its host sees it now.

        Raises HostNotHere or NoExplanation.
        """
        link = self.held(host_id, host_name)
        call_id = str(new_id())
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        link.explanations[call_id] = answer
        try:
            async with asyncio.timeout(CAPTURE_SECONDS):
                await link.downward.explain(call_id, agent_id)
                return await answer
        except TimeoutError:
            raise HostNotHere(f"host {link.host_name} did not answer within {CAPTURE_SECONDS:g} s") from None
        finally:
            link.explanations.pop(call_id, None)

    @staticmethod
    def explained(link: HeldLink, call_id: str, explanation: bytes, problem: str) -> None:
        """A host explains a seat; an answer nobody waits for any more is dropped."""
        waiting = link.explanations.get(call_id)
        if waiting is None or waiting.done():
            return
        if problem:
            waiting.set_exception(NoExplanation(why=problem))
        else:
            waiting.set_result(explanation)

    def held(self, host_id: UUID, host_name: str) -> HeldLink:
        """Return the link of a host. Raises HostNotHere."""
        link = self._links.get(host_id)
        if link is None:
            raise HostNotHere(f"host {host_name} has no link to this control plane")
        return link

    @staticmethod
    def captured(link: HeldLink, call_id: str, text: str, problem: str) -> None:
        """A host answers a capture; an answer nobody waits for any more is dropped."""
        waiting = link.captures.get(call_id)
        if waiting is None or waiting.done():
            return
        if problem:
            waiting.set_exception(TerminalUnavailable("the terminal cannot be shown", why=problem))
        else:
            waiting.set_result(text)
