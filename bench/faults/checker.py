"""Judges a run: each violation is something that was promised never to happen (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from bench.faults.history import (
    ARRIVED_STEPS,
    FAIL,
    OK,
    OPEN_STEPS,
    UNARRIVED_ENDS,
    Completed,
    Holding,
    Run,
    Sent,
    Write,
)

DIES_WITH_ITS_TERMINAL_SECONDS = 2.0
"""What was entered so shortly before its terminal was killed may be lost in the program, which is nobody's to mend."""


def violations(run: Run, *, converge_seconds: float) -> list[str]:
    """Return what broke a promise. `converge_seconds`: how soon after healing each view has to be right."""
    found = [
        *answers(run.writes),
        *_messages(run),
        *_order(run),
        *overlaps(run.holdings),
        *fences(run.holdings),
        *completions(run.completed, run.holdings),
        *(f"backlog verify: {one}" for one in run.mismatches),
        *run.register,
        *(f"a call ended in an internal error: {one}" for one in run.internal),
    ]
    for view in run.views:
        if view.after is None:
            found.append(f"view {view.name}: it never became right: {view.shown}")
        elif view.after > converge_seconds:
            found.append(f"view {view.name}: right only {view.after:.1f} s after healing ({converge_seconds:g} s)")
    return found


def answers(writes: Iterable[Write]) -> Iterator[str]:
    """A write that is repeated is answered as it was."""
    for write in writes:
        told = set(write.answers) - {""}  # of a claim: there was no work
        if len(told) > 1:
            yield f"{write.kind} {write.request_id}: repeated, it was answered otherwise: {sorted(told)}"


def _messages(run: Run) -> Iterator[str]:
    where: dict[str, list[str]] = defaultdict(list)
    for agent, marks in run.executed.items():
        for mark in marks:
            where[mark].append(agent)
    for sent in run.sent:
        yield from _message(run, sent, where.pop(sent.mark, []))
    for mark, agents in where.items():
        yield f"{', '.join(agents)} carried out {mark}, which nobody sent"


def _message(run: Run, sent: Sent, agents: list[str]) -> Iterator[str]:
    what = f"message {sent.message_id} to {sent.agent}"
    times = len(agents)
    if times > 1:
        yield f"{what}: arrived {times} times"
    if any(agent != sent.agent for agent in agents):
        yield f"{what}: arrived at {', '.join(agents)}"
    receipt = run.received.get(sent.message_id)
    if receipt is None:
        if sent.outcome == OK:
            yield f"{what}: acknowledged, and there is no receipt of it"
        if times:
            yield f"{what}: arrived, and there is no receipt of it"
        return
    if sent.outcome == FAIL:
        yield f"{what}: refused, and yet it is at {receipt.step}"
    if receipt.step in OPEN_STEPS:
        yield f"{what}: neither arrived nor ended: still {receipt.step}"
    if receipt.step in UNARRIVED_ENDS and times:
        yield f"{what}: said to have {receipt.step}, and it arrived"
    if (
        receipt.step in ARRIVED_STEPS
        and not times
        and not _died_with_its_terminal(run, sent.agent, receipt.submitted_at)
    ):
        yield f"{what}: said to be {receipt.step}, and it never arrived"


def _died_with_its_terminal(run: Run, agent: str, submitted_at: float | None) -> bool:
    return submitted_at is not None and any(
        -DIES_WITH_ITS_TERMINAL_SECONDS <= submitted_at - killed <= DIES_WITH_ITS_TERMINAL_SECONDS
        for killed in run.seats_killed.get(agent, ())
    )


def _order(run: Run) -> Iterator[str]:
    """seat_seq is the order of typing at a seat."""
    numbers = {
        sent.mark: run.received[sent.message_id].seat_seq for sent in run.sent if sent.message_id in run.received
    }
    for agent, marks in run.executed.items():
        newest = 0
        for mark in marks:
            number = numbers.get(mark, newest)
            if number < newest:
                yield f"{agent}: message {number} of the seat arrived after message {newest}"
            newest = max(newest, number)


def overlaps(holdings: list[Holding]) -> Iterator[str]:
    """No card is held twice at once: two may believe so only one after the other."""
    for card, claims in _by_card(holdings).items():
        for number, one in enumerate(claims):
            for other in claims[number + 1 :]:
                if one.since < other.until and other.since < one.until:
                    yield f"card {card}: held twice at once: by {_who(one)} and by {_who(other)}"


def fences(holdings: list[Holding]) -> Iterator[str]:
    """Two claims never share a fence, and one asked for after another was told has the higher one."""
    for card, claims in _by_card(holdings).items():
        for number, one in enumerate(claims):
            for other in claims[number + 1 :]:
                if one.fence == other.fence:
                    yield f"card {card}: {one.holder} and {other.holder} were both given fence {one.fence}"
                elif one.since <= other.asked and other.fence < one.fence:
                    yield f"card {card}: the fence fell from {one.fence} to {other.fence}"


def completions(completed: list[Completed], holdings: list[Holding]) -> Iterator[str]:
    """A card is completed once, and never by one whose claim somebody else has taken over since."""
    done: dict[str, Completed] = {}
    claims = _by_card(holdings)
    for one in sorted(completed, key=lambda one: one.told):
        first = done.setdefault(one.card, one)
        if (first.holder, first.fence) != (one.holder, one.fence):
            yield f"card {one.card}: completed twice: by {_who(first)} and by {_who(one)}"
        for other in claims.get(one.card, ()):
            if other.fence > one.fence and other.since <= one.asked:
                yield f"card {one.card}: completed by {_who(one)}, though it had been given to {_who(other)}"
            if other.fence > one.fence and other.asked >= one.told:
                yield f"card {one.card}: given to {other.holder} after {one.holder} was told that it is done"


def _who(one: Holding | Completed) -> str:
    return f"{one.holder} under {one.fence}"


def _by_card(holdings: list[Holding]) -> dict[str, list[Holding]]:
    found: dict[str, list[Holding]] = defaultdict(list)
    for one in sorted(holdings, key=lambda one: one.since):
        found[one.card].append(one)
    return found
