"""Judges a run across clusters: each violation is something that was promised never to happen (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from bench.faults.checker import answers, completions, fences, overlaps
from bench.faults.history import ARRIVED_STEPS, FAIL, OK, OPEN_STEPS, Completed, Holding
from bench.federation_faults.history import AcrossRun, PutBack, SentAcross
from bench.federation_faults.layout import MOST_CLAIMED, SECRET, other_sides

CARDS_OF = "b"


def violations(run: AcrossRun, *, converge_seconds: float) -> list[str]:
    """Return what broke a promise. `converge_seconds`: how soon after healing each view has to be right."""
    holdings, completed = _as_of_put_back(run)
    untouched = [
        write for write in run.writes if not any(write.invoked < one.stopped < write.ended for one in run.put_back)
    ]
    found = [
        *answers(untouched),
        *_messages(run),
        *overlaps(holdings),
        *fences(run.holdings),
        *completions(completed, holdings),
        *_shares(run, holdings),
        *_shown(run),
        *(f"backlog verify: {one}" for one in run.mismatches),
        *(f"a call ended in an internal error: {one}" for one in run.internal),
    ]
    for view in run.views:
        if view.after is None:
            found.append(f"view {view.name}: it never became right: {view.shown}")
        elif view.after > converge_seconds:
            found.append(f"view {view.name}: right only {view.after:.1f} s after healing ({converge_seconds:g} s)")
    found += [f"view {view.name}, at rest: {view.shown}" for view in run.views_at_rest if view.after is None]
    return found


def _messages(run: AcrossRun) -> Iterator[str]:
    where: dict[str, list[str]] = defaultdict(list)
    for agent, marks in run.executed.items():
        for mark in marks:
            where[mark].append(agent)
    for sent in run.across:
        yield from _message(run, sent, where.pop(sent.mark, []))
    for mark, agents in where.items():
        yield f"{', '.join(agents)} carried out {mark}, which nobody sent"


def _message(run: AcrossRun, sent: SentAcross, agents: list[str]) -> Iterator[str]:
    what = f"message {sent.message_id} of {sent.via} to {sent.owner}/{sent.agent}"
    if len(agents) > 1:
        yield f"{what}: carried out {len(agents)} times"
    if any(agent != sent.agent for agent in agents):
        yield f"{what}: carried out by {', '.join(agents)}"
    if sent.outcome == FAIL and agents:
        yield f"{what}: refused, and yet carried out"
    at_owner = run.steps.get(sent.owner, {}).get(sent.message_id)
    told = run.steps.get(sent.via, {}).get(sent.message_id)
    if at_owner in OPEN_STEPS:
        yield f"{what}: neither arrived nor ended at its owner: still {at_owner}"
    if at_owner in ARRIVED_STEPS and not agents:
        yield f"{what}: its owner says {at_owner}, and nobody carried it out"
    if sent.outcome != OK or agents:
        return
    if _taken_back(run.put_back, sent.via, sent.asked) and told is None:
        return  # forgotten with everything else of that time
    if _taken_back(run.put_back, sent.owner, sent.asked):
        if told is None or told in OPEN_STEPS:
            yield f"{what}: its owner was put back to before it, and {sent.via} still says {told}"
        return
    yield f"{what}: acknowledged, and nobody carried it out: {sent.via} says {told}, its owner {at_owner}"


def _taken_back(put_back: list[PutBack], cluster: str, at: float) -> bool:
    """Whether what was asked of a cluster then may be gone: its answer may have come later than its end."""
    return any(one.cluster == cluster and at < one.stopped for one in put_back)


def _as_of_put_back(run: AcrossRun) -> tuple[list[Holding], list[Completed]]:
    """Return claims and completions of cards without what a register that was put back has forgotten.

    No claim outlives that: whoever held one is refused from then on by its fence.
    """
    holdings, completed = list(run.holdings), list(run.completed)
    for one in (one for one in run.put_back if one.cluster == CARDS_OF):
        holdings = [
            replace(held, until=min(held.until, one.stopped)) if held.asked < one.stopped else held for held in holdings
        ]
        completed = [done for done in completed if done.asked >= one.stopped]
    return [held for held in holdings if held.since < held.until], completed


def _shares(run: AcrossRun, holdings: list[Holding]) -> Iterator[str]:
    """No peer holds more cards at once than it may, nor any that it may not."""
    for cluster, most in MOST_CLAIMED.items():
        theirs = [held for held in holdings if held.holder.startswith(f"{cluster}-")]
        for one in theirs:
            at_once = sum(other.since <= one.since < other.until for other in theirs)
            if at_once > most:
                yield f"cluster {cluster} holds {at_once} cards at once, and may hold {most}"
        if run.held.get(cluster, 0) > most:
            yield f"cluster {cluster} has {run.held[cluster]} cards in the register, and may have {most}"
    for held in holdings:
        if held.holder.startswith("a-") and not held.card.startswith("docs"):
            yield f"card {held.card}: given to {held.holder}, who may claim docs alone"


def _shown(run: AcrossRun) -> Iterator[str]:
    """Never is anything shown that nobody granted, nor through another what a third one owns."""
    for viewer, shown in run.shown.items():
        for cluster, agent, class_name in sorted(shown):
            if cluster not in other_sides(viewer) or not agent.startswith(f"{cluster}-"):
                yield f"{viewer} shows {agent} of {cluster}, with which it has no such pairing"
            if class_name == SECRET:
                yield f"{viewer} shows {agent}, which no grant ever named"
