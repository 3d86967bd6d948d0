"""How a stand-in draws itself: transcript, composer between two rules, a line below; or its question instead."""

from __future__ import annotations

import os
import unicodedata
from typing import Any

GLYPH = "\u276f"
RULE = "\u2500"
DRAFT_ROWS, TRANSCRIPT_ROWS = 18, 24
FAINT, NORMAL = "\x1b[2m", "\x1b[0m"
SUGGESTION = 'Try "fix the failing tests"'


def draw(state: Any) -> None:
    """Draw the whole screen in one write, the cursor behind the draft."""
    width, height = os.get_terminal_size(1)
    behaviour = state.behaviour
    rows: list[str] = []
    if not behaviour.silent:
        for text in state.said[-6:]:
            rows += wrapped(f"● {text[: TRANSCRIPT_ROWS * width]}", width)[:TRANSCRIPT_ROWS]
    rows = rows[-TRANSCRIPT_ROWS:]
    if state.working and not state.asking:
        rows.append("✢ Working… · esc to interrupt")
    if state.asking:
        rows += ["Do you want to proceed?", f" {GLYPH} 1. Yes", "   2. No"]
        cursor = (len(rows) - 2, 3)
    else:
        rows.append(RULE * min(60, width))
        shown = "" if behaviour.silent else shown_draft(state)
        ghost = behaviour.ghost and not shown
        # Long texts scroll inside the composer, as codex does it: the glyph stays at its first row.
        inside = wrapped(shown[-DRAFT_ROWS * width :], width - 2)[-DRAFT_ROWS:]
        draft = [f"{GLYPH if number == 0 else ' '} {row}" for number, row in enumerate(inside)]
        rows += draft
        cursor = (len(rows) - 1, cells(draft[-1]))
        if ghost:
            rows[-1] += f"{FAINT}{SUGGESTION}{NORMAL}"
        if state.picking:
            rows += ["   /help", "   /clear"]
        rows += [RULE * min(60, width), "  ? for shortcuts"]
    body = "\r\n".join(f"{row}\x1b[K" for row in rows[-height:])
    row, column = cursor
    os.write(1, f"\x1b[?25l\x1b[H{body}\x1b[J\x1b[{row + 1};{column + 1}H\x1b[?25h".encode())


def shown_draft(state: Any) -> str:
    """Return the draft as it shows: a long paste as a placeholder, keys after it as they are."""
    if not state.behaviour.collapse:
        return str(state.text)
    pasted = "".join(part for origin, part in state.draft if origin == "paste")
    if "\n" not in pasted and len(pasted) <= 800:
        return str(state.text)
    keyed = state.keyed
    return f"[Pasted text #1 +{pasted.count(chr(10))} lines]{keyed}"


def wrapped(text: str, width: int) -> list[str]:
    """Cut a text into rows of the screen, as the terminal would."""
    rows: list[str] = []
    for line in text.split("\n"):
        row, used = "", 0
        for character in line.expandtabs(4):
            size = cell(character)
            if used + size > width - 1:
                rows.append(row)
                row, used = "", 0
            row += character
            used += size
        rows.append(row)
    return rows


def cells(text: str) -> int:
    """Return how many columns a text fills."""
    return sum(map(cell, text))


def cell(character: str) -> int:
    """Return how many columns a character fills."""
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
