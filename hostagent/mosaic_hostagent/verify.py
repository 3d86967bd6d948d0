"""`mosaic-hostagent verify`: how each seat of this host is, by tmux and the process, whatever a unit says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
from mosaic_framework import units
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home
from mosaic_framework.users import user_name

from mosaic_hostagent.desired import Desired, DesiredFile
from mosaic_hostagent.seats import Seat, Session
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.units.choice import towards_systemd
from mosaic_hostagent.units.systemctl import Systemctl, SystemdRefused

HINT = "mosaic host join"
_LAUNCH_MS = 60_000


@dataclass(frozen=True, slots=True)
class Verified:
    """One seat, or a session that no seat explains. `problem` is empty when it is as wanted and lives."""

    agent: str
    wanted: bool
    session: str
    pid: int
    lives: bool
    supervision: str
    unit: str
    unit_state: str
    enabled: bool
    problem: str


async def verify(home: Home, environment: Mapping[str, str]) -> list[Verified]:
    """Return every seat that should be here and every session of ours that is. Changes nothing; raises FleetError."""
    identity = StoredIdentity.load(home.pki / "host", hint=HINT)
    wire = DesiredFile(home.state, host_id=identity.identity_id).load()
    seats = Desired.from_wire(wire).seats if wire is not None else {}
    pool = ServerPool(home.state, home=home.digest, environment=environment)
    servers = {seat.server for seat in seats.values()} | set(pool.recorded)
    sessions = [session for key in servers for session in (await pool.get(key).look()).sessions]
    supervision = units.read_supervision(home)
    states = await _unit_states(list(seats.values()), environment) if supervision == units.SYSTEMD else {}
    lingers = units.lingers(user_name())

    def row(name: str, wanted: bool, session: Session | None, problem: str) -> Verified:
        unit = units.agent_unit(name) if supervision == units.SYSTEMD else ""
        return Verified(
            agent=name,
            wanted=wanted,
            session=session.name if session is not None else "",
            pid=session.pid if session is not None else 0,
            lives=session is not None and _lives(session),
            supervision=supervision,
            unit=unit,
            unit_state=states.get(unit, ""),
            enabled=bool(unit) and lingers and units.is_enabled(unit, environment),
            problem=problem,
        )

    rows = []
    for seat in sorted(seats.values(), key=lambda one: one.name):
        mine = [session for session in sessions if session.agent_id == seat.agent_id]
        best = next((session for session in mine if _lives(session)), mine[0] if mine else None)
        rows.append(row(seat.name, seat.running, best, _problem(seat, mine)))
    rows += [
        row(session.name, False, session, "it runs, and no roster wants it on this host")
        for session in sessions
        if session.agent_id not in seats and _lives(session)
    ]
    return rows


def _problem(seat: Seat, sessions: Sequence[Session]) -> str:
    living = [session for session in sessions if _lives(session)]
    if len(living) > 1:
        return f"it runs {len(living)} times"
    if living and not seat.running:
        return "it runs, and should not"
    if living or not seat.running or seat.on_demand:
        return ""
    return "its session is there, and its program has ended" if sessions else "it has no session"


def _lives(session: Session) -> bool:
    """Whether the program of a session runs: tmux may not have noticed its end, or its pid is another's by now."""
    try:
        process = psutil.Process(session.pid)
        young = process.create_time() * 1000 > session.began_ms + _LAUNCH_MS
        return session.alive and process.status() != psutil.STATUS_ZOMBIE and not young
    except psutil.NoSuchProcess:
        return False


async def _unit_states(seats: Sequence[Seat], environment: Mapping[str, str]) -> dict[str, str]:
    names = [units.agent_unit(seat.name) for seat in seats]
    try:
        found = await Systemctl(towards_systemd(environment)).show(names, "ActiveState", "SubState")
    except SystemdRefused as error:
        return dict.fromkeys(names, f"unknown: {error.why}")
    return {unit: f"{row.get('ActiveState', '')} ({row.get('SubState', '')})" for unit, row in found.items()}
