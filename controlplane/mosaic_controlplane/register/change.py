"""What changed, for watchers: an ordered stream with a cursor that misses nothing and repeats nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("change")
KEPT = timedelta(hours=24)
PAGE = 500
_FORGOTTEN_AT_ONCE = 20_000


_ANEW = "mosaic fleet watch (without --cursor it begins anew)"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the stream of one register: (register_epoch, xid8, seq). Changes after it are still to come.

    `seen` is the snapshot that its watcher began with, in Postgres's own words: what committed before it, beside a
    transaction that was still open, lies after the cursor and is known already. Empty once the cursor is past it.
    """

    register_epoch: UUID
    xid: int
    seq: int
    seen: str = ""

    def __str__(self) -> str:
        place = f"{self.register_epoch.hex}.{self.xid}.{self.seq}"
        return f"{place}.{self.seen}" if self.seen else place

    def at(self, xid: int, seq: int) -> Cursor:
        """Return the cursor at a later place of the same stream."""
        known = self.seen and xid < _snapshot_numbers(self.seen)[1]
        return Cursor(self.register_epoch, xid, seq, self.seen if known else "")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that `str` wrote. Raises InvalidInput."""
        try:
            epoch, xid, seq, *seen = text.split(".")
            numbers = _snapshot_numbers(".".join(seen)) if seen else []
            cursor = cls(UUID(hex=epoch), int(xid), int(seq), _snapshot_text(numbers))
        except ValueError:
            raise InvalidInput(
                "this cursor is not one of ours", why=f"it reads {text[:80]!r}", next_step=_ANEW
            ) from None
        if not (0 <= cursor.xid < 2**63 and -1 <= cursor.seq < 2**63 and all(0 < one < 2**63 for one in numbers)):
            raise InvalidInput("this cursor is not one of ours", why="its numbers are out of range", next_step=_ANEW)
        return cursor


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed: its kind, its id, and the cursor after it."""

    kind: str
    id: UUID
    xid: int
    seq: int


def _snapshot_numbers(text: str) -> list[int]:
    """Return xmin, xmax and the transactions open between them, of a pg_snapshot's text. Raises ValueError."""
    oldest, newest, between = text.split(":")
    numbers = [int(oldest), int(newest), *(int(one) for one in between.split(",") if between)]
    first, last, *open_ones = numbers
    if [first, *open_ones] != sorted([first, *open_ones]) or any(one >= last for one in open_ones) or first > last:
        raise ValueError(text)
    return numbers


def _snapshot_text(numbers: list[int]) -> str:
    if not numbers:
        return ""
    first, last, *open_ones = numbers
    return f"{first}:{last}:{','.join(map(str, open_ones))}"


async def position(connection: Connection, *, tenant_id: UUID, register_epoch: UUID) -> tuple[Cursor, bool]:
    """Return the cursor to take BEFORE reading a snapshot: every change the snapshot may lack comes after it.

    With it: whether changes have committed that `after` does not serve yet, since an older transaction is still open.
    """
    row = await connection.fetchrow(SQL.position, tenant_id)
    assert row is not None
    return Cursor(register_epoch, int(row["xid"]), -1), row["held_back"]


async def bounds(connection: Connection) -> tuple[int, int]:
    """Return (xmin, xmax) of this moment: what is below xmin is served to watchers, and xmax is the next to begin."""
    row = await connection.fetchrow(SQL.bounds)
    assert row is not None
    return int(row["xmin"]), int(row["xmax"])


async def snapshot(connection: Connection) -> str:
    """Return what this repeatable-read transaction sees, in Postgres's own words."""
    return str(await connection.fetchval(SQL.snapshot))


async def after(connection: Connection, *, tenant_id: UUID, cursor: Cursor, limit: int = PAGE) -> list[Change]:
    """Return up to `limit` changes of a tenant after `cursor`, in order; without those that its snapshot showed."""
    rows = await connection.fetch(SQL.after, str(cursor.xid), cursor.seq, tenant_id, limit, cursor.seen or None)
    return [Change(row["kind"], row["id"], int(row["xid"]), row["seq"]) for row in rows]


async def forgotten_up_to(connection: Connection) -> int:
    """Return the newest transaction of which changes have been deleted; 0 when none have."""
    return int(await connection.fetchval(SQL.forgotten_up_to) or 0)


async def forget_old(connection: Connection) -> None:
    """Delete changes older than KEPT."""
    while (await connection.fetchval(SQL.forget_old, KEPT, _FORGOTTEN_AT_ONCE) or 0) == _FORGOTTEN_AT_ONCE:
        pass
