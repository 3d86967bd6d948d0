"""Brings one message into its seat: composed, given or typed by `terminal`, journalled, and told why it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog
from mosaic_framework.manifest import Manifest

from mosaic_hostagent.journal import Journal
from mosaic_hostagent.journal_facts import Evidence, Incoming, Mode
from mosaic_hostagent.ladder import Step
from mosaic_hostagent.ledger import JournalLedger
from mosaic_hostagent.readiness import AgentState
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.terminal.by_letterbox import put_in
from mosaic_hostagent.terminal.deliver import Order, deliver
from mosaic_hostagent.terminal.interrupt import interrupt
from mosaic_hostagent.terminal.pane import NotNow, Pane
from mosaic_hostagent.terminal.text import Typing, compose, hazard, preamble
from mosaic_hostagent.turn_book import InFlight, TurnBook

NO_EVIDENCE = Evidence("journal", "")

log = structlog.get_logger(__name__)


class Postman:
    """Delivers. `on_wait(message_id, reason)` is told what holds a message up once its typing has begun."""

    def __init__(self, journal: Journal, book: TurnBook, on_wait: Callable[[str, str], None]) -> None:
        self._journal = journal
        self._book = book
        self._on_wait = on_wait
        self._interrupted: set[str] = set()
        self._last: dict[str, str] = {}
        """the text typed last into each seat: some runtimes put it back into the composer when they are interrupted"""

    async def deliver(self, message: Incoming, resident: Resident, manifest: Manifest, left: float) -> None:
        """Type a message that has `left` seconds. Raises NotNow or TerminalLost when nothing was typed, TypedBefore."""
        pane = resident.pane
        if pane is None:
            raise NotNow("its program has ended")
        _check_moment(message, resident, manifest)
        ledger = JournalLedger(
            self._journal,
            message_id=message.message_id,
            agent_id=message.agent_id,
            run_id=resident.run_id,
            on_stall=lambda reason: self._on_wait(message.message_id, reason),
        )
        if message.mode is Mode.INTERRUPT_ONLY:
            outcome = await interrupt(pane, manifest, working=_works(resident), ledger=ledger)
            if outcome:
                await ledger.submitted(outcome)
            return
        if message.mode is Mode.INTERRUPT and message.message_id not in self._interrupted:
            outcome = await interrupt(pane, manifest, working=_works(resident))
            self._interrupted.add(message.message_id)  # once: some programs take a second one for another wish
            if not outcome:
                raise NotNow("it was interrupted, and was not seen to stop")
        await self._type(message, resident, manifest, pane, ledger, left)
        self._interrupted.discard(message.message_id)

    async def _type(
        self,
        message: Incoming,
        resident: Resident,
        manifest: Manifest,
        pane: Pane,
        ledger: JournalLedger,
        left: float,
    ) -> None:
        typing = composed(message, resident, manifest)
        if reason := _untypable(typing, manifest):
            await self._journal.record(message.message_id, Step.FAILED, NO_EVIDENCE, reason=reason)
            return
        leftovers = await self._journal.leftovers(message.agent_id)
        texts = [composed(stored.message, resident, manifest).whole for stored in leftovers]
        if message.mode is Mode.INTERRUPT and message.agent_id in self._last:
            texts.append(self._last[message.agent_id])
        steers = manifest.while_working == "steers"
        flying = InFlight(message.message_id, named(message, resident), typing.whole)
        order = Order(
            name=message.message_id,
            typing=typing,
            leftovers=texts,
            enter_by=asyncio.get_running_loop().time() + left,
            accepted=flying.accepted,
            only_idle=message.mode is Mode.WHEN_IDLE or may_ask(resident, manifest),
        )
        if manifest.preamble:
            self._book.typing(resident.run_id, flying, steers=steers)
        try:
            if not await self._without_keys(message, resident, manifest, pane, order, ledger):
                _check_question(message, resident, manifest)
                await deliver(pane, manifest, order, ledger, settled=_settled(resident))
        except BaseException:
            self._book.forget(resident.run_id, flying)
            raise
        self._last[message.agent_id] = typing.whole

    async def _without_keys(
        self,
        message: Incoming,
        resident: Resident,
        manifest: Manifest,
        pane: Pane,
        order: Order,
        ledger: JournalLedger,
    ) -> bool:
        """Give it to the program itself; False when it has no letterbox, or nobody answers there: nothing was given."""
        if not manifest.signals.letterbox or resident.letterbox is None:
            return False
        # No key is pressed, so that no question can be answered by one: only the sender's wish makes it wait.
        order = replace(order, only_idle=message.mode is Mode.WHEN_IDLE)
        return await put_in(resident.letterbox, pane, manifest, order, ledger)


def composed(message: Incoming, resident: Resident, manifest: Manifest) -> Typing:
    """Return what is typed for a message."""
    return compose(
        message.body,
        manifest,
        sender=message.sender,
        recipient=resident.seat.name,
        message_id=message.message_id,
        sender_is_person=message.sender_is_person,
    )


def named(message: Incoming, resident: Resident) -> str:
    """Return the preamble of a message."""
    return preamble(message.sender, resident.seat.name, message.message_id)


def may_ask(resident: Resident, manifest: Manifest) -> bool:
    """Say whether the program may ask for a permission at any moment of its work: an Enter just then would approve."""
    asks_nobody = manifest.unattended.always or resident.seat.spec.unattended
    return manifest.composer.kind == "box" and bool(manifest.signs.waiting) and not asks_nobody


def _works(resident: Resident) -> bool:
    return resident.state.state is AgentState.WORKING


def _check_moment(message: Incoming, resident: Resident, manifest: Manifest) -> None:
    """Raise NotNow when what is known of the seat, without a look, says that it is not the moment."""
    deaf = manifest.signs.deaf_seconds - (time.monotonic() - resident.launched)
    if deaf > 0:
        raise NotNow(f"it has just started, and takes no Enter for another {deaf:.1f} s")
    if message.mode.interrupts or not _works(resident):
        return
    if message.mode is Mode.WHEN_IDLE:
        raise NotNow(f"it is to be typed when the agent is idle, and it works: {resident.state.detail}")


def _check_question(message: Incoming, resident: Resident, manifest: Manifest) -> None:
    """Raise NotNow when a permission may be asked for at any moment, which our keys would answer."""
    if message.mode.interrupts or not _works(resident):
        return
    # The screen's own word is looked at again before the typing; a hook knows better than a look could.
    if may_ask(resident, manifest) and resident.state.source == "hook":
        raise NotNow("it works, and may ask for a permission at any moment: Enter would then approve it")


def _settled(resident: Resident) -> bool:
    return resident.state.state is AgentState.AVAILABLE and resident.state.source == "process"


def _untypable(typing: Typing, manifest: Manifest) -> str:
    if not typing.whole.strip():
        return "nothing of it can be typed"
    if found := hazard(typing.whole, manifest):
        return f"it would not arrive as a text: {found.effect}"
    return ""
