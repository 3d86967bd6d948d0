"""A stand-in for an agent's program, with one known behaviour or several: `python standin.py LOG '{"collapse": true}'`.

It has a composer between two rules, takes bracketed pastes, and works a while on what it is given. What really reached
it it writes to LOG itself, one JSON object a line, so that a judge needs nobody else's word: `took` (a prompt, and
which of its characters came by key), `approved`, `denied`, `shell`, `command`, `picked`, `left`, `cleared`, `ignored`.

Keys outside of a paste are a person's; a person's own Enter is C-j, and C-u clears. C-c clears a draft too, and ends
the program when there is none. The behaviours are those of `Behaviour`.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import termios
import time
import tty
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from standin_letterbox import listen  # type: ignore[import-not-found]
from standin_screen import draw  # type: ignore[import-not-found]

PASTE, PASTED = b"\x1b[200~", b"\x1b[201~"
LONG = 800


@dataclass
class Behaviour:
    """What it does. Seconds and milliseconds say so; all else is off or on."""

    swallow_ms: int = 0
    """Enter so soon after a paste is taken for a part of it"""
    deaf_seconds: float = 0.0
    """no Enter so soon after the start"""
    collapse: bool = False
    """a paste of several lines or many characters shows as a placeholder"""
    picker: bool = False
    """a leading "/" or a trailing "@word" opens a list, which eats Enter"""
    asks: float = 0.0
    """the share of turns in which it asks for a permission; Enter approves"""
    asks_on_paste: float = 0.0
    """the share of pastes after which it asks, before any Enter"""
    drops: bool = False
    """pastes go nowhere"""
    ghost: bool = False
    """a faint suggestion stands in the empty composer"""
    bang: bool = False
    """a leading "!" runs a shell"""
    slash: bool = False
    """a leading "/" is a command"""
    leaves: bool = False
    """exactly "exit" or "quit" ends it"""
    wedge_after: int = 0
    """after so many prompts it reads and draws nothing for `wedge_seconds`"""
    wedge_seconds: float = 1e6
    shell_after: int = 0
    """after so many prompts a bare shell takes its place"""
    fullscreen: bool = False
    silent: bool = False
    """nothing of what is typed or sent is shown"""
    stash: bool = False
    """C-s sets a draft aside; it comes back when the next prompt has gone"""
    turn_ms: int = 0
    """so long it works on each prompt"""
    slow_ms: int = 0
    """so late it draws"""
    seed: int = 0
    letterbox: str = ""
    """it takes messages without keystrokes too, in a way of standin_letterbox.py"""


@dataclass
class State:
    """What is in it."""

    behaviour: Behaviour
    log: Path
    draft: list[tuple[str, str]] = field(default_factory=list)
    """characters in the composer, each part with where it came from: paste or key"""
    said: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    stashed: list[tuple[str, str]] = field(default_factory=list)
    asking: bool = False
    ask_at: float = 0.0
    busy_until: float = 0.0
    pasted_at: float = 0.0
    prompts: int = 0
    started: float = field(default_factory=time.monotonic)
    chance: random.Random = field(default_factory=random.Random)

    @property
    def text(self) -> str:
        return "".join(part for _, part in self.draft)

    @property
    def keyed(self) -> str:
        return "".join(part for origin, part in self.draft if origin == "key")

    @property
    def working(self) -> bool:
        return self.asking or time.monotonic() < self.busy_until

    @property
    def picking(self) -> bool:
        last = self.text.split(" ")[-1].split("\n")[-1]
        return self.behaviour.picker and (self.text.startswith("/") or last.startswith("@"))

    def note(self, what: str, **facts: object) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps({"event": what, "at_ms": time.time_ns() // 1_000_000, **facts}) + "\n")


def main() -> None:
    state = State(Behaviour(**json.loads(sys.argv[2])), Path(sys.argv[1]))
    state.chance.seed(state.behaviour.seed)
    before = termios.tcgetattr(0)
    tty.setraw(0)
    if state.behaviour.fullscreen:
        os.write(1, b"\x1b[?1049h")
    os.write(1, b"\x1b[?2004h")
    if state.behaviour.letterbox:
        listen(
            state.behaviour.letterbox,
            lambda text: state.note("took", text=text, keyed="", by="letterbox", working=state.working),
            lambda: not state.working,
        )
    try:
        serve(state)
    finally:
        os.write(1, b"\x1b[?2004l" + (b"\x1b[?1049l" if state.behaviour.fullscreen else b""))
        termios.tcsetattr(0, termios.TCSADRAIN, before)
    if state.behaviour.shell_after and state.prompts >= state.behaviour.shell_after:
        os.execvp("bash", ["bash", "--norc", "--noprofile"])


def serve(state: State) -> None:
    """Take input and draw until it ends."""
    pending, pasting = b"", False
    draw(state)
    while True:
        ready, _, _ = select.select([0], [], [], _until_next(state))
        if not ready:
            if _time_passed(state):
                draw(state)
            continue
        data = os.read(0, 65536)
        if not data:
            return
        pending += data
        while pending:
            if pending.startswith(PASTE):
                pasting, pending = True, pending[len(PASTE) :]
            elif pending.startswith(PASTED):
                pasting, pending = False, pending[len(PASTED) :]
                state.pasted_at = time.monotonic()
                if state.chance.random() < state.behaviour.asks_on_paste:
                    state.asking = True
            elif PASTE.startswith(pending) and (len(pending) > 1 or select.select([0], [], [], 0.02)[0]):
                pending += os.read(0, 65536)  # an Escape alone is a key; else the rest of it is on its way
            elif pasting:
                text, found, _ = pending.partition(PASTED)
                if not found:
                    # Neither a character nor the end mark is cut in two.
                    whole = len(text) - next((n for n in range(5, 0, -1) if text.endswith(PASTED[:n])), 0)
                    text = text[:whole].decode(errors="ignore").encode()
                    if not text:
                        break
                pending = pending[len(text) :]
                if not state.asking and not state.behaviour.drops:
                    state.draft.append(("paste", text.decode(errors="replace").replace("\r", "\n")))
            else:
                key, pending = _key(pending)
                if key is None:
                    break
                if not press(state, key):
                    return
        if state.behaviour.slow_ms:
            time.sleep(state.behaviour.slow_ms / 1000)
        draw(state)


def _key(pending: bytes) -> tuple[bytes | None, bytes]:
    """Return the first key of what came, and the rest; None while it is not all there."""
    size = 1 if pending[0] < 0xC0 else 2 if pending[0] < 0xE0 else 3 if pending[0] < 0xF0 else 4
    return (pending[:size], pending[size:]) if len(pending) >= size else (None, pending)


def press(state: State, key: bytes) -> bool:
    """Do what a key does; False: it ended."""
    if state.asking:
        if key in (b"\r", b"1"):
            state.note("approved")
            state.asking = False
        elif key in (b"2", b"\x1b"):
            state.note("denied")
            state.asking = False
        return True
    if key == b"\x03":
        if not state.draft:
            state.note("left", why="C-c")
            return False
        state.note("cleared", text=state.text, keyed=state.keyed)
        state.draft = []
    elif key == b"\x15":
        state.draft = []  # a person's own way to clear it
    elif key == b"\x7f":
        _backspace(state)
    elif key == b"\x1b":
        state.busy_until = 0.0
    elif key == b"\x13" and state.behaviour.stash:
        state.stashed, state.draft = state.draft, []
    elif key == b"\n":
        return send(state, by="person")
    elif key == b"\r":
        return enter(state)
    elif key >= b" ":
        state.draft.append(("key", key.decode(errors="replace")))
    return True


def _backspace(state: State) -> None:
    if state.draft:
        origin, part = state.draft.pop()
        if part[:-1]:
            state.draft.append((origin, part[:-1]))


def enter(state: State) -> bool:
    """Enter as we press it; False: the program ended."""
    now, behaviour = time.monotonic(), state.behaviour
    if now - state.pasted_at < behaviour.swallow_ms / 1000 or now - state.started < behaviour.deaf_seconds:
        state.note("ignored")
        return True
    if state.picking:
        state.note("picked", text=state.text)
        state.draft = []
        return True
    return send(state, by="enter")


def send(state: State, *, by: str) -> bool:
    """Take what is in the composer; False: the program ended."""
    text, keyed, behaviour = state.text, state.keyed, state.behaviour
    if not text:
        return True
    state.draft, state.stashed = state.stashed, []
    if behaviour.bang and text.startswith("!"):
        state.note("shell", text=text)
        return True
    if behaviour.slash and text.startswith("/"):
        state.note("command", text=text)
        return True
    if behaviour.leaves and text.strip() in ("exit", "quit"):
        state.note("left", why=text)
        return False
    state.note("took", text=text, keyed=keyed, by=by, working=state.working)
    state.prompts += 1
    state.said.append(text)
    del state.said[:-40]
    if state.working:
        state.queued.append(text)
    else:
        _work(state)
    if behaviour.shell_after and state.prompts >= behaviour.shell_after:
        return False
    if behaviour.wedge_after and state.prompts == behaviour.wedge_after:
        draw(state)
        time.sleep(behaviour.wedge_seconds)
    return True


def _work(state: State) -> None:
    now = time.monotonic()
    state.note("started")
    state.busy_until = now + state.behaviour.turn_ms / 1000
    if state.chance.random() < state.behaviour.asks:
        state.ask_at = now + state.chance.random() * state.behaviour.turn_ms / 1000
    if not state.behaviour.turn_ms:
        state.note("ended")


def _until_next(state: State) -> float:
    """Return the seconds until it does something by itself."""
    now = time.monotonic()
    moments = [moment - now for moment in (state.ask_at, state.busy_until) if moment]
    return max(0.0, min(moments, default=1.0))


def _time_passed(state: State) -> bool:
    """Do what is due; say whether anything is to be drawn."""
    now = time.monotonic()
    if state.ask_at and now >= state.ask_at:
        state.ask_at, state.asking = 0.0, True
        return True
    if state.busy_until and now >= state.busy_until and not state.asking:
        state.busy_until = 0.0
        state.note("ended")
        if state.queued:
            state.queued = []
            _work(state)
        return True
    return False


if __name__ == "__main__":
    main()
