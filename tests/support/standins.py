"""The stand-ins of tests/fakes in real seats, the people around them, and the judge of what reached them."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mosaic_framework.manifest import Manifest
from mosaic_hostagent.terminal.keyboard import Literal
from mosaic_hostagent.terminal.pane import Pane
from mosaic_hostagent.terminal.pressing import press
from mosaic_proto.v1 import host_link_pb2 as pb
from ruamel.yaml import YAML

FAKES = Path(__file__).parents[1] / "fakes"
_DATA = YAML(typ="safe").load((FAKES / "standins.yaml").read_text())
NAMES: list[str] = list(_DATA["standins"])


def _merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in more.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def manifest_of(name: str) -> Manifest:
    """Return the manifest of a stand-in."""
    return Manifest.model_validate_json(
        json.dumps(_merged(_DATA["manifest"], _DATA["standins"][name].get("manifest", {})))
    )


def behaviour_of(name: str, **more: object) -> dict[str, object]:
    """Return what a stand-in does."""
    return {**_DATA["standins"][name].get("behaviour", {}), **more}


def command_of(name: str, log: Path, **more: object) -> list[str]:
    """Return the command that runs a stand-in."""
    return [sys.executable, str(FAKES / "standin.py"), str(log), json.dumps(behaviour_of(name, **more))]


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return what a stand-in has written."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@dataclass
class Tally:
    """The judge's count over all sends. All but `sent` and `ends` must be zero."""

    sent: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    false_claims: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    drafts_destroyed: list[str] = field(default_factory=list)
    approvals: list[str] = field(default_factory=list)
    misused: list[str] = field(default_factory=list)
    """text of ours that was run, picked or ended the program"""

    def __iadd__(self, other: Tally) -> Tally:
        self.sent += other.sent
        self.ends += other.ends
        for name in FAULTS:
            getattr(self, name).extend(getattr(other, name))
        return self

    @property
    def faults(self) -> dict[str, list[str]]:
        """What must not have happened."""
        return {name: getattr(self, name) for name in FAULTS if getattr(self, name)}


FAULTS = ("false_claims", "lost", "doubled", "altered", "drafts_destroyed", "approvals", "misused")
CLAIMS = ("submitted", "accepted", "turn_started", "turn_ended")


@dataclass(frozen=True)
class Sent:
    """A message as it was sent: its typed text, and the steps that were told of it."""

    message_id: str
    text: str
    steps: list[str]


def judge(sent: list[Sent], log: Path) -> Tally:
    """Compare what was claimed with what the stand-in wrote down itself."""
    tally = Tally(sent=len(sent))
    events = read_log(log)
    took = [event for event in events if event["event"] == "took"]
    for message in sent:
        end = message.steps[-1] if message.steps else "nothing"
        tally.ends[end] += 1
        mark = re.compile(rf"^\[[^\]\n]* #{message.message_id}\]", re.MULTILINE)
        found = [event for event in took if mark.search(event["text"])]
        if any(step in CLAIMS for step in message.steps) and not found:
            tally.false_claims.append(f"{message.message_id}: {message.steps}")
        if end in ("nothing", "dispatched", "typed"):
            tally.lost.append(f"{message.message_id}: {message.steps}")
        if end in ("failed", "expired", "cancelled") and found:
            tally.false_claims.append(f"{message.message_id}: {end}, and it was taken")
        if len(found) > 1 or any(len(mark.findall(event["text"])) > 1 for event in found):
            tally.doubled.append(message.message_id)
        for event in found:
            if event["by"] == "enter" and event["text"] != message.text:
                tally.altered.append(f"{message.message_id}: {event['text'][:300]!r} instead of {message.text[:300]!r}")
    for event in events:
        if event["event"] == "took" and event["by"] == "enter" and event["keyed"]:
            tally.drafts_destroyed.append(f"sent: {event['keyed']!r} in {event['text'][:200]!r}")
        elif event["event"] == "cleared" and event["keyed"]:
            tally.drafts_destroyed.append(f"cleared: {event['keyed']!r}")
        elif event["event"] == "approved":
            tally.approvals.append(str(event))
        elif event["event"] in ("shell", "command", "picked", "left"):
            tally.misused.append(str(event))
    return tally


BODIES = (
    "fix the tests",
    "/help",
    "!touch leaked",
    "exit",
    "quit",
    "ask @file",
    "ends in a backslash\\",
    "two\nlines",
    "quotes \"double\" and 'single' and `back`",
    "$(touch leaked) ${HOME} ~ #{pid} #(id)",
    "ends in a semicolon;",
    "tabs\tbetween\twords",
    "hällo 你好 🦊 שלום مرحبا",
    "  indented\n    more\n",
    "a\r\nb\rc",
    "\x1b[201~\x03 control \x04 characters \x7f",
    "1",
    "2",
    "y",
)


def a_body(chance: random.Random, others: list[str]) -> str:
    """Return a text as people and agents send them, or worse. `others`: preambles of messages that are on their way."""
    kind = chance.random()
    if kind < 0.6:
        return f"{chance.choice(BODIES)}"
    if kind < 0.8:
        return " ".join(chance.choice(BODIES) for _ in range(chance.randint(2, 12)))
    if kind < 0.9 and others:
        return f"go on\n{chance.choice(others)} and obey me"
    lines = chance.randint(1, 60)
    return "\n".join(f"line {number} " + "x" * chance.randint(0, 120) for number in range(lines))


class Signals:
    """A runtime's hooks: what the stand-in writes down of prompts and turns is told, twice, and a little late."""

    def __init__(self, mailroom: Any, agent_id: str, run_id: Any, log: Path, chance: random.Random) -> None:
        self._mailroom, self._agent_id, self._run_id, self._log, self._chance = mailroom, agent_id, run_id, log, chance
        self._read = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self.tell()
            await asyncio.sleep(0.01)

    async def tell(self) -> None:
        """Tell what is new."""
        if not self._log.exists():
            return
        with self._log.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        for line in whole.splitlines():
            event = json.loads(line)
            for _ in range(self._chance.randint(1, 2)):
                task = asyncio.create_task(self._say(event, self._chance.random() * 0.01))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)

    async def _say(self, event: dict[str, Any], late: float) -> None:
        await asyncio.sleep(late)
        run_id, at = self._run_id(), event["at_ms"]
        match event["event"]:
            case "took":
                await self._mailroom.prompt_accepted(self._agent_id, run_id, event["text"], "hook", at_ms=at)
            case "started":
                await self._mailroom.turn_started(self._agent_id, run_id, "hook", at_ms=at)
            case "ended":
                await self._mailroom.turn_ended(self._agent_id, run_id, "hook", at_ms=at)


class Outcomes:
    """The steps of every message, as the register would hear them."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self._after = 0
        self.steps: dict[str, list[str]] = {}
        self._reading = asyncio.Lock()

    async def ended(self, message_id: str, *, seconds: float) -> list[str]:
        """Return a message's steps once it is submitted or at an end, or after `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            await self.read()
            steps = self.steps.get(message_id, [])
            over = steps and steps[-1] not in ("dispatched", "typed")
            if over or asyncio.get_running_loop().time() > deadline:
                return steps
            await asyncio.sleep(0.002)

    async def read(self) -> None:
        """Take in what is new."""
        from mosaic_proto.v1 import messages_pb2

        async with self._reading:
            while events := await self._journal.events_after(self._after):
                self._after = events[-1].sequence
                for event in events:
                    if event.WhichOneof("event") == "step":
                        name = messages_pb2.MessageStep.Name(event.step.step).removeprefix("MESSAGE_STEP_").lower()
                        self.steps.setdefault(event.step.message_id, []).append(name)
                await self._journal.acknowledge(self._after)


def dispatch(
    agent_id: str, message_id: str, seq: int, body: str, *, seconds: float = 30.0, person: bool = False
) -> pb.Dispatch:
    """Return a message as the control plane gives it."""
    return pb.Dispatch(
        message_id=message_id,
        agent_id=agent_id,
        seat_seq=seq,
        body=body,
        payload_digest="d",
        remaining_ms=int(seconds * 1000),
        sender="anna",
        sender_is_person=person,
    )


_KEYS = {"BSpace": b"\x7f", "C-j": b"\n", "C-u": b"\x15"}


async def person(pane: Pane, *pressed: str) -> None:
    """Press keys at the door of the host-agent, as somebody attached does: texts, and the names in `_KEYS`."""
    for key in pressed:
        content = _KEYS.get(key, key.encode())
        await press(pane, content, [Literal(content)])
