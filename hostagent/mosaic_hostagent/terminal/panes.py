"""What `list-panes` says of our sessions (pure)."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    "@mosaic_model",
    "@mosaic_reset",
    "session_created",
    *_MOVING,
)
PANE_FORMAT = "\t".join(f"#{{{field}}}" for field in _FIELDS)


@dataclass(frozen=True, slots=True)
class Unmanaged:
    """A session on a server of the fleet's that this fleet did not make. `created`: seconds since the epoch."""

    server: ServerKey
    name: str
    pid: int
    command: str
    created: int


@dataclass(frozen=True, slots=True)
class Observed:
    """Our sessions on a server, and a mark for each pane (by id) that changes when its program writes something."""

    sessions: list[Session]
    marks: dict[str, str]
    unmanaged: list[Unmanaged] = field(default_factory=list)


def read_panes(rows: Sequence[str], server: ServerKey, *, home: str) -> Observed:
    """Return the sessions that `home` marked. Of several panes in one, the one that we started counts."""
    sessions: dict[str, Session] = {}
    marks: dict[str, str] = {}
    others: dict[str, Unmanaged] = {}
    for row in rows:
        fields = dict(zip(_FIELDS, row.split("\t"), strict=False))
        if "pane_title" not in fields:
            continue
        if fields["@mosaic_home"] != home:
            others.setdefault(fields["session_id"], _unmanaged(fields, server))
        elif not fields["@mosaic_holder"]:
            session = _session(fields, server)
            if fields["@mosaic_seat"]:
                sessions[session.session_id] = session
                marks[session.pane_id] = ":".join(fields[name] for name in _MOVING)
            else:
                sessions.setdefault(session.session_id, session)
    return Observed(list(sessions.values()), marks, list(others.values()))


def _unmanaged(fields: dict[str, str], server: ServerKey) -> Unmanaged:
    return Unmanaged(
        server=server,
        name=fields["session_name"],
        pid=int(fields["pane_pid"] or 0),
        command=fields["pane_current_command"],
        created=int(fields["session_created"] or 0),
    )


def _session(fields: dict[str, str], server: ServerKey) -> Session:
    status, killed_by = fields["pane_dead_status"], fields["pane_dead_signal"]
    # Reaped is dead, though a child that kept the terminal open makes tmux show the pane as alive.
    dead = fields["pane_dead"] not in ("", "0") or bool(status or killed_by)
    exit_status = int(status) if status else 128 + _signal_number(killed_by) if killed_by else None
    return Session(
        server=server,
        session_id=fields["session_id"],
        name=fields["session_name"],
        pane_id=fields["pane_id"],
        pid=int(fields["pane_pid"] or 0),
        alive=not dead and bool(fields["@mosaic_seat"]),
        exit_status=exit_status if dead else None,
        agent_id=fields["@mosaic_agent"],
        run_id=fields["@mosaic_run"],
        generation=int(fields["@mosaic_generation"] or 0),
        restart=int(fields["@mosaic_restart"] or 0),
        launch_digest=fields["@mosaic_launch"],
        model=fields["@mosaic_model"],
        reset=int(fields["@mosaic_reset"] or 0),
    )


def _signal_number(text: str) -> int:
    """Return the number of a signal that tmux names "9", "KILL" or "SIGKILL", depending on its version."""
    if text.isdigit():
        return int(text)
    name = text if text.startswith("SIG") else f"SIG{text}"
    return int(signal.Signals[name]) if name in signal.Signals.__members__ else 0
