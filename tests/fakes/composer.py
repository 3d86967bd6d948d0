"""A full-screen program with a composer, as the agents' programs are: `python composer.py TRANSCRIPT [BEHAVIOUR]`.

What is entered goes to TRANSCRIPT, one JSON string a line. Behaviours: `deaf` ignores Enter, `blind` drops pastes,
`collapse` shows a placeholder for more than one line, `dialog` asks a question once text is in the composer and notes
`APPROVED` if Enter is pressed in it; the file TRANSCRIPT.answer answers it. C-c clears a draft, and ends the program
when there is none.
"""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import tty
from pathlib import Path

GLYPH = "\u276f"
PASTE, PASTED = b"\x1b[200~", b"\x1b[201~"


def main() -> None:
    transcript, behaviour = Path(sys.argv[1]), (sys.argv[2] if len(sys.argv) > 2 else "")
    before = termios.tcgetattr(0)
    tty.setraw(0)
    write("\x1b[?1049h\x1b[?2004h")
    try:
        serve(transcript, behaviour)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        write("\x1b[?2004l\x1b[?1049l")


def serve(transcript: Path, behaviour: str) -> None:
    draft, said, pasting, asks = "", [], False, False
    pending = b""
    draw(said, draft, behaviour, asks)
    while True:
        if asks and Path(f"{transcript}.answer").exists():
            asks, behaviour = False, ""
            draw(said, draft, behaviour, asks)
        ready, _, _ = select.select([0], [], [], 0.05)
        if not ready:
            continue
        pending += os.read(0, 65536)
        while pending:
            if pending.startswith(PASTE):
                pasting, pending = True, pending[len(PASTE) :]
            elif pending.startswith(PASTED):
                pasting, pending = False, pending[len(PASTED) :]
                asks = behaviour == "dialog"
            elif pasting:
                text, found, _ = pending.partition(PASTED)
                if not found and PASTED.startswith(text[-5:]):
                    break
                pending = pending[len(text) :]
                if behaviour != "blind":
                    draft += text.decode(errors="replace").replace("\r", "\n")
            else:
                key, pending = pending[:1], pending[1:]
                if key == b"\x03":
                    if not draft:
                        return
                    draft = ""
                elif key == b"\r" and asks:
                    note(transcript, "APPROVED")
                elif key == b"\r" and behaviour != "deaf":
                    note(transcript, draft)
                    said.append(draft)
                    draft = ""
        draw(said, draft, behaviour, asks)


def draw(said: list[str], draft: str, behaviour: str, asks: bool) -> None:
    rule = "─" * 60
    shown = f"[Pasted text #1 +{draft.count(chr(10))} lines]" if behaviour == "collapse" and "\n" in draft else draft
    lines = [f"● {text.splitlines()[0][:40]}" for text in said[-5:]]
    if asks:
        lines += ["Do you want to proceed?", f" {GLYPH} 1. Yes", "   2. No"]
    else:
        lines += [rule, *f"{GLYPH} {shown}".split("\n"), rule, "  for shortcuts press ?"]
    write("\x1b[H\x1b[2J" + "\r\n".join(lines[-40:]))


def note(transcript: Path, text: str) -> None:
    with transcript.open("a") as file:
        file.write(json.dumps(text) + "\n")


def write(text: str) -> None:
    os.write(1, text.encode())


if __name__ == "__main__":
    main()
