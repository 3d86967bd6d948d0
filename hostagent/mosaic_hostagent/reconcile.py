"""What to do so that the sessions that run become those that are wanted (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mosaic_hostagent.seats import Seat, Session

REMOVED = "removed"
STOPPED = "stopped"
RESTARTED = "restarted"
EXITED = "exited"
VANISHED = "vanished"
RESET = "reset"


@dataclass(frozen=True, slots=True)
class Stop:
    """End this session, for this reason."""

    session: Session
    reason: str


@dataclass(frozen=True, slots=True)
class Start:
    """Launch this seat, when its stops are done."""

    seat: Seat


@dataclass(frozen=True, slots=True)
class Keep:
    """This session is the seat: adopt it if it is not known yet. It may have ended, and stay so."""

    seat: Seat
    session: Session


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing of this seat runs, and nothing should, now."""

    seat: Seat


@dataclass(frozen=True, slots=True)
class SeatPlan:
    """What one seat needs: all stops, then the end."""

    agent_id: str
    stops: Sequence[Stop]
    then: Start | Keep | Rest | None


def plan(
    desired: Mapping[str, Seat],
    observed: Sequence[Session],
    *,
    not_before: Mapping[str, float],
    now: float,
    renew: Mapping[str, tuple[str, str]] | None = None,
) -> list[SeatPlan]:
    """Return a plan for every seat that is wanted or seen.

    `not_before` holds seats back that crashed or could not be started (monotonic seconds, as `now`). `renew`: runs (by
    agent) that are to be replaced by new ones, each with the reason for its end.
    """
    by_agent: dict[str, list[Session]] = {}
    for session in observed:
        by_agent.setdefault(session.agent_id, []).append(session)
    plans = []
    for agent_id in sorted(desired.keys() | by_agent.keys()):
        sessions = sorted(by_agent.get(agent_id, []), key=lambda one: one.run_id, reverse=True)
        seat = desired.get(agent_id)
        if seat is None:
            plans.append(SeatPlan(agent_id, [Stop(session, REMOVED) for session in sessions], None))
        else:
            plans.append(_plan_seat(seat, sessions, not_before.get(agent_id, 0.0), now, (renew or {}).get(agent_id)))
    return plans


def _plan_seat(
    seat: Seat, sessions: Sequence[Session], not_before: float, now: float, renew: tuple[str, str] | None
) -> SeatPlan:
    if not seat.running:
        return SeatPlan(seat.agent_id, [Stop(session, STOPPED) for session in sessions], Rest(seat))
    alive = next((session for session in sessions if session.alive), None)
    kept = alive or next(iter(sessions), None)
    others = [Stop(session, RESTARTED) for session in sessions if session is not kept]
    if kept is None:
        return SeatPlan(seat.agent_id, others, Rest(seat) if now < not_before else Start(seat))
    if kept.restart < seat.restart:
        return SeatPlan(seat.agent_id, [*others, Stop(kept, RESTARTED)], Start(seat))
    if kept.alive and renew is not None and renew[0] == kept.run_id:
        return SeatPlan(seat.agent_id, [*others, Stop(kept, renew[1])], Start(seat))
    if kept.alive:
        return SeatPlan(seat.agent_id, others, Keep(seat, kept))
    # It has ended by itself. What it wrote last can be read until the next run begins.
    if now < not_before or (seat.on_demand and kept.generation >= seat.generation):
        return SeatPlan(seat.agent_id, others, Keep(seat, kept))
    return SeatPlan(seat.agent_id, [*others, Stop(kept, EXITED)], Start(seat))
