"""What runtimes say of their prompts and turns, matched with the messages that were typed into their runs.

A prompt is taken for a message only by its exact preamble, at the beginning of a line, while that message is in flight
on that run. Lines of a body that could be taken for a preamble were escaped before they were typed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import structlog

from mosaic_hostagent.journal import Journal
from mosaic_hostagent.journal_facts import Evidence, Incoming
from mosaic_hostagent.ladder import Step
from mosaic_hostagent.terminal.evidence import squeeze
from mosaic_hostagent.turns import Rise, Turns

SOURCES = ("hook", "api")
_RUNS_KEPT = 256  # of ended runs, whose words may still come
_ID = re.compile(r"#([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\]")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class InFlight:
    """A message that was typed, or is being typed, and that its runtime may speak of."""

    message_id: str
    preamble: str
    text: str = ""
    """the whole of what was typed; "" when it is not known any more"""
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    handed_over: bool = False
    """given to the runtime's stop hook: no try at typing it, which may be under way, is of account any more"""


@dataclass(slots=True)
class _Run:
    turns: Turns
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    loaded: bool = False
    """what the journal has of it from before this host-agent began is here too"""


class TurnBook:
    """The runs whose runtimes speak. Steps are in the journal when a call returns."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._runs: dict[str, _Run] = {}
        self._lock = asyncio.Lock()

    def typing(self, run_id: str, message: InFlight, *, steers: bool) -> None:
        """A message is about to be typed into a run, unless it has been handed over."""
        run = self._run(run_id, steers=steers)
        before = run.in_flight.get(message.message_id)
        if before is None or not before.handed_over:
            run.in_flight[message.message_id] = message

    def forget(self, run_id: str, message: InFlight) -> None:
        """It was not typed after all: this try at it is over."""
        run = self._runs.get(run_id)
        if run is not None and run.in_flight.get(message.message_id) is message:
            del run.in_flight[message.message_id]

    async def accepted(
        self, run_id: str, prompt: str, evidence: str, *, at: int, steers: bool, wrapper: str | None, named: Namer
    ) -> list[str]:
        """The runtime took `prompt` at `at` (wall ms); return the messages that are in it.

        `wrapper`: what a runtime puts before text that was pasted; `named`: the preamble of a message.
        """
        async with self._lock:
            run = await self._loaded(run_id, steers=steers, named=named)
            found = [
                run.in_flight[message_id]
                for message_id, line in _preambles(prompt, wrapper)
                if message_id in run.in_flight and line.startswith(run.in_flight[message_id].preamble)
            ]
            said = squeeze(prompt) if found else ""
            for message in found:
                whole = bool(message.text) and squeeze(message.text) in said
                detail = (
                    "the runtime took it, the whole text" if whole else "the runtime took a prompt with its preamble"
                )
                await self._write(run.turns.accepted(message.message_id, at), evidence, detail)
                message.accepted.set()
            return [message.message_id for message in found]

    async def started(self, run_id: str, evidence: str, *, at: int, steers: bool, named: Namer) -> None:
        """The runtime began to work."""
        async with self._lock:
            run = await self._loaded(run_id, steers=steers, named=named)
            await self._write(run.turns.started(at), evidence, "the runtime works on it")

    async def ended(self, run_id: str, evidence: str, *, at: int, steers: bool, named: Namer) -> None:
        """The runtime is done."""
        async with self._lock:
            run = await self._loaded(run_id, steers=steers, named=named)
            rises = run.turns.ended(at)
            await self._write(rises, evidence, "the runtime is done with it")
            for message_id, step in rises:
                if step is Step.TURN_ENDED:
                    run.in_flight.pop(message_id, None)

    async def handed_over(self, run_id: str, message_id: str, evidence: str, *, at: int, steers: bool) -> None:
        """The runtime has read a message that it asked for at the end of a turn, and goes on with it."""
        async with self._lock:
            run = self._run(run_id, steers=steers)
            rises = [*run.turns.ended(at), *run.turns.accepted(message_id, at + 1), *run.turns.started(at + 1)]
            await self._write(rises, evidence, "its stop hook took it")
            if message_id in run.in_flight:
                run.in_flight[message_id].accepted.set()

    async def _write(self, rises: Iterable[Rise], source: str, detail: str) -> None:
        kind = source if source in SOURCES else "hook"  # else it is the name of the event
        named = "" if kind == source else f"{source}: "
        for message_id, step in rises:
            told = "the runtime works on it" if step is Step.TURN_STARTED else detail
            await self._journal.record(message_id, step, Evidence(kind, f"{named}{told}"))

    async def _loaded(self, run_id: str, *, steers: bool, named: Namer) -> _Run:
        run = self._run(run_id, steers=steers)
        if not run.loaded:
            for stored in await self._journal.in_flight(run_id):
                message_id = stored.message.message_id
                if message_id not in run.in_flight:
                    run.in_flight[message_id] = InFlight(message_id, named(stored.message))
                    if stored.step in (Step.ACCEPTED, Step.TURN_STARTED):
                        run.turns.restore(message_id, stored.step, stored.at_wall_ms)
            run.loaded = True
        return run

    def _run(self, run_id: str, *, steers: bool) -> _Run:
        run = self._runs.pop(run_id, None) or _Run(Turns(steers=steers))
        self._runs[run_id] = run  # the last used stands last
        while len(self._runs) > _RUNS_KEPT:
            del self._runs[next(iter(self._runs))]
        return run


Namer = Callable[[Incoming], str]


def _preambles(prompt: str, wrapper: str | None) -> Iterator[tuple[str, str]]:
    """Yield (message id, line) for each line of a prompt that could begin with a preamble."""
    for raw in prompt.split("\n"):
        line = raw.strip()
        if wrapper is not None:
            line = re.sub(rf"\A(?:{wrapper})\s*", "", line)
        if line.startswith("[") and (found := _ID.search(line)) is not None:
            yield found[1], line
