"""What `list-panes` says of our sessions (pure)."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_hostagent.seats import ServerKey, Session

_MOVING = ("window_activity", "history_size", "cursor_x", "cursor_y", "pane_current_command", "pane_title")
_FIELDS = (
    "session_id",
    "session_name",
    "pane_id",
    "pane_pid",
    "pane_dead",
    "pane_dead_status",
    "pane_dead_signal",
    "@mosaic_home",
    "@mosaic_holder",
    "@mosaic_seat",
    "@mosaic_agent",
    "@mosaic_run",
    "@mosaic_generation",
    "@mosaic_restart",
    "@mosaic_launch",
    *_MOVING,
)
PANE_FORMAT = "\t".join(f"#{{{field}}}" for field in _FIELDS)


@dataclass(frozen=True, slots=True)
class Observed:
    """Our sessions on a server, and a mark for each pane (by id) that changes when its program writes something."""

    sessions: list[Session]
    marks: dict[str, str]


def read_panes(rows: Sequence[str], server: ServerKey, *, home: str) -> Observed:
    """Return the sessions that `home` marked. Of several panes in one, the one that we started counts."""
    sessions: dict[str, Session] = {}
    marks: dict[str, str] = {}
    for row in rows:
        field = dict(zip(_FIELDS, row.split("\t"), strict=False))
        if field.get("@mosaic_home") != home or field.get("@mosaic_holder") or "pane_title" not in field:
            continue
        session = _session(field, server)
        if field["@mosaic_seat"]:
            sessions[session.session_id] = session
            marks[session.pane_id] = ":".join(field[name] for name in _MOVING)
        else:
            sessions.setdefault(session.session_id, session)
    return Observed(list(sessions.values()), marks)


def _session(field: dict[str, str], server: ServerKey) -> Session:
    status, killed_by = field["pane_dead_status"], field["pane_dead_signal"]
    # Reaped is dead, though a child that kept the terminal open makes tmux show the pane as alive.
    dead = field["pane_dead"] not in ("", "0") or bool(status or killed_by)
    exit_status = int(status) if status else 128 + _signal_number(killed_by) if killed_by else None
    return Session(
        server=server,
        session_id=field["session_id"],
        name=field["session_name"],
        pane_id=field["pane_id"],
        pid=int(field["pane_pid"] or 0),
        alive=not dead and bool(field["@mosaic_seat"]),
        exit_status=exit_status if dead else None,
        agent_id=field["@mosaic_agent"],
        run_id=field["@mosaic_run"],
        generation=int(field["@mosaic_generation"] or 0),
        restart=int(field["@mosaic_restart"] or 0),
        launch_digest=field["@mosaic_launch"],
    )


def _signal_number(text: str) -> int:
    """Return the number of a signal that tmux names "9", "KILL" or "SIGKILL", depending on its version."""
    if text.isdigit():
        return int(text)
    name = text if text.startswith("SIG") else f"SIG{text}"
    return int(signal.Signals[name]) if name in signal.Signals.__members__ else 0
