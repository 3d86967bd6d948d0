"""The journal: on disk before anybody is told, through SIGKILL, and never typed twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from mosaic_hostagent import ladder
from mosaic_hostagent.clock import Clock, Stamp
from mosaic_hostagent.journal import Journal, JournalUnwritable
from mosaic_hostagent.journal_facts import Evidence, Incoming, JournalDamaged
from mosaic_hostagent.journal_store import JournalStore
from mosaic_hostagent.ladder import Step
from mosaic_proto.v1 import messages_pb2

NOTHING = Evidence("screen", "")


def message(message_id: str, *, agent: str = "a", seq: int = 1, body: str = "text", digest: str = "d") -> Incoming:
    return Incoming(message_id, agent, seq, body, digest, "anna", True, Clock().now().later(60_000))


def told(journal_events: list[object], message_id: str) -> list[str]:
    return [
        messages_pb2.MessageStep.Name(event.step.step).removeprefix("MESSAGE_STEP_").lower()  # type: ignore[attr-defined]
        for event in journal_events
        if event.step.message_id == message_id  # type: ignore[attr-defined]
    ]


async def test_a_journal_keeps_its_id_and_epoch_and_its_files_are_private(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "j", Clock())
    await journal.linked(7)
    await journal.linked(3)
    await journal.receive(message("m"))
    for file in (tmp_path / "j").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o700
    again = journal.journal_id
    await journal.close()
    await journal.close()
    journal = await Journal.open(tmp_path / "j", Clock())
    assert (journal.journal_id, journal.link_epoch) == (again, 7)
    await journal.close()


async def test_what_was_being_typed_is_unknown_after_a_crash_and_the_rest_waits(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "j", Clock())
    for number, name in enumerate(["waits", "typing", "typed", "entering", "submitted"]):
        await journal.receive(message(name, seq=number))
        if name != "waits":
            assert await journal.begin_typing(name, run_id="r")
    await journal.record("typed", Step.TYPED, NOTHING)
    await journal.record_typed_and_entering("entering", NOTHING)
    await journal.record_typed_and_entering("submitted", NOTHING)
    await journal.record("submitted", Step.SUBMITTED, NOTHING)
    await journal.close()
    journal = await Journal.open(tmp_path / "j", Clock())
    assert [stored.message.message_id for stored in await journal.open_messages()] == ["waits"]
    events = await journal.events_after(0)
    for name in ("typing", "typed", "entering"):
        assert told(events, name)[-1] == "unknown"
        assert not await journal.begin_typing(name, run_id="r")
    assert told(events, "submitted")[-1] == "submitted"
    assert {stored.message.message_id for stored in await journal.leftovers("a")} == {"typing", "typed", "entering"}
    await journal.forget_leftovers("a")
    assert await journal.leftovers("a") == []
    await journal.close()


async def test_later_evidence_raises_what_is_unknown_and_nothing_lowers_it(journal: Journal) -> None:
    await journal.receive(message("m"))
    await journal.begin_typing("m", run_id="r")
    await journal.record("m", Step.UNKNOWN, NOTHING, reason="lost")
    assert not await journal.record("m", Step.TYPED, NOTHING)
    assert await journal.record("m", Step.ACCEPTED, NOTHING)
    assert not await journal.record("m", Step.SUBMITTED, NOTHING)
    assert not await journal.record("m", Step.FAILED, NOTHING)
    assert told(await journal.events_after(0), "m") == ["dispatched", "unknown", "accepted"]


async def test_a_message_that_comes_again_tells_its_steps_again_with_their_age(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "j", Clock())
    assert await journal.receive(message("m")) == (Step.DISPATCHED, True)
    await journal.begin_typing("m", run_id="r")
    await journal.record_typed_and_entering("m", NOTHING)
    await journal.record("m", Step.SUBMITTED, NOTHING)
    newest = (await journal.events_after(0))[-1].sequence
    await journal.acknowledge(newest)
    assert await journal.events_after(0) == []
    await asyncio.sleep(0.05)
    assert await journal.receive(message("m", digest="another")) == (Step.SUBMITTED, False)
    again = await journal.events_after(newest)
    assert told(again, "m") == ["dispatched", "typed", "submitted"]
    assert all(event.step.age_ms >= 50 for event in again)
    assert [event.sequence for event in again] == [newest + 1, newest + 2, newest + 3]
    await journal.close()


async def test_sequences_go_on_rising_after_everything_was_acknowledged_and_a_restart(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "j", Clock())
    await journal.receive(message("m"))
    await journal.acknowledge(1)
    await journal.close()
    journal = await Journal.open(tmp_path / "j", Clock())
    await journal.receive(message("n"))
    assert [event.sequence for event in await journal.events_after(0)] == [2]
    await journal.close()


async def test_calls_that_wait_together_share_one_fsync(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = 0
    commit = JournalStore.commit

    def counted(store: JournalStore) -> None:
        nonlocal commits
        commits += 1
        commit(store)

    monkeypatch.setattr(JournalStore, "commit", counted)
    await asyncio.gather(*(journal.receive(message(f"m{number}", seq=number)) for number in range(200)))
    assert commits < 40
    assert len(await journal.open_messages()) == 200


async def test_one_bad_call_does_not_spoil_those_that_share_its_commit(journal: Journal) -> None:
    good = [asyncio.create_task(journal.receive(message(f"m{number}"))) for number in range(5)]
    bad = asyncio.create_task(journal._do(lambda store: store.digest("nobody")))
    good += [asyncio.create_task(journal.receive(message(f"n{number}"))) for number in range(5)]
    with pytest.raises(TypeError):
        await bad
    assert all(new for _, new in await asyncio.gather(*good))
    assert len(await journal.open_messages()) == 10


async def test_a_commit_that_fails_is_told_to_every_caller_and_has_no_effect(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: JournalStore) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(JournalStore, "commit", full)
        results = await asyncio.gather(
            *(journal.receive(message(f"m{number}")) for number in range(3)), return_exceptions=True
        )
    assert all(isinstance(result, JournalUnwritable) for result in results)
    assert await journal.events_after(0) == []
    assert await journal.receive(message("m0")) == (Step.DISPATCHED, True)


@pytest.mark.parametrize(
    "damage",
    [b"not a database at all, but long enough to be read as a header" * 100, b"SQLite format 3\0" + b"\xff" * 4080],
)
async def test_a_damaged_journal_is_kept_and_says_what_to_do(tmp_path: Path, damage: bytes) -> None:
    folder = tmp_path / "j"
    folder.mkdir(mode=0o700)
    (folder / "journal.db").write_bytes(damage)
    with pytest.raises(JournalDamaged) as damaged:
        await Journal.open(folder, Clock())
    assert f"mv {folder} {folder}.damaged" in damaged.value.next_step
    assert (folder / "journal.db").read_bytes() == damage


async def test_a_body_is_gone_when_it_can_no_longer_be_typed(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "j", Clock())
    await journal.receive(message("m", body="a secret word"))
    await journal.begin_typing("m", run_id="r")
    await journal.record_typed_and_entering("m", NOTHING)
    await journal.record("m", Step.SUBMITTED, NOTHING)
    await journal.close()
    with sqlite3.connect(tmp_path / "j" / "journal.db") as connection:
        assert connection.execute("select body from inbox").fetchall() == [("",)]


WRITER = textwrap.dedent(
    """
    import asyncio, os, sys
    from pathlib import Path
    from mosaic_hostagent.clock import Clock
    from mosaic_hostagent.journal import Journal
    from mosaic_hostagent.journal_facts import Evidence, Incoming
    from mosaic_hostagent.ladder import Step

    async def climb(journal, name, seq):
        say = lambda step: os.write(1, f"> {name} {step}\\n".encode())
        await journal.receive(Incoming(name, "a", seq, "b", "d", "s", False, Clock().now().later(60000)))
        say("dispatched")
        assert await journal.begin_typing(name, run_id="r")
        say("typing")
        await journal.record_typed_and_entering(name, Evidence("screen", ""))
        say("entering")
        await journal.record(name, Step.SUBMITTED, Evidence("screen", ""))
        say("submitted")

    async def main():
        journal = await Journal.open(Path(sys.argv[1]), Clock())
        for round in range(100000):
            await asyncio.gather(*(climb(journal, f"{sys.argv[2]}-{round}-{n}", n) for n in range(4)))

    asyncio.run(main())
    """
)


def test_what_was_said_to_be_written_is_there_after_kill_9(tmp_path: Path) -> None:
    chance = random.Random(1)
    highest: dict[str, str] = {}
    order = ["dispatched", "typing", "entering", "submitted"]
    for life in range(6):
        highest |= killed_writer(tmp_path / "j", f"life{life}", chance.uniform(0.0, 0.15))
    store = JournalStore.open(tmp_path / "j", Clock())
    store.begin()
    store.recover()
    store.commit()
    unknown = 0
    for name, step in highest.items():
        found = store.step_of(name)
        assert found is not None, f"{name} was said to be {step} and is gone"
        if found == Step.UNKNOWN:
            unknown += 1
            assert step != "submitted"
        elif found == Step.DISPATCHED:
            assert step == "dispatched"
        else:
            assert order.index(found) >= order.index(step)
    assert unknown > 0  # else nothing was killed amid typing, and this proves little
    store.close()


def killed_writer(folder: Path, prefix: str, seconds: float) -> dict[str, str]:
    """Let a process write for a while, kill it, and return the last step that it said was written, by message."""
    with tempfile.TemporaryFile("w+") as said:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder), prefix], stdout=said)
        began = time.monotonic()
        while b"> " not in os.pread(said.fileno(), 4_000, 0) and time.monotonic() - began < 60:
            time.sleep(0.005)
        time.sleep(seconds)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        said.seek(0)
        lines = [line.split() for line in said.read().splitlines() if line.startswith("> ")]
    assert lines
    return {name: step for _, name, step in lines}


class Ladder(RuleBasedStateMachine):
    """Any order of messages, steps, acknowledgements and crashes."""

    messages = Bundle("messages")

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = JournalStore.open(Path(self.folder.name) / "j", Clock())
        self.number = 0
        self.typed: dict[str, int] = {}
        self.may_be_typed: set[str] = set()
        self.heard: dict[int, bytes] = {}
        self.acknowledged = 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def _commit(self, work: object) -> object:
        self.store.begin()
        try:
            return work(self.store)  # type: ignore[operator]
        finally:
            self.store.commit()

    @rule(target=messages)
    def comes(self) -> str:
        self.number += 1
        name = f"m{self.number}"
        assert self._commit(lambda store: store.receive(message(name, seq=self.number))) == (Step.DISPATCHED, True)
        self.may_be_typed.add(name)
        return name

    @rule(name=messages)
    def comes_again(self, name: str) -> None:
        before = self.store.step_of(name)
        assert self._commit(lambda store: store.receive(message(name))) == (before, False)

    @rule(name=messages)
    def is_typed(self, name: str) -> None:
        if self._commit(lambda store: store.begin_typing(name, run_id="r")):
            assert name in self.may_be_typed
            self.typed[name] = self.typed.get(name, 0) + 1

    @rule(name=messages)
    def is_refused_by_tmux(self, name: str) -> None:
        if self._commit(lambda store: store.untype(name)):
            self.typed[name] = 0

    @rule(name=messages, step=st.sampled_from(list(Step)))
    def makes_a_step(self, name: str, step: Step) -> None:
        before = self.store.step_of(name)
        assert before is not None
        rose = self._commit(lambda store: store.record(name, step, NOTHING))
        assert rose == ladder.may_follow(before, step)
        assert self.store.step_of(name) == (step if rose else before)
        if rose:
            self.may_be_typed.discard(name)
            if step == Step.TYPING:
                self.typed[name] = 1
                self.may_be_typed.add(name)

    @rule(name=consumes(messages))
    def is_forgotten_by_this_test(self, name: str) -> None:
        self.typed.pop(name, None)

    @rule()
    def crashes(self) -> None:
        self.store.close()
        self.store = JournalStore.open(Path(self.folder.name) / "j", Clock())
        unsure = self._commit(JournalStore.recover)
        assert isinstance(unsure, list)
        self.may_be_typed -= set(unsure)
        assert all(self.store.step_of(name) == Step.UNKNOWN for name in unsure)

    @rule(count=st.integers(1, 5))
    def is_acknowledged(self, count: int) -> None:
        events = self.store.events_after(self.acknowledged, count)
        if events:
            self.acknowledged = events[-1].sequence
            self._commit(lambda store: store.acknowledge(self.acknowledged))

    @invariant()
    def facts_stay_as_they_were_told_until_acknowledged(self) -> None:
        if not hasattr(self, "store"):
            return
        events = self.store.events_after(0, 10_000)
        sequences = [event.sequence for event in events]
        assert sequences == sorted(set(sequences))
        assert all(sequence > self.acknowledged for sequence in sequences)
        for event in events:
            event.step.age_ms = 0
            content = event.SerializeToString()
            assert self.heard.setdefault(event.sequence, content) == content
        missing = {sequence for sequence in self.heard if sequence > self.acknowledged} - set(sequences)
        assert not missing

    @invariant()
    def nothing_open_was_typed(self) -> None:
        if hasattr(self, "store"):
            open_ = {stored.message.message_id for stored in self.store.open_messages()}
            assert not [name for name in open_ if self.typed.get(name)]


Ladder.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None, database=None)
TestLadder = Ladder.TestCase


def test_a_deadline_counts_on_the_monotonic_clock_and_after_a_boot_on_the_wall() -> None:
    then = Stamp("boot", 1_000, 50_000)
    assert then.until(then.later(250)) == 250
    assert then.until(Stamp("boot", 900, 99_000)) == -100  # the wall clock was set; nobody cares
    assert then.until(Stamp("another boot", 5, 51_000)) == 1_000
    now = Clock().now()
    assert 0 <= now.until(Clock().now()) < 1_000
