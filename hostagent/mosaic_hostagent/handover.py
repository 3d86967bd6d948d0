"""Messages that a runtime asks for itself at the end of a turn, instead of having them typed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from mosaic_hostagent.journal import Journal
from mosaic_hostagent.journal_facts import Evidence
from mosaic_hostagent.ladder import Step
from mosaic_hostagent.turn_book import InFlight, TurnBook

READ_SECONDS = 5.0
SOURCE = "hook"
_TURN_MS = 2
_UNREAD = "it was handed to the runtime's stop hook, which did not say that it read it"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Offered:
    run_id: str
    message: InFlight
    steers: bool
    unread: asyncio.Task[None]
    given_up: bool = False


class Handover:
    """One message a seat at a time, until the runtime has read it or `READ_SECONDS` have passed."""

    def __init__(self, journal: Journal, book: TurnBook) -> None:
        self._journal = journal
        self._book = book
        self._offered: dict[str, _Offered] = {}

    async def offer(self, agent_id: str, run_id: str, message: InFlight, *, steers: bool) -> bool:
        """Journal that a message is handed over; False when another one is, or it waits no more."""
        if (before := self._offered.get(agent_id)) is not None:
            if not before.given_up:
                return False
            self._withdraw(agent_id)
        unread = asyncio.create_task(self._give_up(agent_id), name=f"handover-{agent_id}")
        self._offered[agent_id] = _Offered(run_id, message, steers, unread)
        if not await self._journal.begin_typing(message.message_id, run_id=run_id):
            self._withdraw(agent_id)
            return False
        self._book.typing(run_id, message, steers=steers)
        return True

    async def taken(self, agent_id: str, run_id: str, *, at: int) -> int:
        """The runtime has read it, and be it that this is heard late. Told again, or of another run: nothing.

        Returns how many milliseconds after `at` its turn may end.
        """
        offered = self._offered.get(agent_id)
        if offered is None or offered.run_id != run_id:
            return 0
        self._withdraw(agent_id)
        await self._book.handed_over(run_id, offered.message.message_id, SOURCE, at=at, steers=offered.steers)
        return _TURN_MS

    def passed_over(self, agent_id: str, run_id: str) -> None:
        """The runtime took another prompt: what it does from here on says nothing of what was handed over."""
        offered = self._offered.get(agent_id)
        if offered is not None and offered.run_id == run_id and offered.given_up:
            self._withdraw(agent_id)

    async def close(self) -> None:
        """Wait for nothing any more: what was not read is unknown at the next start."""
        tasks = [offered.unread for offered in self._offered.values()]
        for agent_id in list(self._offered):
            self._withdraw(agent_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _withdraw(self, agent_id: str) -> None:
        self._offered.pop(agent_id).unread.cancel()

    async def _give_up(self, agent_id: str) -> None:
        await asyncio.sleep(READ_SECONDS)
        offered = self._offered[agent_id]
        offered.given_up = True
        log.warning("a handed over message was not read", agent=agent_id, message=offered.message.message_id)
        await self._journal.record(offered.message.message_id, Step.UNKNOWN, Evidence(SOURCE, ""), reason=_UNREAD)
