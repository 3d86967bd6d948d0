"""Ctrl-C waits for the end of what may not be left half done, and is not lost."""

from __future__ import annotations

import _thread
import signal
import threading

import pytest
from mosaic_cli import interrupts


def test_an_interrupt_within_the_block_takes_effect_at_its_end() -> None:
    done = []

    def run() -> None:
        with interrupts.held_back():
            _thread.interrupt_main()
            done.append("the rest of the block")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == ["the rest of the block"]


def test_after_the_block_an_interrupt_is_handled_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts.held_back():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_off_the_main_thread_nothing_is_changed() -> None:
    seen = []

    def run() -> None:
        with interrupts.held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
