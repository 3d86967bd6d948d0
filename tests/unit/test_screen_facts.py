"""What a seat asks, as a person would read it on its screen."""

from __future__ import annotations

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.runtimes import read_manifest
from mosaic_hostagent.screen_facts import ScreenFacts
from mosaic_hostagent.terminal.evidence import signs_seen
from mosaic_hostagent.terminal.screen import snapshot_of


def facts(runtime: str, screen: str) -> ScreenFacts:
    manifest = read_manifest(Catalog(Catalog.open().shipped), runtime)
    assert signs_seen(manifest.signs.waiting, screen, "") is not None
    return ScreenFacts.of(snapshot_of([], screen.split("\n")), manifest)


@pytest.mark.parametrize(
    ("runtime", "screen", "asks"),
    [
        (
            "claude",
            "│ Bash command\n│   rm -r x\n│ Do you want to proceed?\n\u276f 1. Yes\n  2. No\n",
            "Do you want to proceed?",
        ),
        ("claude", " Do you want to proceed?\n   1. Yes\n \u276f 2. No\n", "Do you want to proceed?"),
        (
            "claude",
            " Trust this folder?\n\n \u276f No, exit\n   Yes, I trust it\n\n Enter to confirm · Esc to cancel\n",
            None,
        ),
        ("claude", " Is it yours?\n It will read files.\n Security guide\n \u276f No, exit\n   Yes\n", "Is it yours?"),
        ("claude", " Security notes:\n Press Enter to continue\n", "Press Enter to continue"),
        (
            "codex",
            "  Choose how to use it.\n\n> 1. Sign in\n  2. Another way\n\n  Press enter to continue\n",
            "Choose how to use it.",
        ),
        ("codex", "\u203a 1. Yes, proceed (y)\n  2. No\n", "\u203a 1. Yes, proceed (y)"),
        ("opencode", "  ┃  △ Permission required\n  ┃  $ rm -r x\n", "△ Permission required"),
        ("claude", f" {'why? ' * 60}\n \u276f 1. Yes\n", ("why? " * 60)[:80].strip()),
    ],
)
def test_the_question_is_the_line_over_its_options(runtime: str, screen: str, asks: str | None) -> None:
    assert facts(runtime, screen).asks.strip() == (asks or "Trust this folder?")


def test_a_screen_that_asks_nothing_has_no_question() -> None:
    manifest = read_manifest(Catalog(Catalog.open().shipped), "claude")
    assert ScreenFacts.of(snapshot_of([], ["\u276f "]), manifest).asks == ""
