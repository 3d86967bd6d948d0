"""Updates of runtimes in the journal: each once, with how far it is, so that none is carried out twice."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mosaic_proto.v1 import runtimes_pb2

TABLE = """
create table if not exists runtime_update (
  update_id text primary key,
  ended integer not null default 0,
  facts text not null
) without rowid
"""

WANTED = "wanted"
DRAINING = "draining"
UPDATING = "updating"
RELAUNCHING = "relaunching"
DONE = "done"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Seen:
    """How one seat came through."""

    name: str
    well: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Update:
    """An update, and how far it is. `pid`, `started`: of the command that updates, as psutil tells it.

    `runs`: the runs that are to be replaced (agent id to run id).
    """

    update_id: str
    runtime: str
    relaunch: bool
    drain_ms: int
    state: str = WANTED
    version_before: str = ""
    version_after: str = ""
    problem: str = ""
    output: str = ""
    pid: int = 0
    started: float = 0.0
    runs: dict[str, str] = field(default_factory=dict)
    seats: tuple[Seen, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in (DONE, FAILED)

    def told(self) -> runtimes_pb2.UpdateProgress:
        """Return what the control plane hears."""
        return runtimes_pb2.UpdateProgress(
            id=self.update_id,
            state=runtimes_pb2.UpdateState.Value(f"UPDATE_STATE_{self.state.upper()}"),
            version_before=self.version_before,
            version_after=self.version_after,
            problem=self.problem,
            output=self.output,
            seats=[runtimes_pb2.SeatOutcome(name=one.name, well=one.well, detail=one.detail) for one in self.seats],
        )


class UpdateRows:
    """The table's reads and writes; a part of JournalStore."""

    _db: sqlite3.Connection

    def take_update(self, update: Update) -> bool:
        """Take an update in; False when it is known."""
        done = self._db.execute(
            "insert or ignore into runtime_update (update_id, facts) values (?, ?)",
            (update.update_id, json.dumps(asdict(update))),
        )
        return done.rowcount == 1

    def keep_update(self, update: Update) -> None:
        """Note how far an update is."""
        self._db.execute(
            "update runtime_update set facts = ?, ended = ? where update_id = ?",
            (json.dumps(asdict(update)), int(update.ended), update.update_id),
        )

    def open_updates(self) -> list[Update]:
        """Return what has not come to its end, the oldest first."""
        rows = self._db.execute("select facts from runtime_update where not ended order by update_id")
        return [_update(json.loads(facts)) for (facts,) in rows]


def _update(facts: dict[str, Any]) -> Update:
    seats = tuple(Seen(**one) for one in facts.pop("seats"))
    return replace(Update(**facts), seats=seats)
