"""A full-screen program with a context that its `/clear` empties: `python clearing.py TRANSCRIPT [BEHAVIOUR]`.

What is entered goes to TRANSCRIPT, one JSON string a line. While a command is typed, a list of commands stands over
the composer. `work SECONDS` shows work for so long. Behaviours: `asks` shows a dialog from the start, until
TRANSCRIPT.answer is there; `forgets` takes `/clear` and shows nothing of it; `draft` begins with a person's words in
the composer.
"""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import time
import tty
from pathlib import Path

GLYPH = "\u276f"
PASTE, PASTED = b"\x1b[200~", b"\x1b[201~"


def main() -> None:
    transcript, behaviour = Path(sys.argv[1]), (sys.argv[2] if len(sys.argv) > 2 else "")
    before = termios.tcgetattr(0)
    tty.setraw(0)
    write("\x1b[?2004h")
    try:
        serve(transcript, behaviour)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def serve(transcript: Path, behaviour: str) -> None:
    draft, said, pending, busy_until = "mine: " if behaviour == "draft" else "", ["hello"], b"", 0.0
    shown = ""
    while True:
        asks = behaviour == "asks" and not Path(f"{transcript}.answer").exists()
        screen = drawn(said, draft, asks=asks, busy=time.monotonic() < busy_until)
        if screen != shown:
            write(screen)
            shown = screen
        if not select.select([0], [], [], 0.02)[0]:
            continue
        pending += os.read(0, 65536)
        pending = pending.replace(PASTE, b"").replace(PASTED, b"")
        for key in pending.decode(errors="replace"):
            if key == "\r":
                with transcript.open("a") as file:
                    file.write(json.dumps("APPROVED" if asks else draft) + "\n")
                if draft == "/clear":
                    said = [] if behaviour != "forgets" else said
                elif draft.startswith("work "):
                    busy_until = time.monotonic() + float(draft.split()[1])
                    said.append(draft)
                else:
                    said.append(draft)
                draft = ""
            elif key == "\x7f":
                draft = draft[:-1]
            elif key == "\x03":
                return
            else:
                draft += key
        pending = b""


def drawn(said: list[str], draft: str, *, asks: bool, busy: bool) -> str:
    rule = "\u2500" * 60
    lines = ["a program", "(nothing said)"] if not said else ["a program", *(f"\u25cf {one}" for one in said[-5:])]
    if busy:
        lines.append("\u00b7 esc to interrupt")
    if asks:
        lines += ["Do you want to proceed?", f" {GLYPH} 1. Yes", "   2. No"]
    if draft.startswith("/"):
        lines.append(f"  {GLYPH} /empty ({draft[1:]})   Start a new session")
    lines += [rule, f"{GLYPH} {draft}", rule]
    return "\x1b[H\x1b[2J" + "\r\n".join(lines)


def write(text: str) -> None:
    os.write(1, text.encode())


if __name__ == "__main__":
    main()
