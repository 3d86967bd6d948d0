"""The host's durable memory: what it was given, how far each message came, and what the register has yet to hear.

One thread owns the file. Calls that wait at the same time share one transaction, and so one fsync; each returns when
its own effect is on disk, or raises and has had none.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog
from mosaic_framework.errors import FleetError
from mosaic_proto.v1 import host_link_pb2

from mosaic_hostagent.clock import Clock
from mosaic_hostagent.journal_facts import Evidence, Incoming, OpenRun, Stored
from mosaic_hostagent.journal_resets import Reset, ResetStep
from mosaic_hostagent.journal_store import JournalStore
from mosaic_hostagent.journal_updates import Update
from mosaic_hostagent.ladder import Step

Result = TypeVar("Result")
Work = Callable[[JournalStore], Any]
_BATCH = 256
RESTORED = "the host's journal was restored from an older one, so nobody can say whether it was typed"

log = structlog.get_logger(__name__)


class JournalUnwritable(FleetError):
    """The host-agent's journal cannot be written."""

    code = "journal-unwritable"
    hint = "look at the disk: df -h; nothing is typed until the journal can be written"


class Journal:
    """The journal, from the event loop."""

    def __init__(self, store: JournalStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._queue: queue.SimpleQueue[tuple[Work, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="journal", daemon=True)
        self._closed = False
        self.journal_id = store.journal_id()
        self.link_epoch = store.link_epoch()
        self.on_append: Callable[[], None] = _nothing
        """called on the loop when there is something new for the register"""
        self.on_run_over: Callable[[str], None] = _nothing_of
        """called on the loop when a run ends, before that is written"""
        self._acknowledged = 0
        self._news = asyncio.Event()

    @classmethod
    async def open(cls, folder: Path, clock: Clock) -> Journal:
        """Open the journal in `folder`; what a dead process was typing is now unknown. Raises JournalDamaged."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Journal] = loop.create_future()

        def serve() -> None:
            # SQLite wants the thread that uses the connection to be the one that opened it.
            try:
                journal = cls(JournalStore.open(folder, clock), loop)
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the opening
                loop.call_soon_threadsafe(_settle, opened, None, error)
                return
            loop.call_soon_threadsafe(_settle, opened, journal, None)
            journal._serve()

        thread = threading.Thread(target=serve, name="journal", daemon=True)
        thread.start()
        journal = await opened
        journal._thread = thread
        unsure = await journal._do(JournalStore.recover)
        if unsure:
            log.warning("messages became unknown: the last host-agent died while typing", messages=len(unsure))
        return journal

    async def close(self) -> None:
        """Finish what was asked for, and close the file. May be called twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def linked(self, epoch: int) -> None:
        """A control plane has taken this journal for the newest: note the link's epoch, which a restored one lacks."""
        await self._do(lambda store: store.linked(epoch))
        self.link_epoch = max(self.link_epoch, epoch)

    async def sequence_to_claim(self) -> int:
        """Return the sequence that a hello claims: see JournalStore.sequence_to_claim."""
        return await self._do(JournalStore.sequence_to_claim)

    async def disown(self) -> None:
        """This is an older journal restored: end all that is open in it as unknown, and become another journal."""
        self.journal_id, lost = await self._do(lambda store: store.disown(RESTORED))
        self.link_epoch = 0
        log.warning("messages became unknown: the journal was restored from an older one", messages=len(lost))

    async def receive(self, message: Incoming) -> tuple[Step, bool]:
        """Take a message in: (its step, whether it is new). One that is known tells its steps again, and no more."""
        step, new = await self._do(lambda store: store.receive(message))
        if not new and (known := await self._do(lambda store: store.digest(message.message_id))) != message.digest:
            log.error("a message id came again with another payload", message=message.message_id, kept=known)
        return step, new

    async def record(
        self, message_id: str, step: Step, evidence: Evidence, *, reason: str = "", run_id: str | None = None
    ) -> bool:
        """Raise a message to `step`; say whether that was a rise."""
        return await self._do(lambda store: store.record(message_id, step, evidence, reason=reason, run_id=run_id))

    async def begin_typing(self, message_id: str, *, run_id: str) -> bool:
        """Note that the next act is the paste. False: the message is past that, and must not be typed."""
        return await self._do(lambda store: store.begin_typing(message_id, run_id=run_id))

    async def record_typed_and_entering(self, message_id: str, evidence: Evidence) -> None:
        """Note that the text was seen, and that Enter comes next: two facts, one fsync."""

        def both(store: JournalStore) -> None:
            store.record(message_id, Step.TYPED, evidence)
            store.record(message_id, Step.ENTERING, evidence)

        await self._do(both)

    async def untype(self, message_id: str) -> bool:
        """Take `typing` back, when tmux refused the paste."""
        return await self._do(lambda store: store.untype(message_id))

    async def open_messages(self) -> list[Stored]:
        """Return what waits to be typed, seat by seat, in the order of typing."""
        return await self._do(JournalStore.open_messages)

    async def leftovers(self, agent_id: str) -> list[Stored]:
        """Return messages to a seat whose text may still stand in its composer."""
        return await self._do(lambda store: store.leftovers(agent_id))

    async def in_flight(self, run_id: str) -> list[Stored]:
        """Return what was typed into a run and whose turn has not ended, in the order of typing."""
        return await self._do(lambda store: store.in_flight(run_id))

    async def forget_leftovers(self, agent_id: str) -> None:
        """The seat's composer holds nothing of ours any more."""
        await self._do(lambda store: store.forget_leftovers(agent_id))

    async def run_started(
        self, run_id: str, agent_id: str, *, model: str, account: str, first: Incoming | None = None
    ) -> Incoming | None:
        """A run begins; return its `first` message if it is new and now to be delivered."""
        begun = await self._do(
            lambda store: store.run_started(run_id, agent_id, model=model, account=account, first=first)
        )
        if begun.ended is not None:
            self.on_run_over(begun.ended)
        return begun.first

    async def run_ended(self, run_id: str, *, reason: str, exit_status: int | None = None) -> bool:
        """A run ends, once; say whether it was open."""
        self.on_run_over(run_id)
        return await self._do(lambda store: store.run_ended(run_id, reason=reason, exit_status=exit_status))

    async def want_reset(self, reset: Reset) -> Reset:
        """Take up a reset of a seat's run; return the one that counts, which may be under way already."""
        return await self._do(lambda store: store.want_reset(reset))

    async def reset_of(self, agent_id: str) -> Reset | None:
        """Return the reset of a seat that has not come to its end."""
        return await self._do(lambda store: store.reset_of(agent_id))

    async def resets(self) -> list[Reset]:
        """Return every reset that has not come to its end."""
        return await self._do(JournalStore.resets)

    async def set_reset_step(self, agent_id: str, step: ResetStep, detail: str = "") -> None:
        """Note how far a seat's reset is."""
        await self._do(lambda store: store.set_reset_step(agent_id, step, detail))

    async def take_update(self, update: Update) -> bool:
        """Take an update of a runtime in; False when it is known."""
        return await self._do(lambda store: store.take_update(update))

    async def keep_update(self, update: Update, *, tell: bool = True) -> None:
        """Note how far an update is; unless `tell` is False, the control plane hears of it."""
        await self._do(lambda store: store.tell_update(update) if tell else store.keep_update(update))

    async def open_updates(self) -> list[Update]:
        """Return the updates that have not come to their end."""
        return await self._do(JournalStore.open_updates)

    async def open_runs(self) -> list[OpenRun]:
        """Return the runs that have begun and not ended."""
        return await self._do(JournalStore.open_runs)

    async def events_after(self, sequence: int, limit: int = _BATCH) -> list[host_link_pb2.JournalEvent]:
        """Return unacknowledged facts after `sequence`, oldest first."""
        return await self._do(lambda store: store.events_after(sequence, limit))

    async def acknowledge(self, sequence: int) -> None:
        """All facts up to this one are in the register."""
        await self._do(lambda store: store.acknowledge(sequence))
        self._acknowledged = max(self._acknowledged, sequence)
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def waiting(self) -> tuple[int, int, int]:
        """Return how many facts are not acknowledged, how many messages wait to be typed, and how many runs live."""
        return await self._do(JournalStore.waiting)

    async def all_told(self) -> None:
        """Return when the register has acknowledged every fact that is in the journal now."""
        newest = await self._do(JournalStore.newest_event)
        while self._acknowledged < newest:
            await self._news.wait()

    async def _do(self, work: Callable[[JournalStore], Result]) -> Result:
        if self._closed:
            raise JournalUnwritable(why="it is closed")
        future: asyncio.Future[Result] = self._loop.create_future()
        self._queue.put((work, future))
        # Shielded: what was asked for happens, and its caller's cancellation must not look like it did not.
        return await asyncio.shield(future)

    def _serve(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            closing = None in batch
            self._write([item for item in batch if item is not None])
        self._store.close()

    def _write(self, batch: list[tuple[Work, asyncio.Future[Any]]]) -> None:
        outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        self._store.appended = False
        try:
            self._store.begin()
            for work, future in batch:
                self._store.savepoint()
                try:
                    outcomes.append((future, work(self._store), None))
                except Exception as error:  # noqa: BLE001 - it belongs to the one who asked; others in the batch go on
                    self._store.release(undo=True)
                    outcomes.append((future, None, _explained(error)))
                else:
                    self._store.release(undo=False)
            self._store.commit()
        except sqlite3.Error as error:
            log.exception("the journal could not be written")
            outcomes = [(future, None, JournalUnwritable(why=str(error))) for _, future in batch]
            self._store.appended = False
            self._store.rollback()
        self._loop.call_soon_threadsafe(self._settle_all, outcomes, self._store.appended)

    def _settle_all(
        self, outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]], appended: bool
    ) -> None:
        for future, result, error in outcomes:
            _settle(future, result, error)
        if appended:
            self.on_append()


def _explained(error: Exception) -> Exception:
    return JournalUnwritable(why=str(error)) if isinstance(error, sqlite3.Error) else error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _nothing() -> None:
    """What is called while nobody listens."""


def _nothing_of(_run_id: str) -> None:
    """What is called while nobody listens."""
