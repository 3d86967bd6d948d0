"""The journal's reads and writes, on one SQLite connection of one thread. Transactions are the caller's."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.paths import private_folder
from mosaic_proto.v1 import host_link_pb2, messages_pb2

from mosaic_hostagent import ladder
from mosaic_hostagent.clock import Clock, Stamp
from mosaic_hostagent.journal_facts import (
    Evidence,
    Incoming,
    JournalDamaged,
    JournalTooNew,
    Mode,
    OpenRun,
    Stored,
    exit_code,
)
from mosaic_hostagent.journal_resets import TABLE as RESET_TABLE
from mosaic_hostagent.journal_resets import ResetRows
from mosaic_hostagent.journal_schema import CHANGES, FORMAT, SCHEMA
from mosaic_hostagent.journal_updates import TABLE as UPDATE_TABLE
from mosaic_hostagent.journal_updates import Update, UpdateRows
from mosaic_hostagent.kickstart import message_id as kickstart_id
from mosaic_hostagent.ladder import Step

KEPT_MS = 31 * 24 * 3600 * 1000  # longer than the longest deadline: until then the same message may be given again
RESET = "reset"
CRASHED = "the host-agent died between typing and recording, so nobody can say whether it arrived"


@dataclass(frozen=True, slots=True)
class Begun:
    """What came with the start of a run: its first message, if it has one, and the run that a reset ended for it."""

    first: Incoming | None = None
    ended: str | None = None


class JournalStore(ResetRows, UpdateRows):
    """The open journal."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._db = connection
        self._clock = clock
        self.appended = False
        """set by every write to the outbox; the caller clears it"""

    @classmethod
    def open(cls, folder: Path, clock: Clock) -> JournalStore:
        """Open or make the journal in `folder` (0700, files 0600). Raises JournalDamaged or JournalTooNew."""
        private_folder(folder)
        path = folder / "journal.db"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, timeout=5)
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            connection.execute("pragma foreign_keys = on")
            problems = connection.execute("pragma quick_check(1)").fetchone()[0]
            if problems != "ok":
                raise JournalDamaged(folder, str(problems)[:200])
            store = cls(connection, clock)
            store._prepare()
        except sqlite3.DatabaseError as error:
            connection.close()
            raise JournalDamaged(folder, str(error)) from error
        except FleetError:
            connection.close()
            raise
        return store

    def _prepare(self) -> None:
        self._db.execute("begin immediate")
        if self._db.execute("select count(*) from sqlite_master").fetchone()[0] == 0:
            self._db.execute("commit")
            self._db.executescript(f"begin immediate; {SCHEMA} commit")
            self._db.execute("begin immediate")
        self._db.execute("insert or ignore into meta values ('format', ?)", (str(FORMAT),))
        self._db.execute("insert or ignore into meta values ('journal_id', ?)", (str(new_id()),))
        self._db.execute("insert or ignore into meta values ('link_epoch', '0')")
        self._db.execute(RESET_TABLE)
        self._db.execute(UPDATE_TABLE)
        self._db.execute("insert or ignore into meta values ('claim', ?)", (str(self._newest_sequence()),))
        self._db.execute("commit")
        if (now := int(self._meta("format"))) > FORMAT:
            raise JournalTooNew(why=f"it has format {now}, this host-agent knows {FORMAT}")
        for made in range(now + 1, FORMAT + 1):
            self._db.executescript(f"begin immediate; {CHANGES[made]} commit")

    def _meta(self, key: str) -> str:
        return str(self._db.execute("select value from meta where key = ?", (key,)).fetchone()[0])

    def begin(self) -> None:
        """Begin a transaction."""
        self._db.execute("begin immediate")

    def commit(self) -> None:
        """Commit: on disk when this returns."""
        self._db.execute("commit")

    def rollback(self) -> None:
        """Undo the transaction, if one is open."""
        if self._db.in_transaction:
            self._db.execute("rollback")

    def savepoint(self) -> None:
        """Begin a part of the transaction that can be undone alone."""
        self._db.execute("savepoint part")

    def release(self, *, undo: bool) -> None:
        """End that part."""
        if undo:
            self._db.execute("rollback to part")
        self._db.execute("release part")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def journal_id(self) -> str:
        """Return the id that was made with this file."""
        return self._meta("journal_id")

    def link_epoch(self) -> int:
        """Return the newest link epoch that this journal has seen."""
        return int(self._meta("link_epoch"))

    def linked(self, epoch: int) -> None:
        """A control plane has taken this journal for the newest, under a link epoch. An older epoch is not noted."""
        self._db.execute("delete from meta where key = 'claim'")
        self._db.execute(
            "update meta set value = ? where key = 'link_epoch' and cast(value as integer) < ?", (str(epoch), epoch)
        )

    def sequence_to_claim(self) -> int:
        """Return the sequence of the newest fact that this journal had when no control plane had seen it since.

        What a restored journal writes by itself must not make it look as new as the one that it replaced: the claim is
        made at the first opening after a link, whatever comes of that process, and holds until the next link.
        """
        row = self._db.execute("select value from meta where key = 'claim'").fetchone()
        return int(row[0]) if row is not None else self._newest_sequence()

    def _newest_sequence(self) -> int:
        row = self._db.execute("select seq from sqlite_sequence where name = 'outbox'").fetchone()
        return int(row[0]) if row is not None else 0

    def disown(self, reason: str) -> tuple[str, list[str]]:
        """End all that is open as unknown, and become another journal. Returns the new id and the messages ended."""
        rows = self._db.execute(
            "select message_id from inbox where step in ('dispatched', 'typing', 'typed', 'entering')"
        )
        lost = [message_id for (message_id,) in rows.fetchall()]
        self._db.execute("update inbox set step = 'typing' where step = 'dispatched'")
        for message_id in lost:
            self.record(message_id, Step.UNKNOWN, Evidence("journal", ""), reason=reason)
        self._db.execute("update meta set value = ? where key = 'journal_id'", (str(new_id()),))
        self._db.execute("update meta set value = '0' where key = 'link_epoch'")
        self._db.execute("delete from meta where key = 'claim'")
        return self.journal_id(), lost

    def recover(self) -> list[str]:
        """After a start: what was being typed becomes unknown. Returns those messages; forgets what is long over."""
        rows = self._db.execute("select message_id, step from inbox where step in ('typing', 'typed', 'entering')")
        unsure = [message_id for message_id, step in rows.fetchall() if ladder.unsure_after_crash(Step(step))]
        for message_id in unsure:
            self.record(message_id, Step.UNKNOWN, Evidence("journal", ""), reason=CRASHED)
        horizon = self._clock.now().wall_ms - KEPT_MS
        self._db.execute("delete from inbox where step <> 'dispatched' and step_wall_ms < ?", (horizon,))
        return unsure

    def receive(self, message: Incoming) -> tuple[Step, bool]:
        """Take a message in: (its step, whether it is new). One that is known tells all its steps again."""
        known = self._db.execute("select step from inbox where message_id = ?", (message.message_id,)).fetchone()
        if known is not None:
            self._db.execute(
                "insert into outbox (event, boot, monotonic_ms, wall_ms) "
                "select event, boot, monotonic_ms, wall_ms from inbox_step where message_id = ? order by rowid",
                (message.message_id,),
            )
            self.appended = True
            return Step(known[0]), False
        self._db.execute(
            "insert into inbox (message_id, agent_id, seat_seq, body, digest, sender, sender_is_person, step, "
            "deadline_boot, deadline_monotonic_ms, deadline_wall_ms, step_wall_ms, mode) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                message.message_id,
                message.agent_id,
                message.seat_seq,
                message.body,
                message.digest,
                message.sender,
                message.sender_is_person,
                Step.DISPATCHED,
                message.deadline.boot,
                message.deadline.monotonic_ms,
                message.deadline.wall_ms,
                self._clock.now().wall_ms,
                message.mode,
            ),
        )
        self._tell(message.message_id, Step.DISPATCHED, Evidence("journal", "in the host's journal, on disk"), "")
        return Step.DISPATCHED, True

    def digest(self, message_id: str) -> str:
        """Return the payload digest under which a known message was first given."""
        return str(self._db.execute("select digest from inbox where message_id = ?", (message_id,)).fetchone()[0])

    def record(
        self, message_id: str, step: Step, evidence: Evidence, *, reason: str = "", run_id: str | None = None
    ) -> bool:
        """Raise a message to `step`; say whether that was a rise. Only a rise is written and told."""
        row = self._db.execute("select step from inbox where message_id = ?", (message_id,)).fetchone()
        if row is None or not ladder.may_follow(Step(row[0]), step):
            return False
        keeps_body = step in (Step.TYPING, Step.TYPED, Step.ENTERING, Step.UNKNOWN)
        self._db.execute(
            "update inbox set step = ?, reason = ?, step_wall_ms = ?, run_id = coalesce(?, run_id), "
            "body = case when ? then body else '' end where message_id = ?",
            (step, reason, self._clock.now().wall_ms, run_id, keeps_body, message_id),
        )
        if ladder.is_told(step):
            self._tell(message_id, step, evidence, reason)
        return True

    def begin_typing(self, message_id: str, *, run_id: str) -> bool:
        """Go from `dispatched` to `typing`; again after an `untype` that could not be written."""
        done = self._db.execute(
            "update inbox set step = 'typing', step_wall_ms = ?, run_id = ? "
            "where message_id = ? and step in ('dispatched', 'typing')",
            (self._clock.now().wall_ms, run_id, message_id),
        )
        return done.rowcount == 1

    def untype(self, message_id: str) -> bool:
        """Take `typing` back: tmux refused the paste, so that nothing was typed."""
        done = self._db.execute(
            "update inbox set step = 'dispatched', run_id = '' where message_id = ? and step = 'typing'", (message_id,)
        )
        return done.rowcount == 1

    def _tell(self, message_id: str, step: Step, evidence: Evidence, reason: str) -> None:
        told = host_link_pb2.StepEvent(
            message_id=message_id,
            step=ladder.to_wire(step),
            evidence=messages_pb2.Evidence(source=evidence.source, detail=evidence.detail),
            reason=reason,
        )
        event = host_link_pb2.JournalEvent(step=told).SerializeToString()
        now = self._clock.now()
        self._db.execute(
            "insert into inbox_step (message_id, event, boot, monotonic_ms, wall_ms) values (?, ?, ?, ?, ?)",
            (message_id, event, now.boot, now.monotonic_ms, now.wall_ms),
        )
        self._append(event, now)

    def _append(self, event: bytes, at: Stamp) -> None:
        self._db.execute(
            "insert into outbox (event, boot, monotonic_ms, wall_ms) values (?, ?, ?, ?)",
            (event, at.boot, at.monotonic_ms, at.wall_ms),
        )
        self.appended = True

    def step_of(self, message_id: str) -> Step | None:
        """Return a message's step, or None when it is not here."""
        row = self._db.execute("select step from inbox where message_id = ?", (message_id,)).fetchone()
        return Step(row[0]) if row is not None else None

    def open_messages(self) -> list[Stored]:
        """Return what waits to be typed, seat by seat, in the order of typing."""
        return self._select("step = 'dispatched' order by agent_id, seat_seq, message_id")

    def leftovers(self, agent_id: str) -> list[Stored]:
        """Return messages to a seat whose text may still stand in its composer, oldest first."""
        return self._select("agent_id = ? and step = 'unknown' and body <> '' order by seat_seq, message_id", agent_id)

    def in_flight(self, run_id: str) -> list[Stored]:
        """Return what was typed into a run and whose turn has not ended, in the order of typing."""
        return self._select(
            "run_id = ? and step not in ('dispatched', 'turn_ended', 'failed', 'expired', 'cancelled') "
            "order by seat_seq, message_id",
            run_id,
        )

    def forget_leftovers(self, agent_id: str) -> None:
        """The composer holds nothing of ours any more."""
        self._db.execute("update inbox set body = '' where agent_id = ? and step = 'unknown'", (agent_id,))

    def _select(self, condition: str, *arguments: str) -> list[Stored]:
        rows = self._db.execute(
            "select message_id, agent_id, seat_seq, body, digest, sender, sender_is_person, deadline_boot, "  # noqa: S608
            f"deadline_monotonic_ms, deadline_wall_ms, step, reason, run_id, step_wall_ms, mode "
            f"from inbox where {condition}",
            arguments,
        )
        return [
            Stored(
                Incoming(
                    row[0],
                    row[1],
                    row[2],
                    row[3],
                    row[4],
                    row[5],
                    bool(row[6]),
                    Stamp(row[7], row[8], row[9]),
                    Mode(row[14]),
                ),
                Step(row[10]),
                *row[11:14],
            )
            for row in rows
        ]

    def run_started(
        self, run_id: str, agent_id: str, *, model: str, account: str, first: Incoming | None = None
    ) -> Begun:
        """A run begins; one that is known already is not told again. Its `first` message comes in with it.

        A run that is older than this journal was told its first message by whoever kept the journal before.
        """
        done = self._db.execute("insert or ignore into run (run_id, agent_id) values (?, ?)", (run_id, agent_id))
        if done.rowcount != 1:
            return Begun()
        if (before := self.take_reset_before(run_id)) is not None:
            self.run_ended(before, reason=RESET, exit_status=None)
        event = host_link_pb2.RunStarted(run_id=run_id, agent_id=agent_id, model=model, account=account)
        self._append(host_link_pb2.JournalEvent(run_started=event).SerializeToString(), self._clock.now())
        taken = first is not None and run_id > self.journal_id() and self.receive(first)[1]
        return Begun(first if taken else None, before)

    def run_ended(self, run_id: str, *, reason: str, exit_status: int | None) -> bool:
        """A run ends, once; say whether it was open."""
        row = self._db.execute("delete from run where run_id = ? returning agent_id", (run_id,)).fetchone()
        if row is None:
            return False
        self.forget_reset_of(run_id)
        # What a run was to be told first is not for the next one.
        self.record(kickstart_id(run_id), Step.EXPIRED, Evidence("journal", ""), reason="its run is over")
        event = host_link_pb2.RunEnded(
            run_id=run_id, agent_id=row[0], reason=reason, exit_status=exit_code(exit_status)
        )
        self._append(host_link_pb2.JournalEvent(run_ended=event).SerializeToString(), self._clock.now())
        return True

    def tell_update(self, update: Update) -> None:
        """Note how far an update is, and tell the register."""
        self.keep_update(update)
        event = host_link_pb2.JournalEvent(runtime_update=update.told())
        self._append(event.SerializeToString(), self._clock.now())

    def open_runs(self) -> list[OpenRun]:
        """Return the runs that have begun and not ended."""
        return [OpenRun(*row) for row in self._db.execute("select run_id, agent_id from run order by run_id")]

    def events_after(self, sequence: int, limit: int) -> list[host_link_pb2.JournalEvent]:
        """Return unacknowledged facts after `sequence`, oldest first, each with its sequence and its age now."""
        now = self._clock.now()
        rows = self._db.execute(
            "select sequence, event, boot, monotonic_ms, wall_ms from outbox where sequence > ? "
            "order by sequence limit ?",
            (sequence, limit),
        )
        return [_framed(row[0], row[1], max(0, Stamp(row[2], row[3], row[4]).until(now))) for row in rows]

    def newest_event(self) -> int:
        """Return the sequence of the newest fact that is not acknowledged, 0 when all are."""
        return int(self._db.execute("select coalesce(max(sequence), 0) from outbox").fetchone()[0])

    def waiting(self) -> tuple[int, int, int]:
        """Return (facts not acknowledged, messages that wait to be typed, runs that live)."""
        counted = "select (select count(*) from outbox), count(*), (select count(*) from run) from inbox"
        events, messages, runs = self._db.execute(f"{counted} where step = 'dispatched'").fetchone()
        return int(events), int(messages), int(runs)

    def acknowledge(self, sequence: int) -> None:
        """All facts up to this one are in the register."""
        self._db.execute("delete from outbox where sequence <= ?", (sequence,))


def _framed(sequence: int, event: bytes, age_ms: int) -> host_link_pb2.JournalEvent:
    frame = host_link_pb2.JournalEvent.FromString(event)
    frame.sequence = sequence
    match frame.WhichOneof("event"):
        case "step":
            frame.step.age_ms = age_ms
        case "run_started":
            frame.run_started.age_ms = age_ms
        case "run_ended":
            frame.run_ended.age_ms = age_ms
    return frame
