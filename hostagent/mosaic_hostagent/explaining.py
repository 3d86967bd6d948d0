"""Why a seat is in the state that it is in: every signal with its age, the rule that won, and the rules before it."""

from __future__ import annotations

from collections.abc import Iterator

from mosaic_framework.manifest import Manifest
from mosaic_proto.v1 import signals_pb2 as pb

from mosaic_hostagent.readiness import RULES, Signals, State, Verdict, to_wire
from mosaic_hostagent.residents import Resident

_NO_AGE = -1


def explain(resident: Resident, judged: tuple[Signals, Verdict] | None, now: float) -> pb.Explanation:
    """Return the explanation of a seat's state at `now`; `judged` is None when no program of it lives."""
    age = int((now - resident.since) * 1000)
    if judged is None or resident.manifest is None:
        why = "No program of this seat lives; what hooks and screen said last does not count."
        return _explanation(resident, resident.state, "process-has-ended", why, age)
    signals, verdict = judged
    names = [rule.__name__.replace("_", "-") for rule in RULES]
    rule = RULES[names.index(verdict.rule)]
    explanation = _explanation(resident, verdict.state, verdict.rule, (rule.__doc__ or "").strip(), age)
    explanation.rules_before.extend(names[: names.index(verdict.rule)])
    explanation.signals.extend(_signals(signals, resident.manifest))
    return explanation


def _explanation(resident: Resident, state: State, rule: str, why: str, age_ms: int) -> pb.Explanation:
    return pb.Explanation(
        state=to_wire(state.state),
        source=state.source,
        detail=state.detail,
        rule=rule,
        why=why,
        state_age_ms=age_ms,
        run_id=resident.run_id,
    )


def _signals(signals: Signals, manifest: Manifest) -> Iterator[pb.Signal]:
    """Yield what is known, the strongest kind first; also what could be known and is not."""
    told = signals.told
    if told.count:
        claims = f"{told.phase or 'no state'}, by {told.event}" + (f" ({told.detail})" if told.detail else "")
        yield _signal("hook", "phase", claims, signals.now - told.since)
        yield _signal("hook", "newest event", f"{told.count} in this run", signals.now - told.heard)
        if told.model or told.session:
            yield _signal("hook", "facts", f"model {told.model or '?'}, session {told.session or '?'}", None)
    else:
        what = "none in this run yet" if manifest.signals.events else "this runtime has none"
        yield _signal("hook", "events", what, None)
    yield from _screen(signals, manifest)
    yield _signal("process", "alive", "its program runs", signals.age)
    yield _signal("process", "output", "it wrote to its terminal", signals.quiet)
    if manifest.composer.kind == "line":
        front = "itself" if signals.in_foreground else "a program that it started"
        yield _signal("process", "foreground", front, None)
    heartbeat = signals.heartbeat
    if heartbeat is None:
        yield _signal("heartbeat", "file", "none", None)
        return
    health = "healthy" if heartbeat.is_fresh(signals.now) else "stopped"
    says = f"{health}: status={heartbeat.status or '?'} pid={heartbeat.pid or '?'}, every {heartbeat.interval:g} s"
    yield _signal("heartbeat", "file", says, signals.now - heartbeat.at)


def _screen(signals: Signals, manifest: Manifest) -> Iterator[pb.Signal]:
    screen = signals.screen
    if screen is None:
        yield _signal("screen", "terminal", "cannot be read", None)
        return
    seen = [
        f"{name}: {sign.where} shows {sign.pattern!r}"
        for name, sign in (("question", screen.waiting), ("work", screen.working))
        if sign is not None
    ]
    seen.append(
        ("prompt" if manifest.composer.kind == "line" else "composer") + (" up" if screen.composer else " not up")
    )
    yield _signal("screen", "signs", "; ".join(seen), signals.now - signals.looked)
    measured = ", ".join(manifest.version.measured)
    if measured:
        version = signals.version or "not known yet"
        known = "" if not signals.version or signals.version in manifest.version.measured else ": used with a warning"
        yield _signal("screen", "rules", f"written for {measured}; it is {version}{known}", None)


def _signal(source: str, name: str, says: str, age: float | None) -> pb.Signal:
    return pb.Signal(source=source, name=name, says=says, age_ms=_NO_AGE if age is None else max(0, int(age * 1000)))
