"""Reading a pane: a snapshot for evidence, or text for a person."""

from __future__ import annotations

import time

from mosaic_hostagent.terminal.control_mode import Command, Reply
from mosaic_hostagent.terminal.evidence import Snapshot
from mosaic_hostagent.terminal.server import TmuxServer
from mosaic_hostagent.terminal.styles import plain_rows

DRAWN_SECONDS = 2.0
"""A person's key may not be drawn before so long. At least 2: tmux tells its moment in whole seconds, and a key
after the look must be told from one before it"""
TEXT_LIMIT = 1024 * 1024
_FIELDS = (
    "cursor_x",
    "cursor_y",
    "history_size",
    "pane_width",
    "pane_dead",
    "pane_dead_status",
    "pane_in_mode",
    "alternate_on",
    "pane_pid",
    "pane_tty",
    "pane_current_command",
    "session_activity",
    "session_attached",
    "pane_title",
)
_FORMAT = "\t".join(f"#{{{field}}}" for field in _FIELDS)


def snapshot_commands(pane_id: str) -> tuple[Command, Command]:
    """Return the two commands whose replies `snapshot_of` reads; run together they show one moment."""
    return ["display-message", "-p", "-t", pane_id, _FORMAT], ["capture-pane", "-p", "-e", "-t", pane_id]


def snapshot_of(figures: Reply, rows: Reply) -> Snapshot:
    """Return the snapshot that the replies of `snapshot_commands` show."""
    field = dict(zip(_FIELDS, (figures[0] if figures else "").split("\t"), strict=False))
    person_at = int(field.get("session_activity") or 0)
    plain, bright = plain_rows(rows)
    return Snapshot(
        rows=plain,
        bright=bright,
        pid=int(field.get("pane_pid") or 0),
        tty=field.get("pane_tty", ""),
        cursor_x=int(field.get("cursor_x") or 0),
        cursor_y=int(field.get("cursor_y") or 0),
        history=int(field.get("history_size") or 0),
        width=int(field.get("pane_width") or 0),
        person_at=person_at,
        person_types=field.get("session_attached") not in ("", "0", None) and time.time() - person_at < DRAWN_SECONDS,
        # A pane that is gone has no figures at all.
        dead=field.get("pane_dead") != "0" or bool(field.get("pane_dead_status")),
        in_mode=field.get("pane_in_mode") not in ("", "0", None),
        alternate=field.get("alternate_on") == "1",
        title=field.get("pane_title", ""),
        command=field.get("pane_current_command", ""),
    )


async def look(server: TmuxServer, pane_id: str) -> Snapshot:
    """Return the pane as it is now. Raises TmuxRefused when it is gone."""
    figures, rows = await server.run(*snapshot_commands(pane_id))
    return snapshot_of(figures, rows)


async def read_text(server: TmuxServer, pane_id: str, *, scrollback: int) -> str:
    """Return the visible screen with up to `scrollback` lines above it, without the empty lines at its end."""
    start = ["-S", f"-{scrollback}"] if scrollback > 0 else []
    (rows,) = await server.run(["capture-pane", "-p", *start, "-t", pane_id])
    text = "\n".join(rows).rstrip("\n")
    encoded = text.encode()
    if len(encoded) <= TEXT_LIMIT:
        return text
    return encoded[-TEXT_LIMIT:].decode(errors="ignore").partition("\n")[2]
