"""Where a delivery writes what it does: the journal. A fact that has happened is written however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from mosaic_hostagent.journal import Journal, JournalUnwritable
from mosaic_hostagent.journal_facts import Evidence
from mosaic_hostagent.ladder import Step

JOURNAL_RETRY = 1.0

log = structlog.get_logger(__name__)


class TypedBefore(Exception):
    """The journal says that this message waits to be typed no more: it is past that, or was taken back."""


class JournalLedger:
    """The ledger of one message's delivery into one run. `on_stall` is told a reason for a person."""

    def __init__(
        self, journal: Journal, *, message_id: str, agent_id: str, run_id: str, on_stall: Callable[[str], None]
    ) -> None:
        self._journal = journal
        self._message_id = message_id
        self._agent_id = agent_id
        self._run_id = run_id
        self._on_stall = on_stall

    async def typing(self) -> None:
        """Raise TypedBefore unless the message still waits to be typed; from here it is never typed again."""
        if not await self._journal.begin_typing(self._message_id, run_id=self._run_id):
            raise TypedBefore

    async def untyped(self) -> None:
        """Nothing was typed after all."""
        await self._journal.untype(self._message_id)

    async def typed(self, detail: str) -> None:
        """It was seen in the composer."""
        await self._record(Step.TYPED, detail)

    async def typed_and_entering(self, detail: str) -> None:
        """It was seen in the composer, and Enter comes next."""
        await self._insist(
            lambda: self._journal.record_typed_and_entering(self._message_id, Evidence("screen", detail))
        )

    async def submitted(self, detail: str) -> None:
        """The composer let go of it; so it holds nothing of ours."""
        await self._record(Step.SUBMITTED, detail)
        await self._insist(lambda: self._journal.forget_leftovers(self._agent_id))

    async def given(self, detail: str) -> None:
        """The runtime has it, by its own word and without the composer: what stands there is as it was."""
        evidence = Evidence("api", detail)
        await self._insist(lambda: self._journal.record(self._message_id, Step.SUBMITTED, evidence))

    async def accepted(self) -> None:
        """The runtime itself said that it has it, which is journalled already; the composer holds nothing of ours."""
        await self._insist(lambda: self._journal.forget_leftovers(self._agent_id))

    async def unknown(self, reason: str) -> None:
        """Nobody can say how far it came."""
        log.warning("a message became unknown", message=self._message_id, agent=self._agent_id, reason=reason)
        await self._record(Step.UNKNOWN, "", reason=reason)

    def stalled(self, reason: str) -> None:
        """It goes no further at the moment; an empty reason: it does again."""
        self._on_stall(reason)

    async def _record(self, step: Step, detail: str, *, reason: str = "") -> None:
        evidence = Evidence("screen", detail)
        await self._insist(lambda: self._journal.record(self._message_id, step, evidence, reason=reason))

    async def _insist(self, write: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await write()
            except JournalUnwritable as error:
                log.error("a step waits for the journal", message=self._message_id, why=error.why)
                await asyncio.sleep(JOURNAL_RETRY)
            else:
                return
