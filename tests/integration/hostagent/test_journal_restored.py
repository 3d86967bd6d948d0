"""A journal that may be an older one restored: what it claims of itself, and what becomes of it when it is disowned."""

from __future__ import annotations

from pathlib import Path

from mosaic_hostagent.clock import Clock
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.journal_facts import Evidence, Incoming
from mosaic_hostagent.ladder import Step
from mosaic_proto.v1 import messages_pb2

NOTHING = Evidence("screen", "")


def message(message_id: str) -> Incoming:
    return Incoming(message_id, "a", 1, "text", "d", "anna", True, Clock().now().later(60_000))


async def last_told(journal: Journal, message_id: str) -> str:
    steps = [event.step for event in await journal.events_after(0, 100) if event.step.message_id == message_id]
    return messages_pb2.MessageStep.Name(steps[-1].step).removeprefix("MESSAGE_STEP_").lower()


async def test_until_a_link_a_journal_claims_no_more_than_it_had_when_it_was_first_opened(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "j", Clock())
    await journal.linked(1)
    await journal.receive(message("m1"))
    assert await journal.sequence_to_claim() == 1
    for starts in range(3):  # what each start writes by itself does not count, however often there is another one
        await journal.close()
        journal = await Journal.open(tmp_path / "j", Clock())
        await journal.run_started(f"r{starts}", "a", model="", account="")
        assert await journal.sequence_to_claim() == 1
    await journal.acknowledge(100)
    await journal.linked(2)
    assert await journal.sequence_to_claim() == 4
    await journal.close()


async def test_a_disowned_journal_is_a_new_one_in_which_nothing_is_open(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "j", Clock())
    await journal.linked(7)
    before = journal.journal_id
    for name in ("waiting", "typing", "typed", "over"):
        await journal.receive(message(name))
    for name in ("typing", "typed", "over"):
        await journal.begin_typing(name, run_id="r")
    await journal.record("typed", Step.TYPED, NOTHING)
    await journal.record("over", Step.SUBMITTED, NOTHING)
    await journal.disown()
    for name in ("waiting", "typing", "typed"):
        assert await last_told(journal, name) == "unknown"
    assert await last_told(journal, "over") == "submitted"
    assert await journal.open_messages() == []
    assert not await journal.begin_typing("waiting", run_id="r")
    assert (journal.journal_id != before, journal.link_epoch) == (True, 0)
    after = journal.journal_id
    await journal.close()
    journal = await Journal.open(tmp_path / "j", Clock())
    assert (journal.journal_id, journal.link_epoch) == (after, 0)
    await journal.close()
