"""Seats that are reset between tasks: when an agent lets go of its card, and what it may not do until it is reset.

An agent does both with `mosaic backlog …` in its pane, and so through this host-agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from mosaic_framework.errors import Conflict

from mosaic_hostagent.resetting import HOLD
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.sessions import PaneSession

_SERVICE = "/mosaic.v1.BacklogService/"
_ENDS = frozenset(_SERVICE + verb for verb in ("Propose", "Complete", "Release", "Block"))
_CLAIMS = frozenset(_SERVICE + verb for verb in ("Claim", "Work"))


class ResetFirst(Conflict):
    """This agent is reset before it takes another card."""

    code = "reset-first"
    hint = "end your turn: you begin anew with an empty context, and can claim then"


class NoWorkStream(Conflict):
    """An agent that is reset between tasks takes and ends each card by itself."""

    code = "no-work-stream"
    hint = "mosaic backlog claim, then: mosaic backlog complete CARD"


class BetweenTasks:
    """Looks at the calls from panes. `task_ended(agent_id)` has the seat reset; see Resetting."""

    def __init__(self, residents: Mapping[str, Resident], task_ended: Callable[[str], Awaitable[bool]]) -> None:
        self._residents = residents
        self._task_ended = task_ended

    def before(self, session: PaneSession, method: str) -> None:
        """Raise ResetFirst for a claim before the reset, and NoWorkStream for a stream that would hide the end."""
        resident = self._residents.get(session.agent_id)
        if method not in _CLAIMS or resident is None or not resident.seat.spec.reset_between_tasks:
            return
        if HOLD in resident.holds:
            raise ResetFirst
        if method == f"{_SERVICE}Work":
            raise NoWorkStream

    async def after(self, session: PaneSession, method: str) -> None:
        """A call has been carried out: one that ends a task has its seat reset."""
        if method in _ENDS:
            await self._task_ended(session.agent_id)
