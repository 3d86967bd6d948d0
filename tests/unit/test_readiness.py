"""From signals to one state: every rule in a table, and what no combination of signals may ever say."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest
from mosaic_framework.runtimes import read_manifest
from mosaic_hostagent.heartbeats import Heartbeat
from mosaic_hostagent.readiness import RULES, AgentState, Signals, exited, judge
from mosaic_hostagent.screen_facts import ScreenFacts
from mosaic_hostagent.signals import Told

NOW = 10_000.0


@functools.cache
def manifest(name: str) -> Manifest:
    return read_manifest(Catalog(Catalog.open().shipped), name)


CLAUDE, SHELL = manifest("claude"), manifest("shell")
QUESTION, WORK = CLAUDE.signs.waiting[0], CLAUDE.signs.working[0]
HANG = CLAUDE.signals.hang_seconds

BLANK = ScreenFacts(None, None, ready=False, composer=False, alternate=False, command="x")
REST = replace(BLANK, ready=True, composer=True)
BUSY = replace(REST, working=WORK)
DIALOG = replace(REST, waiting=QUESTION)


def hook(phase: str, age: float, *, heard: float | None = None, reported: bool = False, event: str = "E") -> Told:
    """Hooks that claim `phase` since `age` seconds; the newest event came `heard` seconds ago."""
    return Told(
        phase=phase,
        event=event,
        detail="why",
        since=NOW - age,
        heard=NOW - (age if heard is None else heard),
        count=1,
        reported=reported,
    )


def beat(status: str, age: float, *, gone: bool = False) -> Heartbeat:
    return Heartbeat(NOW - age, 7, status, gone=gone)


def signals(**known: Any) -> Signals:
    """A program that started long ago, was ready, has been quiet for a while and shows its composer."""
    usual: dict[str, Any] = {
        "now": NOW,
        "age": 5_000.0,
        "quiet": 100.0,
        "was_ready": True,
        "in_foreground": True,
        "screen": REST,
    }
    return Signals(**(usual | known))


OTHER = {"version": "9.9.9"}

# (what is known, the manifest, the rule that wins, the state, where it is known from)
TABLE: list[tuple[str, dict[str, Any], Manifest, str, str, str]] = [
    ("a hook's question", {"told": hook("waiting", 5), "screen": BLANK}, CLAUDE, "asks-by-hook", "waiting", "hook"),
    ("both say so", {"told": hook("waiting", 5), "screen": DIALOG}, CLAUDE, "asks-by-hook", "waiting", "hook"),
    ("a question just asked", {"told": hook("waiting", 0.1)}, CLAUDE, "asks-by-hook", "working", "hook"),
    (
        "a question just asked, and its dialog seen",
        {"told": hook("waiting", 0.1), "screen": DIALOG},
        CLAUDE,
        "asks-by-hook",
        "waiting",
        "hook",
    ),
    (
        "a question that the screen shows answered",
        {"told": hook("waiting", 60), "screen": BUSY, "quiet": 0.2},
        CLAUDE,
        "asks-by-hook",
        "working",
        "screen",
    ),
    ("a question left by Escape", {"told": hook("waiting", 60)}, CLAUDE, "asks-by-hook", "available", "screen"),
    (
        "a question, and a screen of an unknown version",
        {"told": hook("waiting", 60)} | OTHER,
        CLAUDE,
        "asks-by-hook",
        "waiting",
        "hook",
    ),
    ("a dialog on the screen", {"screen": DIALOG}, CLAUDE, "asks-on-screen", "waiting", "screen"),
    (
        "a dialog, though a hook says it rests",
        {"told": hook("available", 60), "screen": DIALOG},
        CLAUDE,
        "asks-on-screen",
        "waiting",
        "screen",
    ),
    ("an error of the model", {"told": hook("failed", 60)}, CLAUDE, "failed-by-hook", "stuck", "hook"),
    (
        "an error, and it works again",
        {"told": hook("failed", 60), "screen": BUSY},
        CLAUDE,
        "failed-by-hook",
        "working",
        "screen",
    ),
    (
        "an error, and a heartbeat that came after it",
        {"told": hook("failed", 60), "heartbeat": beat("busy", 5)},
        CLAUDE,
        "beats",
        "working",
        "heartbeat",
    ),
    (
        "an error, and a heartbeat of before it",
        {"told": hook("failed", 5), "heartbeat": beat("busy", 10)},
        CLAUDE,
        "failed-by-hook",
        "stuck",
        "hook",
    ),
    (
        "the agent says it is stuck",
        {"told": hook("stuck", 9_000, reported=True)},
        CLAUDE,
        "says-itself",
        "stuck",
        "hook",
    ),
    (
        "the agent says it waits",
        {"told": hook("waiting", 60, reported=True), "screen": REST},
        SHELL,
        "says-itself",
        "waiting",
        "hook",
    ),
    ("interrupted by a person", {"told": hook("working", 60)}, CLAUDE, "left-in-the-turn", "available", "screen"),
    (
        "the same on an unknown version",
        {"told": hook("working", 60)} | OTHER,
        CLAUDE,
        "works-by-hook",
        "working",
        "hook",
    ),
    (
        "a hang: no event, no change of a screen that works",
        {"told": hook("working", 9_000), "screen": BUSY, "quiet": HANG},
        CLAUDE,
        "hangs-in-the-turn",
        "stuck",
        "hook",
    ),
    (
        "not yet a hang",
        {"told": hook("working", 9_000, heard=HANG - 1), "screen": BUSY, "quiet": HANG},
        CLAUDE,
        "works-by-hook",
        "working",
        "hook",
    ),
    (
        "no hang: its screen moves",
        {"told": hook("working", 9_000), "screen": BUSY, "quiet": HANG - 1},
        CLAUDE,
        "works-by-hook",
        "working",
        "hook",
    ),
    (
        "a silent turn, its terminal unreadable",
        {"told": hook("working", 9_000), "screen": None},
        CLAUDE,
        "hangs-in-the-turn",
        "unknown",
        "hook",
    ),
    (
        "a silent turn, a screen that no rule knows",
        {"told": hook("working", 9_000), "screen": REST, "quiet": 9_000.0} | OTHER,
        CLAUDE,
        "hangs-in-the-turn",
        "unknown",
        "hook",
    ),
    (
        "a turn of long ago that nothing else speaks of",
        {"told": hook("working", 9_000, reported=True), "quiet": HANG, "screen": BLANK},
        CLAUDE,
        "hangs-in-the-turn",
        "unknown",
        "hook",
    ),
    (
        "work reported long ago, and a prompt is up",
        {"told": hook("working", 9_000, reported=True), "quiet": HANG},
        SHELL,
        "hangs-in-the-turn",
        "unknown",
        "hook",
    ),
    (
        "work reported long ago, and what was started runs on in silence",
        {"told": hook("working", 9_000, reported=True), "quiet": HANG, "screen": BLANK, "in_foreground": False},
        SHELL,
        "works-by-hook",
        "working",
        "hook",
    ),
    (
        "no hang: its heart beats",
        {"told": hook("working", 9_000), "screen": BUSY, "quiet": HANG, "heartbeat": beat("busy", 10)},
        CLAUDE,
        "works-by-hook",
        "working",
        "hook",
    ),
    ("a turn", {"told": hook("working", 5), "screen": BUSY, "quiet": 0.1}, CLAUDE, "works-by-hook", "working", "hook"),
    ("a turn ended", {"told": hook("available", 9_000)}, CLAUDE, "rests-by-hook", "available", "hook"),
    (
        "a turn just ended, its last frame still up",
        {"told": hook("available", 0.2), "screen": BUSY, "quiet": 0.1},
        CLAUDE,
        "rests-by-hook",
        "available",
        "hook",
    ),
    (
        "a turn ended, and it works on",
        {"told": hook("available", 5), "screen": BUSY, "quiet": 0.1},
        CLAUDE,
        "rests-by-hook",
        "working",
        "screen",
    ),
    (
        "a turn ended, and no composer is there",
        {"told": hook("available", 60), "screen": BLANK},
        CLAUDE,
        "rests-by-hook",
        "unknown",
        "screen",
    ),
    (
        "a heartbeat that says it works",
        {"heartbeat": beat("busy", 44), "screen": BLANK},
        SHELL,
        "beats",
        "working",
        "heartbeat",
    ),
    ("a heartbeat that says it rests", {"heartbeat": beat("idle", 5)}, SHELL, "beats", "available", "heartbeat"),
    ("a heartbeat that says it is stuck", {"heartbeat": beat("stuck", 5)}, SHELL, "beats", "stuck", "heartbeat"),
    (
        "a heartbeat that says it is stuck, over a screen that works",
        {"heartbeat": beat("stuck", 5), "screen": BUSY},
        CLAUDE,
        "beats",
        "unknown",
        "heartbeat",
    ),
    ("a heartbeat under a prompt", {"heartbeat": beat("busy", 46)}, SHELL, "rests-on-screen", "available", "screen"),
    (
        "a heartbeat that stopped",
        {"heartbeat": beat("busy", 46), "screen": BLANK},
        SHELL,
        "beats-no-more",
        "unknown",
        "heartbeat",
    ),
    (
        "a heartbeat that stopped, of a program that was never seen ready",
        {"heartbeat": beat("busy", 46), "screen": BLANK, "was_ready": False},
        SHELL,
        "beats-no-more",
        "unknown",
        "heartbeat",
    ),
    (
        "a heartbeat whose process is gone",
        {"heartbeat": beat("stuck", 1, gone=True), "screen": BLANK},
        SHELL,
        "beats-no-more",
        "unknown",
        "heartbeat",
    ),
    ("nothing to look at", {"screen": None}, CLAUDE, "unreadable", "unknown", "process"),
    (
        "its first seconds",
        {"was_ready": False, "screen": BLANK, "age": 1.0, "quiet": 0.5},
        CLAUDE,
        "not-ready-yet",
        "starting",
        "process",
    ),
    (
        "never ready",
        {"was_ready": False, "screen": BLANK, "age": 60.0, "quiet": 50.0},
        CLAUDE,
        "not-ready-yet",
        "unknown",
        "screen",
    ),
    (
        "never ready, and silent for 300 s",
        {"was_ready": False, "screen": BLANK, "quiet": 300.0},
        CLAUDE,
        "not-ready-yet",
        "available",
        "process",
    ),
    (
        "a line program without a prompt that we know",
        {"was_ready": False, "screen": BLANK, "quiet": 3.0},
        SHELL,
        "not-ready-yet",
        "available",
        "process",
    ),
    ("work on the screen", {"screen": BUSY, "quiet": 0.1}, CLAUDE, "works-on-screen", "working", "screen"),
    ("a composer", {}, CLAUDE, "rests-on-screen", "available", "screen"),
    ("a prompt", {}, SHELL, "rests-on-screen", "available", "screen"),
    (
        "a shell that runs something",
        {"screen": BLANK, "in_foreground": False},
        SHELL,
        "runs-something",
        "working",
        "process",
    ),
    (
        "a full-screen program",
        {"screen": replace(BLANK, alternate=True)},
        SHELL,
        "runs-something",
        "working",
        "process",
    ),
    ("a shell amid output", {"screen": BLANK, "quiet": 1.0}, SHELL, "runs-something", "working", "screen"),
    ("a shell that is quiet", {"screen": BLANK}, SHELL, "runs-something", "available", "process"),
    ("no composer", {"screen": BLANK}, CLAUDE, "says-nothing", "unknown", "screen"),
    (
        "no composer that we know, silent for 300 s",
        {"screen": BLANK, "quiet": 300.0} | OTHER,
        CLAUDE,
        "says-nothing",
        "available",
        "process",
    ),
]


@pytest.mark.parametrize(
    ("known", "of", "rule", "state", "source"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_each_rule_says_what_it_should(known: dict[str, Any], of: Manifest, rule: str, state: str, source: str) -> None:
    verdict = judge(signals(**known), of)
    assert (verdict.rule, verdict.state.state, verdict.state.source) == (rule, state, source), verdict


def test_the_table_has_every_rule() -> None:
    assert {row[3] for row in TABLE} == {rule.__name__.replace("_", "-") for rule in RULES}


def test_whatever_hooks_and_screen_said_last_an_ended_program_is_exited() -> None:
    assert exited(137).state is AgentState.EXITED


def test_a_state_read_off_the_screen_of_an_unknown_version_says_so() -> None:
    assert "it is 9.9.9" in judge(signals(**OTHER), CLAUDE).state.detail
    assert "it is" not in judge(signals(version="2.1.329"), CLAUDE).state.detail


SCREENS = st.sampled_from(
    [None, BLANK, REST, BUSY, DIALOG, replace(BLANK, alternate=True), replace(BUSY, waiting=QUESTION)]
)
AGES = st.sampled_from([0.0, 0.1, 0.5, 2.0, 10.0, 44.0, 46.0, 299.0, 301.0, HANG - 1.0, HANG + 1.0, 90_000.0])
TOLD = st.just(Told()) | st.builds(
    lambda phase, age, heard: hook(phase, age, heard=min(age, heard)),
    st.sampled_from(["", "working", "waiting", "available", "failed"]),
    AGES,
    AGES,
)
TOLD |= st.builds(lambda phase, age: hook(phase, age, reported=True), st.sampled_from(["working", "available"]), AGES)
BEATS = st.none() | st.builds(
    lambda status, age: beat(status, age), st.sampled_from(["busy", "idle", "waiting", "stuck", "what?", ""]), AGES
)
KNOWN = st.builds(
    lambda **known: signals(**known),
    age=AGES,
    quiet=AGES,
    was_ready=st.booleans(),
    in_foreground=st.booleans(),
    screen=SCREENS,
    told=TOLD,
    heartbeat=BEATS,
    version=st.sampled_from(["", "2.1.329", "9.9.9"]),
)
MANIFESTS = st.sampled_from([manifest(name) for name in ("claude", "codex", "pi", "opencode", "shell")])


@settings(max_examples=200)
@given(KNOWN, MANIFESTS)
def test_without_positive_evidence_nothing_is_stuck(known: Signals, of: Manifest) -> None:
    verdict = judge(known, of)
    if verdict.state.state is not AgentState.STUCK:
        return
    told, screen, heart = known.told, known.screen, known.heartbeat
    bound = of.signals.hang_seconds
    says_stuck = heart is not None and heart.is_fresh(NOW) and heart.state == "stuck"
    goes_on = heart is not None and heart.is_fresh(NOW) and heart.at >= told.heard and heart.state not in ("", "stuck")
    stands_still = known.quiet >= bound and NOW - told.heard >= bound
    works = screen is not None and screen.working is not None
    failed = told.phase == "failed" and not goes_on
    hung = told.phase == "working" and works and stands_still and not goes_on
    assert failed or hung or (says_stuck and not works), verdict


@settings(max_examples=100)
@given(KNOWN, MANIFESTS)
def test_without_hooks_and_heartbeat_nothing_is_ever_stuck(known: Signals, of: Manifest) -> None:
    silent = replace(known, told=Told(), heartbeat=None)
    assert judge(silent, of).state.state is not AgentState.STUCK


@settings(max_examples=200)
@given(KNOWN, MANIFESTS)
def test_a_dialog_that_anybody_tells_of_is_never_typed_into(known: Signals, of: Manifest) -> None:
    state = judge(known, of).state
    if known.screen is not None and known.screen.waiting is not None:
        assert state.question
    if state.state is AgentState.WAITING and state.source in ("hook", "screen"):
        assert state.question


@settings(max_examples=100)
@given(KNOWN, MANIFESTS)
def test_a_long_idle_program_whose_hook_said_so_is_available(known: Signals, of: Manifest) -> None:
    idle = replace(known, told=hook("available", 90_000), screen=REST, was_ready=True)
    assert judge(idle, of).state.state is AgentState.AVAILABLE
