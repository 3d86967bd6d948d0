"""The first message of a run: the seat's kickstart template, filled in, on the way that every message takes.

It is journalled together with the start of its run, so that a run has it once, whoever dies; it ends with its run. The
control plane knows nothing of it.
"""

from __future__ import annotations

import hashlib
from uuid import NAMESPACE_OID, uuid5

from mosaic_framework.kickstart import render

from mosaic_hostagent.clock import Clock
from mosaic_hostagent.journal_facts import Incoming
from mosaic_hostagent.seats import Seat

SENDER = "mosaic"
MISSION = "mission"
_FIRST = 0
"""Before every message of the register: those begin at 1."""
_DEADLINE_MS = 24 * 3600 * 1000


def message_id(run_id: str) -> str:
    """Return the id of a run's first message: the same for the same run."""
    return str(uuid5(NAMESPACE_OID, f"kickstart {run_id}"))


def first_message(seat: Seat, run_id: str, clock: Clock) -> Incoming | None:
    """Return what a seat is told when a run of it begins, or None."""
    if not seat.spec.kickstart:
        return None
    mission = next((one.text for one in seat.briefing.texts if one.name == MISSION), "")
    values = {"name": seat.name, "class": getattr(seat.spec, "class"), "mission": mission.strip()}
    body = render(seat.spec.kickstart, values)
    return Incoming(
        message_id=message_id(run_id),
        agent_id=seat.agent_id,
        seat_seq=_FIRST,
        body=body,
        digest=hashlib.sha256(body.encode()).hexdigest(),
        sender=SENDER,
        sender_is_person=True,  # who wrote the roster
        deadline=clock.now().later(_DEADLINE_MS),
    )
