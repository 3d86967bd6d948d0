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
    """A place in the stream of one register: (register_epoch, xid8, seq). Changes after it are still to come."""

    register_epoch: UUID
    xid: int
    seq: int

    def __str__(self) -> str:
        return f"{self.register_epoch.hex}.{self.xid}.{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that `str` wrote. Raises InvalidInput."""
        try:
            epoch, xid, seq = text.split(".")
            cursor = cls(UUID(hex=epoch), int(xid), int(seq))
        except ValueError:
            raise InvalidInput(
                "this cursor is not one of ours", why=f"it reads {text[:80]!r}", next_step=_ANEW
            ) from None
        if not (0 <= cursor.xid < 2**63 and -1 <= cursor.seq < 2**63):
            raise InvalidInput("this cursor is not one of ours", why="its numbers are out of range", next_step=_ANEW)
        return cursor


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed: its kind, its id, and the cursor after it."""

    kind: str
    id: UUID
    xid: int
    seq: int


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


async def after(
    connection: Connection, *, tenant_id: UUID, cursor: Cursor, unseen_in: str | None = None, limit: int = PAGE
) -> list[Change]:
    """Return up to `limit` changes of a tenant after `cursor`, in order; without those that `unseen_in` saw."""
    rows = await connection.fetch(SQL.after, str(cursor.xid), cursor.seq, tenant_id, limit, unseen_in)
    return [Change(row["kind"], row["id"], int(row["xid"]), row["seq"]) for row in rows]


async def forgotten_up_to(connection: Connection) -> int:
    """Return the newest transaction of which changes have been deleted; 0 when none have."""
    return int(await connection.fetchval(SQL.forgotten_up_to) or 0)


async def forget_old(connection: Connection) -> None:
    """Delete changes older than KEPT."""
    while (await connection.fetchval(SQL.forget_old, KEPT, _FORGOTTEN_AT_ONCE) or 0) == _FORGOTTEN_AT_ONCE:
        pass
