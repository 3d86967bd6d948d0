"""Which state a seat is in, from everything that is known of its living program (pure).

RULES are asked in their order, and the first that speaks wins. No signal, or signals that contradict, is `unknown`.
`stuck` needs positive evidence. Neither unknown nor stuck ever means that the seat may be killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from mosaic_framework.manifest import Manifest
from mosaic_proto.v1 import fleet_pb2

from mosaic_hostagent.heartbeats import Heartbeat
from mosaic_hostagent.screen_facts import ScreenFacts
from mosaic_hostagent.signals import REPORTED, Told

SETTLED_SECONDS = 3.0
"""A program that wrote nothing for so long, and whose screen says that it rests, rests."""
DEBOUNCE_SECONDS = 0.3
"""A question that is answered by itself (opencode --auto: after 20 ms) was none."""
GRACE_SECONDS = 1.0
"""A screen may show the end of a turn so much later than the hook that told of it."""
SILENT_SECONDS = 300.0
"""A program that says nothing of itself, and wrote nothing for so long, is taken to be available."""


class AgentState(StrEnum):
    """What a host can say of a seat. Stale and lost are for the control plane to say."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    WORKING = "working"
    AVAILABLE = "available"
    WAITING = "waiting"
    STUCK = "stuck"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class State:
    """A state, where it is known from (hook | screen | process | heartbeat), and the evidence in one line."""

    state: AgentState
    source: str
    detail: str
    question: bool = False
    """a dialog may be open: what is typed now would answer it"""


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a seat's living program. Seconds; `told`, `heartbeat` and `looked` are on the clock of `now`."""

    now: float
    age: float
    """since its start"""
    quiet: float
    """since it last wrote something to its terminal"""
    was_ready: bool
    """its ready sign, or its composer, has been seen in this run"""
    in_foreground: bool
    """the seat's own process, not one that it started, has the terminal"""
    screen: ScreenFacts | None
    """None: the terminal cannot be read"""
    looked: float = 0.0
    """when the screen was last looked at"""
    told: Told = field(default_factory=Told)
    heartbeat: Heartbeat | None = None
    version: str = ""
    """of the program; empty while it is not known"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state, the rule that won, and why it did."""

    state: State
    rule: str


@dataclass(frozen=True, slots=True)
class Case:
    """Signals beside the manifest that they are read by."""

    signals: Signals
    manifest: Manifest

    @property
    def measured(self) -> bool:
        """Whether the rules of the screen were seen on the version that runs, as far as is known."""
        version, measured = self.signals.version, self.manifest.version.measured
        return not version or not measured or version in measured

    @property
    def hooks_age(self) -> float:
        """Seconds since the phase of the hooks began."""
        return self.signals.now - self.signals.told.since

    @property
    def shows_rest(self) -> bool:
        """Whether the screen shows a composer and no work, and has been still since the newest event."""
        signals, screen = self.signals, self.signals.screen
        return (
            screen is not None
            and screen.working is None
            and screen.waiting is None
            and screen.composer
            and signals.quiet >= SETTLED_SECONDS
            and signals.now - signals.told.heard >= SETTLED_SECONDS
        )


Rule = Callable[[Case], State | None]

NOT_RUNNING = State(AgentState.EXITED, "process", "not running")
UNSEEN = State(AgentState.UNKNOWN, "process", "nobody can look for it: its tmux server does not answer")
"""of a seat that ran when the host-agent before this one ended"""


def exited(exit_status: int | None) -> State:
    """Return the state of a seat whose program has ended: whatever hooks and screen said last, the process knows."""
    told = "its exit status is not known" if exit_status is None else f"exit status {exit_status}"
    return State(AgentState.EXITED, "process", f"its program has ended, {told}")


def judge(signals: Signals, manifest: Manifest) -> Verdict:
    """Return the one state that the signals of a living program support, and the rule that said so."""
    case = Case(signals, manifest)
    for rule in RULES:
        if (state := rule(case)) is not None:
            if state.source == "screen" and not case.measured:
                seen_on = ", ".join(manifest.version.measured)
                state = replace(state, detail=f"{state.detail} (rules of {seen_on}; it is {signals.version})")
            return Verdict(state, rule.__name__.replace("_", "-"))
    raise AssertionError("the last rule always speaks")


def readiness(signals: Signals, manifest: Manifest) -> State:
    """Return the state alone."""
    return judge(signals, manifest).state


def asks_by_hook(case: Case) -> State | None:
    """A hook told of a question. Work or rest that the screen shows later says that a person has answered it."""
    told, screen = case.signals.told, case.signals.screen
    if told.phase != "waiting" or told.reported:
        return None
    what = f"it asks for permission: {told.detail}" if told.detail else "it asks for permission"
    on_screen = screen is not None and screen.waiting is not None
    if case.hooks_age < DEBOUNCE_SECONDS and not on_screen:
        return State(AgentState.WORKING, "hook", f"{told.event}, a moment ago", True)
    if case.measured and screen is not None and not on_screen and case.hooks_age >= GRACE_SECONDS:
        if screen.working is not None and case.signals.quiet < SETTLED_SECONDS:
            return State(AgentState.WORKING, "screen", f"its question is answered: the {_seen(screen)}")
        if case.shows_rest and case.manifest.signs.waiting:
            return State(AgentState.AVAILABLE, "screen", "its question was left without an answer; its composer is up")
    return State(AgentState.WAITING, "hook", what, True)


def asks_on_screen(case: Case) -> State | None:
    """A dialog is on the screen. Whatever else is said: text typed now would answer it."""
    screen = case.signals.screen
    if screen is None or screen.waiting is None:
        return None
    asks = screen.asks or f"a question: {screen.waiting.where} shows {screen.waiting.pattern!r}"
    return State(AgentState.WAITING, "screen", f"it asks {asks}", True)


def failed_by_hook(case: Case) -> State | None:
    """A hook told that the model failed. It stands until the next turn, or until screen or heartbeat show work."""
    told, screen = case.signals.told, case.signals.screen
    if told.phase != "failed" or _beats_on(case):
        return None
    if screen is not None and screen.working is not None and case.hooks_age >= GRACE_SECONDS:
        return State(AgentState.WORKING, "screen", f"it works again: the {_seen(screen)}")
    detail = f"the model failed: {told.detail}" if told.detail else "the model failed"
    return State(AgentState.STUCK, "hook", detail)


def says_itself(case: Case) -> State | None:
    """The agent itself reported that it waits or is stuck; it stands until its next turn."""
    told = case.signals.told
    if not told.reported or told.phase not in ("waiting", "stuck"):
        return None
    return State(AgentState(told.phase), "hook", _reported(told))


def left_in_the_turn(case: Case) -> State | None:
    """A turn has begun and no event ended it, and the screen rests: a person interrupted it, which fires no hook."""
    told = case.signals.told
    if told.phase != "working" or told.reported or not case.measured or not case.manifest.signs.working:
        return None
    if not case.signals.was_ready or not case.shows_rest:
        return None
    return State(AgentState.AVAILABLE, "screen", f"its turn was left ({told.event} came last); its composer is up")


def hangs_in_the_turn(case: Case) -> State | None:
    """A turn has begun, and for long neither an event nor the screen told of anything. Stuck: its work stands still."""
    told, signals = case.signals.told, case.signals
    bound = case.manifest.signals.hang_seconds
    if told.phase != "working" or signals.now - told.heard < bound or _beats_on(case):
        return None
    if signals.screen is None:
        return State(AgentState.UNKNOWN, "hook", f"{told.event} came last, and its terminal cannot be read")
    if signals.quiet < bound or not signals.in_foreground:
        return None
    if signals.screen.working is None:
        return State(AgentState.UNKNOWN, "hook", f"{told.event} came last; its screen is still and shows no work")
    return State(AgentState.STUCK, "hook", f"{told.event} came last; no event, no change of its screen for {bound} s")


def works_by_hook(case: Case) -> State | None:
    """A hook told that a turn began."""
    told = case.signals.told
    if told.phase != "working":
        return None
    return State(AgentState.WORKING, "hook", _reported(told) if told.reported else told.event)


def rests_by_hook(case: Case) -> State | None:
    """A hook told that the turn ended. A screen that works on, or has no composer, contradicts after a while."""
    told, signals = case.signals.told, case.signals
    screen = signals.screen
    if told.phase != "available":
        return None
    if not told.reported and screen is not None and case.hooks_age >= GRACE_SECONDS:
        if screen.working is not None and signals.quiet < SETTLED_SECONDS:
            return State(AgentState.WORKING, "screen", f"{told.event} came, and it works on: the {_seen(screen)}")
        if not screen.composer and case.measured and case.hooks_age >= SETTLED_SECONDS:
            return State(AgentState.UNKNOWN, "screen", f"{told.event} came, and its composer is not on the screen")
    return State(AgentState.AVAILABLE, "hook", _reported(told) if told.reported else told.event)


def beats(case: Case) -> State | None:
    """Its heartbeat file is fresh, and names a state."""
    heartbeat = case.signals.heartbeat
    if heartbeat is None or not heartbeat.is_fresh(case.signals.now) or not heartbeat.state:
        return None
    screen = case.signals.screen
    if heartbeat.state == AgentState.STUCK and screen is not None and screen.working is not None:
        return State(AgentState.UNKNOWN, "heartbeat", f"its heartbeat says {heartbeat.status}, and the {_seen(screen)}")
    return State(AgentState(heartbeat.state), "heartbeat", f"its heartbeat says {heartbeat.status}")


def unreadable(case: Case) -> State | None:
    """Nobody can look at its terminal, and it says nothing of itself."""
    if case.signals.screen is not None:
        return None
    return State(AgentState.UNKNOWN, "process", "alive, and its terminal cannot be read")


def not_ready_yet(case: Case) -> State | None:
    """Its first sign of readiness has not been seen."""
    signals, screen = case.signals, case.signals.screen
    if signals.was_ready or screen is None or screen.ready:
        return None
    if signals.heartbeat is not None:
        return None  # it told of itself before: it is past its start, and has stopped to tell
    if _is_settled(case):
        return State(AgentState.AVAILABLE, "process", "alive, quiet, and it runs nothing else; no known prompt")
    if signals.age < case.manifest.signs.ready_within_seconds:
        return State(AgentState.STARTING, "process", "alive, and not ready yet")
    if _is_silent(case):
        return _silent()
    return State(AgentState.UNKNOWN, "screen", f"no ready sign within {case.manifest.signs.ready_within_seconds} s")


def works_on_screen(case: Case) -> State | None:
    """A sign of work is on the screen or in the title."""
    screen = case.signals.screen
    if screen is None or screen.working is None:
        return None
    return State(AgentState.WORKING, "screen", f"the {_seen(screen)}")


def rests_on_screen(case: Case) -> State | None:
    """Its composer, or its prompt, waits for input."""
    screen, line = case.signals.screen, case.manifest.composer.kind == "line"
    if screen is None or not screen.composer:
        return None
    return State(AgentState.AVAILABLE, "screen", "its prompt is up" if line else "its composer is on the screen")


def beats_no_more(case: Case) -> State | None:
    """It had a heartbeat, which has stopped; a screen without a known sign says nothing against that."""
    heartbeat = case.signals.heartbeat
    if heartbeat is None or heartbeat.is_fresh(case.signals.now):
        return None
    return State(AgentState.UNKNOWN, "heartbeat", "its heartbeat has stopped")


def runs_something(case: Case) -> State | None:
    """A line program without its prompt up: it runs another program, or rests without a prompt that we know."""
    signals, screen = case.signals, case.signals.screen
    if screen is None or case.manifest.composer.kind != "line":
        return None
    if screen.alternate:
        return State(AgentState.WORKING, "process", f"a full-screen program is open: {screen.command}")
    if _is_settled(case):
        return State(AgentState.AVAILABLE, "process", "quiet, and it runs nothing else; no known prompt")
    if signals.in_foreground:
        return State(AgentState.WORKING, "screen", "no prompt at the cursor")
    return State(AgentState.WORKING, "process", f"it runs {screen.command}")


def says_nothing(case: Case) -> State | None:
    """No rule above knew anything."""
    if _is_silent(case):
        return _silent()
    return State(AgentState.UNKNOWN, "screen", "its composer is not on the screen")


RULES: Sequence[Rule] = (
    asks_by_hook,
    asks_on_screen,
    failed_by_hook,
    says_itself,
    left_in_the_turn,
    hangs_in_the_turn,
    works_by_hook,
    rests_by_hook,
    beats,
    unreadable,
    not_ready_yet,
    works_on_screen,
    rests_on_screen,
    beats_no_more,
    runs_something,
    says_nothing,
)


def _beats_on(case: Case) -> bool:
    """Say whether a heartbeat, newer than the newest event, tells that the program goes on."""
    heartbeat, signals = case.signals.heartbeat, case.signals
    if heartbeat is None or not heartbeat.is_fresh(signals.now) or heartbeat.at < signals.told.heard:
        return False
    return bool(heartbeat.state) and heartbeat.state != AgentState.STUCK


def _is_settled(case: Case) -> bool:
    """Say whether a program in a line composer waits for input, though no known prompt says so."""
    signals = case.signals
    return case.manifest.composer.kind == "line" and signals.in_foreground and signals.quiet >= SETTLED_SECONDS


def _is_silent(case: Case) -> bool:
    """Say whether there is no signal at all: none of its own, no rule that fits its version, and no activity."""
    signals = case.signals
    known = signals.told.count > 0 or signals.heartbeat is not None
    return not known and signals.quiet >= SILENT_SECONDS and (not signals.was_ready or not case.measured)


def _silent() -> State:
    return State(
        AgentState.AVAILABLE, "process", f"it says nothing of itself, and wrote nothing for {SILENT_SECONDS:.0f} s"
    )


def _seen(screen: ScreenFacts) -> str:
    assert screen.working is not None
    return f"{screen.working.where} shows {screen.working.pattern!r}"


def _reported(told: Told) -> str:
    return f"{REPORTED}: {told.detail}" if told.detail else REPORTED


def to_wire(state: AgentState) -> fleet_pb2.AgentState.ValueType:
    """Return the state as the control plane knows it."""
    return fleet_pb2.AgentState.Value(f"AGENT_STATE_{state.name}")
