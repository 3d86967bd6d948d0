"""Messages to the seats of this host: journalled when they come, typed one after another in each seat's own order."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from mosaic_framework.manifest import Manifest
from mosaic_framework.steps import reached
from mosaic_proto.v1 import host_link_pb2

from mosaic_hostagent.clock import Clock
from mosaic_hostagent.journal import Journal, JournalUnwritable
from mosaic_hostagent.journal_facts import Evidence, Incoming
from mosaic_hostagent.ladder import Step, is_open
from mosaic_hostagent.readiness import AgentState
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.terminal.deliver import NotNow, Order, deliver
from mosaic_hostagent.terminal.problems import TerminalLost
from mosaic_hostagent.terminal.text import Typing, compose

REMOVED = "its seat was taken out of the roster"
_NO_EVIDENCE = Evidence("journal", "")
_LOOK_FIRST, _LOOK_LAST = 0.02, 1.0
_JOURNAL_RETRY = 1.0

log = structlog.get_logger(__name__)


class _TypedBefore(Exception):
    """The journal says that this message is past its typing."""


@dataclass(slots=True)
class _Box:
    """What waits for one seat, by seat_seq, and the task that types it."""

    waiting: list[tuple[int, str, Incoming]] = field(default_factory=list)
    worker: asyncio.Task[None] | None = None

    def take_out(self, message_id: str) -> None:
        """Let a message wait no more."""
        self.waiting = [one for one in self.waiting if one[1] != message_id]
        heapq.heapify(self.waiting)


class Mailroom:
    """Takes messages in and delivers them. `residents` is the supervisor's, and read only."""

    def __init__(self, journal: Journal, residents: Mapping[str, Resident], clock: Clock) -> None:
        self._journal = journal
        self._residents = residents
        self._clock = clock
        self._boxes: dict[str, _Box] = {}
        self._seats_changed = asyncio.Event()
        self._closing = False
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
        )
        reached("hostagent.message-received")
        step, new = await self._journal.receive(message)
        reached("hostagent.message-journalled")
        if new and is_open(step):
            self._put(message)

    def queue(self, message: Incoming) -> None:
        """Deliver a message of this host's own that is in the journal already."""
        self._put(message)

    def withdraw(self, message_id: str) -> None:
        """Deliver a message no more if its typing has not begun; the journal says so already."""
        for agent_id, box in self._boxes.items():
            box.take_out(message_id)
            if (resident := self._residents.get(agent_id)) is not None:
                resident.stir()

    async def seats_changed(self) -> None:
        """A new desired state came after what is queued here: messages to seats that are not in it have failed."""
        event, self._seats_changed = self._seats_changed, asyncio.Event()
        event.set()
        for agent_id, box in list(self._boxes.items()):
            if agent_id in self._residents:
                continue
            if box.worker is not None:
                await _cancelled(box.worker)
            for _, _, message in box.waiting:
                await self._end(message, Step.FAILED, REMOVED)
            del self._boxes[agent_id]

    async def close(self, *, grace: float) -> None:
        """Begin no delivery any more; let those that have begun come to their end for `grace` seconds."""
        self._closing = True
        workers = [box.worker for box in self._boxes.values() if box.worker is not None]
        self._seats_changed.set()
        for resident in self._residents.values():
            resident.stir()
        if workers:
            _, late = await asyncio.wait(workers, timeout=grace)
            for worker in late:
                await _cancelled(worker)

    async def _end(self, message: Incoming, step: Step, reason: str) -> None:
        """End a message that was not typed; one whose typing had begun is unknown instead."""
        if not await self._journal.record(message.message_id, step, _NO_EVIDENCE, reason=reason):
            await self._journal.record(message.message_id, Step.UNKNOWN, _NO_EVIDENCE, reason=f"{reason}, amid typing")

    def _put(self, message: Incoming) -> None:
        box = self._boxes.setdefault(message.agent_id, _Box())
        if any(known == message.message_id for _, known, _ in box.waiting):
            return
        heapq.heappush(box.waiting, (message.seat_seq, message.message_id, message))
        if box.worker is None and not self._closing:
            box.worker = asyncio.create_task(self._work(message.agent_id, box), name=f"mail-{message.agent_id}")

    async def _work(self, agent_id: str, box: _Box) -> None:
        """Deliver what waits for one seat until nothing does."""
        try:
            while box.waiting and not self._closing:
                message = box.waiting[0][2]
                try:
                    done = await self._try(message)
                except JournalUnwritable as error:
                    log.error("a delivery waits for the journal", agent=agent_id, why=error.why)
                    await asyncio.sleep(_JOURNAL_RETRY)
                    continue
                if done:
                    box.take_out(message.message_id)
        finally:
            box.worker = None

    async def _try(self, message: Incoming) -> bool:
        """Bring one message as far as it goes; False: another one, of a lower seat_seq, may have come first."""
        box = self._boxes[message.agent_id]
        delay, why = _LOOK_FIRST, "its host has not heard of the seat"
        while not self._closing and box.waiting and box.waiting[0][2] is message:
            left = self._clock.now().until(message.deadline) / 1000
            if left <= 0:
                await self._end(message, Step.EXPIRED, f"it could not be typed before its deadline: {why}")
                return True
            resident = self._residents.get(message.agent_id)
            # Taken before looking, so that a change in between is not slept through.
            changed = resident.changed if resident is not None else self._seats_changed
            if resident is not None and resident.may_be_tried() and resident.manifest is not None:
                try:
                    await self._deliver(message, resident, resident.manifest, left)
                except (NotNow, TerminalLost) as error:
                    why = str(error)
                except _TypedBefore:
                    log.error("a message was to be typed a second time", message=message.message_id)
                    return True
                else:
                    return True
                await _wait(changed, min(delay, left))
                delay = min(delay * 2, _LOOK_LAST)
            else:
                why = _why_not(resident) or why
                await _wait(changed, left)
                delay = _LOOK_FIRST
        return False

    async def _deliver(self, message: Incoming, resident: Resident, manifest: Manifest, left: float) -> None:
        pane = resident.pane
        if pane is None:
            raise NotNow("its program has ended")
        leftovers = await self._journal.leftovers(message.agent_id)
        order = Order(
            name=message.message_id,
            typing=_composed(message, resident, manifest),
            leftovers=[_composed(stored.message, resident, manifest).whole for stored in leftovers],
            enter_by=asyncio.get_running_loop().time() + left,
        )
        if not order.typing.whole.strip():
            await self._end(message, Step.FAILED, "nothing of it can be typed")
            return
        settled = resident.state.state is AgentState.AVAILABLE and resident.state.source == "process"
        ledger = _JournalLedger(self._journal, message.message_id, message.agent_id, resident.run_id)
        await deliver(pane, manifest, order, ledger, settled=settled)


class _JournalLedger:
    """Writes what a delivery does into the journal. A fact that has happened is written however long that takes."""

    def __init__(self, journal: Journal, message_id: str, agent_id: str, run_id: str) -> None:
        self._journal = journal
        self._message_id = message_id
        self._agent_id = agent_id
        self._run_id = run_id

    async def typing(self) -> None:
        if not await self._journal.begin_typing(self._message_id, run_id=self._run_id):
            raise _TypedBefore

    async def untyped(self) -> None:
        await self._journal.untype(self._message_id)

    async def typed(self, detail: str) -> None:
        await self._insist(Step.TYPED, detail)

    async def typed_and_entering(self, detail: str) -> None:
        while True:
            try:
                await self._journal.record_typed_and_entering(self._message_id, Evidence("screen", detail))
            except JournalUnwritable as error:
                await self._wait_for_journal(error)
            else:
                return

    async def submitted(self, detail: str) -> None:
        await self._insist(Step.SUBMITTED, detail)
        await self._journal.forget_leftovers(self._agent_id)

    async def unknown(self, reason: str) -> None:
        log.warning("a message became unknown", message=self._message_id, agent=self._agent_id, reason=reason)
        await self._insist(Step.UNKNOWN, "", reason=reason)

    async def _insist(self, step: Step, detail: str, *, reason: str = "") -> None:
        while True:
            try:
                await self._journal.record(self._message_id, step, Evidence("screen", detail), reason=reason)
            except JournalUnwritable as error:
                await self._wait_for_journal(error)
            else:
                return

    async def _wait_for_journal(self, error: JournalUnwritable) -> None:
        log.error("a step waits for the journal", message=self._message_id, why=error.why)
        await asyncio.sleep(_JOURNAL_RETRY)


def _composed(message: Incoming, resident: Resident, manifest: Manifest) -> Typing:
    return compose(
        message.body,
        manifest,
        sender=message.sender,
        recipient=resident.seat.name,
        message_id=message.message_id,
        sender_is_person=message.sender_is_person,
    )


def _why_not(resident: Resident | None) -> str:
    if resident is None:
        return ""
    if resident.problem:
        return resident.problem
    if resident.alive and resident.holds:
        return min(resident.holds)
    if not resident.alive:
        return "its seat does not run"
    return f"its seat is {resident.state.state}: {resident.state.detail}"


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
