"""Messages to the seats of this host: journalled when they come, typed one after another in each seat's own order."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from mosaic_framework.steps import reached
from mosaic_proto.v1 import host_link_pb2, messages_pb2

from mosaic_hostagent.clock import Clock
from mosaic_hostagent.handover import Handover
from mosaic_hostagent.journal import Journal, JournalUnwritable
from mosaic_hostagent.journal_facts import Evidence, Incoming, Mode
from mosaic_hostagent.ladder import Step, is_open
from mosaic_hostagent.ledger import JOURNAL_RETRY, TypedBefore
from mosaic_hostagent.postman import NO_EVIDENCE, Postman, composed, named
from mosaic_hostagent.readiness import AgentState
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.terminal.pane import NotNow
from mosaic_hostagent.terminal.problems import TerminalLost
from mosaic_hostagent.turn_book import InFlight, Namer, TurnBook
from mosaic_hostagent.waiting import wait_at_most

REMOVED = "its seat was taken out of the roster"
TAKEN_BACK = Evidence("journal", "taken back before it was typed")
_BEHIND = "it waits behind earlier messages to this agent"
_LAPSED = f"it could not be typed before its deadline: {_BEHIND}"
_UNHEARD = "its host has not heard of the seat"
_LOOK_FIRST, _LOOK_LAST = 0.02, 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Box:
    """What waits for one seat, interrupting messages first, then by seat_seq, and the task that types it."""

    waiting: list[tuple[int, int, str, Incoming]] = field(default_factory=list)
    worker: asyncio.Task[None] | None = None
    clerk: asyncio.Task[None] | None = None
    """expires what waits behind the first one, which the worker looks after"""
    soonest: Incoming | None = None
    """the one whose deadline the clerk waits for"""
    sooner: asyncio.Event = field(default_factory=asyncio.Event)
    """set when one came that expires before that"""

    def put(self, message: Incoming) -> None:
        heapq.heappush(
            self.waiting, (0 if message.mode.interrupts else 1, message.seat_seq, message.message_id, message)
        )

    def holds(self, message_id: str) -> bool:
        return any(entry[2] == message_id for entry in self.waiting)

    def take_out(self, message_id: str) -> bool:
        kept = [entry for entry in self.waiting if entry[2] != message_id]
        found = len(kept) < len(self.waiting)
        self.waiting[:] = kept
        heapq.heapify(self.waiting)
        return found

    @property
    def first(self) -> Incoming | None:
        return self.waiting[0][3] if self.waiting else None


class Mailroom:
    """Takes messages in and delivers them. `residents` is the supervisor's, and read only.

    `on_wait(message_id, reason)` is told why a message is not further, and "" when it is.
    """

    def __init__(
        self,
        journal: Journal,
        residents: Mapping[str, Resident],
        clock: Clock,
        on_wait: Callable[[str, str], None] | None = None,
    ) -> None:
        self._journal = journal
        self._residents = residents
        self._clock = clock
        self._on_wait = on_wait or _untold
        self._boxes: dict[str, _Box] = {}
        self._seats_changed = asyncio.Event()
        self._closing = False
        self._book = TurnBook(journal)
        self._postman = Postman(journal, self._book, self._on_wait)
        self._handover = Handover(journal, self._book)
        self._taking: set[asyncio.Future[None]] = set()
        self._resumed = False

    async def resume(self) -> None:
        """Take up what was journalled and not yet typed when the last host-agent ended. Does so once."""
        if self._resumed:
            return
        for stored in await self._journal.open_messages():
            self._put(stored.message)
        self._resumed = True

    async def take(self, dispatch: host_link_pb2.Dispatch) -> None:
        """Journal a message, which tells the control plane, and queue it. One that is known is not typed again."""
        message = Incoming(
            message_id=dispatch.message_id,
            agent_id=dispatch.agent_id,
            seat_seq=dispatch.seat_seq,
            body=dispatch.body,
            digest=dispatch.payload_digest,
            sender=dispatch.sender,
            sender_is_person=dispatch.sender_is_person,
            deadline=self._clock.now().later(dispatch.remaining_ms),
            mode=_MODES.get(dispatch.mode, Mode.SEND),
        )
        reached("hostagent.message-received")
        # The link may end while the disk is waited for: what the journal has is queued all the same, since the control
        # plane, once told of it, never sends it again.
        taking = asyncio.ensure_future(self._take(message))
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)
        await asyncio.shield(taking)

    async def _take(self, message: Incoming) -> None:
        step, new = await self._journal.receive(message)
        reached("hostagent.message-journalled")
        if new and is_open(step):
            self._put(message)

    async def cancel(self, message_id: str) -> None:
        """Take a message back if its typing has not begun. Else nothing: its steps say how far it is."""
        if await self._journal.record(message_id, Step.CANCELLED, TAKEN_BACK, reason="cancelled"):
            self.withdraw(message_id)

    def queue(self, message: Incoming) -> None:
        """Deliver a message of this host's own that is in the journal already."""
        self._put(message)

    def withdraw(self, message_id: str) -> None:
        """Deliver a message no more if its typing has not begun; the journal says so already."""
        self._on_wait(message_id, "")
        for agent_id, box in self._boxes.items():
            if box.take_out(message_id):
                self._stir(agent_id)

    async def seats_changed(self) -> None:
        """A new desired state came after what is queued here: messages to seats that are not in it have failed."""
        event, self._seats_changed = self._seats_changed, asyncio.Event()
        event.set()
        for agent_id, box in list(self._boxes.items()):
            if agent_id in self._residents:
                continue
            if box.worker is not None:
                await _cancelled(box.worker)
            for *_, message in box.waiting:
                await self._end(message, Step.FAILED, REMOVED)
            del self._boxes[agent_id]

    async def close(self, *, grace: float) -> None:
        """Begin no delivery any more; let those that have begun come to their end for `grace` seconds."""
        self._closing = True
        await asyncio.gather(*self._taking, return_exceptions=True)
        workers = [box.worker for box in self._boxes.values() if box.worker is not None]
        self._seats_changed.set()
        for resident in self._residents.values():
            resident.stir()
        if workers:
            _, late = await asyncio.wait(workers, timeout=grace)
            for worker in late:
                await _cancelled(worker)
        await self._handover.close()

    async def prompt_accepted(
        self, agent_id: str, run_id: str, prompt: str, source: str, *, at_ms: int | None = None
    ) -> None:
        """The runtime of a run says that it took `prompt`, at `at_ms` (wall; None: now). `source`: hook or api."""
        resident = self._residents.get(agent_id)
        if resident is None or resident.manifest is None:
            return
        found = await self._book.accepted(
            run_id,
            prompt,
            source,
            at=self._when(at_ms),
            steers=resident.steers,
            wrapper=resident.manifest.paste.wrapper,
            named=_namer(resident),
        )
        if resident.run_id == run_id:
            resident.speaks = True  # here is the proof that what makes it speak is in place
            self._handover.passed_over(agent_id, run_id)
        for message_id in found:
            self._on_wait(message_id, "")

    async def turn_started(self, agent_id: str, run_id: str, source: str, *, at_ms: int | None = None) -> None:
        """The runtime of a run says that it works."""
        if (resident := self._residents.get(agent_id)) is not None:
            await self._book.started(
                run_id, source, at=self._when(at_ms), steers=resident.steers, named=_namer(resident)
            )

    async def turn_ended(self, agent_id: str, run_id: str, source: str, *, at_ms: int | None = None) -> None:
        """The runtime of a run says that it is done."""
        if (resident := self._residents.get(agent_id)) is not None:
            at = self._when(at_ms)
            # It ended a turn that no prompt of its own began: so it went on with what was handed over.
            at += await self._handover.taken(agent_id, run_id, at=at)
            await self._book.ended(run_id, source, at=at, steers=resident.steers, named=_namer(resident))

    async def handover(self, agent_id: str, run_id: str) -> str | None:
        """Return the next message's text for a runtime that asks for it at the end of a turn, or None.

        It is journalled before it is returned, as typing is. Say `handover_taken` when the runtime has read it: without
        that the message is unknown after a few seconds.
        """
        box = self._boxes.get(agent_id)
        resident = self._residents.get(agent_id)
        if resident is None or resident.run_id != run_id or resident.manifest is None or box is None or self._closing:
            return None
        message = box.first
        # A delivery that has begun goes first; what interrupts has nothing to interrupt now, and is typed.
        if message is None or message.mode.interrupts or resident.pane is None or resident.pane.lock.locked():
            return None
        if resident.holds:
            return None
        if self._clock.now().until(message.deadline) <= 0:
            return None
        text = composed(message, resident, resident.manifest).whole
        flying = InFlight(message.message_id, named(message, resident), text, handed_over=True)
        if not await self._handover.offer(agent_id, run_id, flying, steers=resident.steers):
            return None
        box.take_out(message.message_id)
        self._stir(agent_id)
        return text

    async def handover_taken(self, agent_id: str, run_id: str) -> None:
        """The runtime has read what `handover` returned: that is its acceptance."""
        await self._handover.taken(agent_id, run_id, at=self._clock.now().wall_ms)

    def _when(self, at_ms: int | None) -> int:
        return self._clock.now().wall_ms if at_ms is None else at_ms

    async def _end(self, message: Incoming, step: Step, reason: str) -> None:
        """End a message that was not typed; one whose typing had begun is unknown instead."""
        self._on_wait(message.message_id, "")
        if not await self._journal.record(message.message_id, step, NO_EVIDENCE, reason=reason):
            await self._journal.record(message.message_id, Step.UNKNOWN, NO_EVIDENCE, reason=f"{reason}, amid typing")

    def _put(self, message: Incoming) -> None:
        box = self._boxes.setdefault(message.agent_id, _Box())
        if box.holds(message.message_id):
            return
        box.put(message)
        if box.first is message:
            self._stir(message.agent_id)  # it came before what is waited for now
        else:
            self._on_wait(message.message_id, _BEHIND)
        if self._closing:
            return
        if box.worker is None:
            box.worker = asyncio.create_task(self._work(message.agent_id, box), name=f"mail-{message.agent_id}")
        if box.clerk is None:
            box.clerk = asyncio.create_task(self._expire(box), name=f"expiry-{message.agent_id}")
        elif box.soonest is None or self._left(message) < self._left(box.soonest):
            box.sooner.set()

    def _stir(self, agent_id: str) -> None:
        if (resident := self._residents.get(agent_id)) is not None:
            resident.stir()

    async def _work(self, agent_id: str, box: _Box) -> None:
        """Deliver what waits for one seat until nothing does."""
        try:
            while (message := box.first) is not None and not self._closing:
                try:
                    done = await self._try(message, box)
                except JournalUnwritable as error:
                    log.error("a delivery waits for the journal", agent=agent_id, why=error.why)
                    await asyncio.sleep(JOURNAL_RETRY)
                    continue
                if done:
                    box.take_out(message.message_id)
                    self._on_wait(message.message_id, "")
        finally:
            box.worker = None
            if box.clerk is not None:
                box.clerk.cancel()
                box.clerk = None

    async def _expire(self, box: _Box) -> None:
        """Expire what waits behind another message when its own deadline comes: the first may wait for days."""
        begun: set[str] = set()
        while True:
            box.sooner.clear()
            behind = [entry[3] for entry in box.waiting if entry[3] is not box.first and entry[2] not in begun]
            box.soonest = min(behind, key=self._left, default=None)
            late = [message for message in behind if self._left(message) <= 0]
            try:
                for message in late:
                    if await self._journal.record(message.message_id, Step.EXPIRED, NO_EVIDENCE, reason=_LAPSED):
                        self.withdraw(message.message_id)
                    else:
                        begun.add(message.message_id)  # overtaken amid its typing: the worker brings it to its end
            except JournalUnwritable as error:
                log.error("an expiry waits for the journal", why=error.why)
                await asyncio.sleep(JOURNAL_RETRY)
                continue
            if box.soonest is None:
                await box.sooner.wait()
            elif not late:
                await wait_at_most(box.sooner, self._left(box.soonest))

    def _left(self, message: Incoming) -> float:
        return self._clock.now().until(message.deadline) / 1000

    async def _try(self, message: Incoming, box: _Box) -> bool:
        """Bring one message as far as it goes; False: it is not the first one any more."""
        delay, why = _LOOK_FIRST, _UNHEARD
        while not self._closing and box.first is message:
            left = self._clock.now().until(message.deadline) / 1000
            if left <= 0:
                await self._end(message, Step.EXPIRED, f"it could not be typed before its deadline: {why}")
                return True
            resident = self._residents.get(message.agent_id)
            # Taken before looking, so that a change in between is not slept through.
            changed = resident.changed if resident is not None else self._seats_changed
            if resident is not None and resident.may_be_tried() and resident.manifest is not None:
                try:
                    await self._postman.deliver(message, resident, resident.manifest, left)
                except (NotNow, TerminalLost) as error:
                    why = str(error)
                except TypedBefore:
                    return True  # taken back, or handed over, in the moment before the typing
                else:
                    return True
                self._on_wait(message.message_id, why)
                await wait_at_most(changed, min(delay, left))
                delay = min(delay * 2, _LOOK_LAST)
            else:
                why = _why_not(resident) or why
                self._on_wait(message.message_id, why)
                await wait_at_most(changed, left)
                delay = _LOOK_FIRST
        return False


_MODES = {
    messages_pb2.DELIVERY_MODE_WHEN_IDLE: Mode.WHEN_IDLE,
    messages_pb2.DELIVERY_MODE_INTERRUPT: Mode.INTERRUPT,
    messages_pb2.DELIVERY_MODE_INTERRUPT_ONLY: Mode.INTERRUPT_ONLY,
}


def _untold(_message_id: str, _reason: str) -> None:
    """What is told of waiting while nobody listens."""


def _namer(resident: Resident) -> Namer:
    return lambda message: named(message, resident)


def _why_not(resident: Resident | None) -> str:
    if resident is None:
        return ""
    if resident.problem:
        return resident.problem
    if resident.alive and resident.holds:
        return min(resident.holds)
    if not resident.alive:
        return "its seat does not run"
    if resident.state.state is AgentState.STARTING:
        return f"its seat starts: {resident.state.detail}"
    return f"its seat is {resident.state.state}: {resident.state.detail}"


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
