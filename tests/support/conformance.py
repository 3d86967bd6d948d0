"""Many sends into one stand-in, with people and accidents around them, and what the judge says of it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import string
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mosaic_framework.ids import new_id
from mosaic_hostagent.terminal import driving
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused
from mosaic_hostagent.terminal.text import compose, preamble

from tests.support import standins
from tests.support.hostagent import World, eventually
from tests.support.standins import Sent, Signals, Tally, a_body, dispatch, judge

SENDER = "anna"
STUCK_SECONDS = 3.0


@dataclass(frozen=True)
class Faults:
    """What happens around the sends: how often a second, or never."""

    drafts: float = 0.0
    """a person at the door of the host-agent types a draft and, a moment later, takes it back or sends it"""
    raw_drafts: float = 0.0
    """the same, past the host-agent, straight into tmux"""
    copy_mode: float = 0.0
    deaths: float = 0.0
    """the program is killed; its seat starts it anew"""
    hooks: bool = False
    """the runtime tells of its prompts and turns, twice and late"""


@dataclass
class Person:
    """Somebody at the terminal of a seat. What they type is their own: letters that no message has."""

    world: World
    name: str
    chance: random.Random
    faults: Faults
    typing: bool = field(default=False)

    async def run(self) -> None:
        """Do something now and then until cancelled."""
        acts = [
            (self.faults.drafts, self._draft),
            (self.faults.raw_drafts, self._raw_draft),
            (self.faults.copy_mode, self._scroll),
            (self.faults.deaths, self._kill),
        ]
        often = sum(rate for rate, _ in acts)
        while often:
            await asyncio.sleep(self.chance.expovariate(often))
            act = self.chance.choices([act for _, act in acts], [rate for rate, _ in acts])[0]
            try:
                await act()
            except (TmuxRefused, TerminalLost):
                continue  # the program died under their hands

    async def answer_questions(self) -> None:
        """Deny whatever the program asks, until cancelled."""
        while True:
            await asyncio.sleep(0.02)
            pane = self.world.resident(self.name).pane
            if pane is None:
                continue
            try:
                if "Do you want to proceed?" in (await pane.look()).screen:
                    await asyncio.sleep(self.chance.random() * 0.05)
                    await self._press("2")
            except (TmuxRefused, TerminalLost):
                continue

    async def clear(self) -> None:
        """Clear what stands in the composer, as its owner."""
        await self._press("C-u")

    async def _press(self, *keys: str) -> None:
        if (pane := self.world.resident(self.name).pane) is not None:
            await standins.person(pane, *keys)

    async def _press_raw(self, *keys: str) -> None:
        if (pane := self.world.resident(self.name).pane) is not None:
            await pane.server.run(["send-keys", "-t", pane.pane_id, *keys])

    async def _draft(self) -> None:
        await self._type(self._press)

    async def _raw_draft(self) -> None:
        await self._type(self._press_raw)

    async def _type(self, press: Callable[..., Awaitable[None]]) -> None:
        letters = "".join(self.chance.choices(string.ascii_uppercase, k=self.chance.randint(1, 8)))
        for letter in letters:
            await press(letter)
            await asyncio.sleep(0.02 + self.chance.random() * 0.06)
        await asyncio.sleep(self.chance.random() * 0.15)
        if self.chance.random() < 0.3:
            await press("C-j")
        else:
            await press(*["BSpace"] * len(letters))

    async def _scroll(self) -> None:
        pane = self.world.resident(self.name).pane
        if pane is not None:
            await pane.server.run(["copy-mode", "-t", pane.pane_id])
            await asyncio.sleep(self.chance.random() * 0.1)
            await pane.server.run(["send-keys", "-t", pane.pane_id, "-X", "cancel"])

    async def _kill(self) -> None:
        resident = self.world.resident(self.name)
        if resident.session is not None and resident.alive:
            os.kill(resident.session.pid, signal.SIGKILL)
            resident.not_before = 0.0  # no waiting between crashes here


def quick_people(patch: Callable[[Any, str, float], None] = setattr) -> None:
    """Let people think faster than they do, in this process."""
    patch(driving, "PAUSE_SECONDS", 0.3)
    patch(driving, "DRAFT_SECONDS", 0.3)


async def conform(
    world: World,
    standin: str,
    *,
    sends: int,
    seed: int,
    faults: Faults,
    window: int = 3,
    deadline: float = 20.0,
    waits: float = 40.0,
    **behaviour: object,
) -> Tally:
    """Send `sends` messages into the running world's seat for a stand-in, `window` at a time, and judge."""
    chance = random.Random(seed)
    name = f"{standin}-{seed}"
    log = world.private.folder / f"{name}.jsonl"
    manifest = standins.manifest_of(standin)
    seat = world.seat(
        name, manifest=manifest, command=standins.command_of(standin, log, seed=seed, **behaviour), unattended=False
    )
    world.add(seat)
    await world.available(name, seconds=90.0)
    person = Person(world, name, chance, faults)
    outcomes = world.outcomes
    around = [asyncio.create_task(person.run()), asyncio.create_task(person.answer_questions())]
    if faults.hooks:
        signals = Signals(world.mailroom, seat.agent_id, lambda: world.resident(name).run_id, log, chance)
        around.append(asyncio.create_task(signals.run()))
    sent: list[Sent] = []
    on_their_way: list[str] = []
    room = asyncio.Semaphore(window)

    async def one(number: int) -> None:
        message_id = str(new_id())
        body = a_body(chance, on_their_way)
        head = preamble(SENDER, name, message_id)
        on_their_way.append(head)
        try:
            await world.mailroom.take(dispatch(seat.agent_id, message_id, number, body, seconds=deadline))
            await outcomes.ended(message_id, seconds=waits)
        finally:
            on_their_way.remove(head)
            room.release()
        text = compose(
            body, manifest, sender=SENDER, recipient=name, message_id=message_id, sender_is_person=False
        ).whole
        sent.append(Sent(message_id, text, outcomes.steps.setdefault(message_id, [])))

    async def unstick() -> None:
        """A mixture of a draft and a message is for its person to clear."""
        stuck = 0
        while True:
            before = len(sent)
            await asyncio.sleep(STUCK_SECONDS)
            stuck = stuck + 1 if len(sent) == before else 0
            if stuck:
                await person.clear()

    around.append(asyncio.create_task(unstick()))
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(1, sends + 1):
                await room.acquire()
                group.create_task(one(number))
    finally:
        for task in around:
            task.cancel()
        await asyncio.gather(*around, return_exceptions=True)
    await asyncio.sleep(0.05)
    await outcomes.read()
    return judge(sent, log)


async def settled(world: World, standin: str) -> None:
    """Wait until every seat of a stand-in is idle."""
    await eventually(lambda: all(one.state.state != "working" for one in world.supervisor.residents.values()), standin)
