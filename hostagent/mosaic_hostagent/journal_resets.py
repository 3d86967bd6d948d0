"""Resets of seats in the journal: one a seat at most, from when it is wanted until the run it begins has begun.

A reset that a dead host-agent had under way is found here by the next one, which so knows how far it came and types
nothing twice.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from enum import StrEnum

TABLE = """
create table if not exists reset (
  agent_id text primary key,
  run_id text not null,
  next_run_id text not null,
  wanted integer not null,
  cause text not null,
  step text not null,
  detail text not null default ''
) without rowid
"""

ASKED = "asked"
BETWEEN_TASKS = "between-tasks"


class ResetStep(StrEnum):
    """How far a reset is. `typing` and `entering` stand before the act; after `unproven` nothing is tried again."""

    WANTED = "wanted"
    TYPING = "typing"
    ENTERING = "entering"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Reset:
    """A reset of the run `run_id`, which `next_run_id` follows. `wanted`: the seat's count of resets asked for.

    `cause`: ASKED or BETWEEN_TASKS.
    """

    agent_id: str
    run_id: str
    next_run_id: str
    wanted: int
    cause: str
    step: ResetStep = ResetStep.WANTED
    detail: str = ""


class ResetRows:
    """The table's reads and writes; a part of JournalStore."""

    _db: sqlite3.Connection

    def want_reset(self, reset: Reset) -> Reset:
        """Take a reset up, and return the one that counts: one of the same run that is under way goes on."""
        known = self.reset_of(reset.agent_id)
        if known is not None and known.run_id == reset.run_id:
            if known.step is not ResetStep.UNPROVEN:  # it serves both
                wanted = max(known.wanted, reset.wanted)
                self._db.execute("update reset set wanted = ? where agent_id = ?", (wanted, reset.agent_id))
                return replace(known, wanted=wanted)
            if reset.cause == ASKED and known.wanted >= reset.wanted:
                return known
        self._db.execute(
            "insert or replace into reset (agent_id, run_id, next_run_id, wanted, cause, step, detail) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            (
                reset.agent_id,
                reset.run_id,
                reset.next_run_id,
                reset.wanted,
                reset.cause,
                reset.step,
                reset.detail,
            ),
        )
        return reset

    def reset_of(self, agent_id: str) -> Reset | None:
        """Return the reset of a seat that has not come to its end."""
        row = self._db.execute(
            "select agent_id, run_id, next_run_id, wanted, cause, step, detail from reset where agent_id = ?",
            (agent_id,),
        ).fetchone()
        if row is None:
            return None
        agent_id, run_id, next_run_id, wanted, cause, step, detail = row
        return Reset(agent_id, run_id, next_run_id, wanted, cause, ResetStep(step), detail)

    def resets(self) -> list[Reset]:
        """Return every reset that has not come to its end."""
        rows = self._db.execute("select agent_id from reset order by agent_id").fetchall()
        return [found for (agent_id,) in rows if (found := self.reset_of(agent_id)) is not None]

    def set_reset_step(self, agent_id: str, step: ResetStep, detail: str = "") -> None:
        """Note how far it is."""
        self._db.execute("update reset set step = ?, detail = ? where agent_id = ?", (step, detail, agent_id))

    def take_reset_before(self, run_id: str) -> str | None:
        """A run begins: return the run that a reset ended for it, if one did, and forget that reset."""
        row = self._db.execute("delete from reset where next_run_id = ? returning run_id", (run_id,)).fetchone()
        return str(row[0]) if row is not None else None

    def forget_reset_of(self, run_id: str) -> None:
        """A run is over in another way: there is nothing left to reset."""
        self._db.execute("delete from reset where run_id = ?", (run_id,))
