"""A wait with a time limit ends when it is cancelled, also in the very moment in which what it waits for comes."""

from __future__ import annotations

import asyncio

import pytest
from mosaic_controlplane.mesh.wakes import wait_for_wake

from tests.support.checkout import ROOT, tracked_files

PRODUCT = ("framework", "hostagent", "controlplane", "cli")


def test_no_program_waits_by_wait_for_which_swallows_a_cancellation_before_python_3_12() -> None:
    # A link's reader that was cancelled while a beat came in went on for ever: its host looked live and got nothing.
    users = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix == ".py"
        and path.relative_to(ROOT).parts[0] in PRODUCT
        and "asyncio.wait_for(" in path.read_text()
    ]
    assert users == []


@pytest.mark.parametrize("steps", range(5))
async def test_a_wait_that_is_woken_and_cancelled_at_once_is_cancelled(steps: int) -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(wait_for_wake(event))
    await asyncio.sleep(0.01)
    event.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    if waiting.cancel():
        await asyncio.wait([waiting])
        assert waiting.cancelled(), "who cancelled it would wait for it for ever"
