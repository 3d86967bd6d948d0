"""Every stand-in, many sends, people and accidents around them: nothing false, lost, doubled, altered or approved.

The long form, 10,000 sends, is bench/delivery.
"""

from __future__ import annotations

import pytest

from tests.support.conformance import Faults, conform, quick_people
from tests.support.hostagent import World
from tests.support.standins import NAMES

QUIET = Faults()
BUSY = Faults(drafts=0.7, copy_mode=0.7, hooks=True)
NOTHING_SEEN = {"echoes-nothing", "wedges"}
"""stand-ins of which nobody can say whether a text arrived"""
SENDS = {
    "swallows-enter": 6,
    "asks-for-permission": 8,
    "echoes-nothing": 2,
    "wedges": 5,
    "dies-to-a-shell": 8,
    "keeps-drafts": 10,
}


@pytest.mark.parametrize("standin", NAMES)
async def test_what_is_claimed_of_a_send_is_what_the_program_got(
    world: World, standin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosaic_hostagent.terminal.deliver.SEEN_SECONDS", 3.0)
    quick_people(monkeypatch.setattr)
    world.start()
    faults = QUIET if standin in (*NOTHING_SEEN, "dies-to-a-shell") else BUSY
    ends_late = standin in (*NOTHING_SEEN, "dies-to-a-shell")
    tally = await conform(
        world,
        standin,
        sends=SENDS.get(standin, 16),
        seed=7,
        faults=faults,
        deadline=2.0 if ends_late else 20.0,
        waits=10.0 if ends_late else 40.0,
    )
    assert not tally.faults, tally
    assert not list((world.private.folder / "home").glob("leaked")), "text of a message was run by a shell"
    if standin not in NOTHING_SEEN:
        assert sum(tally.ends[end] for end in ("submitted", "accepted", "turn_started", "turn_ended")) >= 2, tally
    if standin in ("wedges", "echoes-nothing"):
        assert tally.ends["unknown"] >= 1, "a program that shows nothing is no success"
