"""Cards, claims, histories and trees as the wire shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from mosaic_framework import wire
from mosaic_framework.errors import FleetError
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import common_pb2

from mosaic_controlplane.api.encode import principal, timestamp
from mosaic_controlplane.backlog.drafts import Problem
from mosaic_controlplane.backlog.exchange import Record
from mosaic_controlplane.backlog.graph import DrawnNode
from mosaic_controlplane.backlog.views import Shown, Statistics
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import PauseRow, Taken
from mosaic_controlplane.register.card_history import EventRow
from mosaic_controlplane.register.card_view import FlowRow


def status(name: str) -> pb.CardStatus.ValueType:
    """Return the wire's value of a status."""
    return pb.CardStatus.Value(f"CARD_STATUS_{name.upper()}")


def duration(length: timedelta | None) -> Duration | None:
    """Return the wire's form of a length of time, or None."""
    if length is None:
        return None
    result = Duration()
    result.FromTimedelta(length)
    return result


def content(row: CardRow, *, bodies: bool = True) -> pb.CardContent:
    """Return what a card says; without `bodies` what is long is left out."""
    said = pb.CardContent(
        title=row.title,
        mission=row.mission,
        phase=row.phase,
        priority=row.priority,
        labels=row.labels,
        urgency=pb.Urgency.Value(f"URGENCY_{row.urgency.upper()}"),
        goals=row.goals,
        requirements=row.requirements,
        repository=row.repository,
        branch=row.branch,
        head=row.head,
        pull_request=row.pull_request,
        gated=row.gated,
        attempt_limit=row.attempt_limit,
        time_limit=duration(row.time_limit),
    )
    setattr(said, "class", row.required_class)  # a word of Python, so no keyword of a call
    if row.estimate_cost_micros or row.estimate_tokens or row.estimate_seconds or row.estimate_basis:
        said.estimate.CopyFrom(
            pb.Spend(
                cost_micros=row.estimate_cost_micros,
                tokens=row.estimate_tokens,
                seconds=row.estimate_seconds,
                basis=row.estimate_basis,
            )
        )
    if bodies:
        said.body = row.body
        said.acceptance.extend(row.acceptance)
        said.evidence.extend(row.evidence)
    return said


def card(
    row: CardRow,
    *,
    tenant: str,
    depends_on: Sequence[str] = (),
    at: datetime | None = None,
    bodies: bool = True,
) -> pb.Card:
    """Return a card. `at`: when it was read, by the register's clock; by default when it changed last."""
    shown = pb.Card(
        id=row.card_id,
        content=content(row, bodies=bodies),
        status=status(row.status),
        reason=row.reason,
        unmet=row.unmet,
        depends_on=depends_on,
        fence=row.fence,
        attempts=row.attempts,
        expired=row.expired,
        result=row.result if bodies else "",
        idempotency_key=row.idempotency_key or "",
        made_by=principal(row.made_by_kind, identity=row.made_by_id, name=row.made_by_name, tenant=tenant),
        made_at=timestamp(row.made_at),
        changed_at=timestamp(row.changed_at),
        ready_since=timestamp(row.ready_since),
        finished_at=timestamp(row.finished_at),
        tenant=tenant,
        depth=row.depth,
        claimable=row.claimable,
    )
    if row.spent_cost_micros or row.spent_tokens or row.spent_seconds:
        shown.spent.CopyFrom(
            pb.Spend(cost_micros=row.spent_cost_micros, tokens=row.spent_tokens, seconds=row.spent_seconds)
        )
    if row.holder_id is not None and row.holder_kind is not None:
        shown.holder.CopyFrom(
            pb.Holder(
                who=principal(row.holder_kind, identity=row.holder_id, name=row.holder_name or "", tenant=tenant),
                run_id=str(row.run_id or ""),
                fence=row.fence,
                claimed_at=timestamp(row.claimed_at),
                lease_until=timestamp(row.lease_until),
                renew_until=timestamp(row.renew_until),
                lease_left_ms=_left(row, at or row.changed_at),
            )
        )
    return shown


def _left(row: CardRow, at: datetime) -> int:
    """Return the milliseconds that a lease has left; 0 when it is over, or there is none."""
    return 0 if row.lease_until is None else max(0, int((row.lease_until - at).total_seconds() * 1000))


def claim(taken: Taken, *, tenant: str) -> pb.Claim:
    """Return a claim."""
    return pb.Claim(
        card=card(taken.card, tenant=tenant, at=taken.at),
        fence=taken.fence,
        lease_until=None if taken.over else timestamp(taken.card.lease_until),
        lease_left_ms=0 if taken.over else _left(taken.card, taken.at),
        over=taken.over,
    )


def problem(found: Problem) -> pb.CardProblem:
    """Return what is wrong with a draft."""
    return pb.CardProblem(
        index=found.index, id=found.card_id, field=found.field, code=found.code, what=found.what, path=found.path
    )


def event(row: EventRow, *, tenant: str) -> pb.CardEvent:
    """Return a transition."""
    details = dict(row.details)
    if row.waited is not None:
        details["waited_seconds"] = f"{row.waited.total_seconds():.3f}"
    return pb.CardEvent(
        at=timestamp(row.at),
        kind=row.kind,
        status=status(row.status),
        fence=row.fence,
        who=principal(row.actor_kind, identity=row.actor_id, name=row.actor_name, tenant=tenant),
        run_id=str(row.run_id or ""),
        reason=row.reason,
        details=details,
    )


def _tree(nodes: Iterable[DrawnNode], cards: Mapping[str, CardRow], *, sign: int) -> list[pb.TreeNode]:
    return [
        pb.TreeNode(
            id=node.card_id,
            title=cards[node.card_id].title,
            status=status(cards[node.card_id].status),
            level=sign * node.level,
            parent=node.parent,
            unmet=cards[node.card_id].unmet,
            repeated_above=node.repeated,
            cut=node.cut,
        )
        for node in nodes
    ]


def shown(found: Shown, *, tenant: str) -> pb.ShowCardReply:
    """Return one card with all that is known of it."""
    return pb.ShowCardReply(
        card=card(found.card, tenant=tenant, depends_on=found.depends_on, at=found.at),
        history=[event(row, tenant=tenant) for row in found.history],
        history_cut=found.history_cut,
        depends_on=_tree(found.below, found.nodes, sign=1),
        dependants=_tree(found.above, found.nodes, sign=-1),
        at=timestamp(found.at),
    )


def statistics(found: Statistics) -> pb.BacklogStatsReply:
    """Return counts and flow."""
    reply = pb.BacklogStatsReply(
        at=timestamp(found.at),
        window=duration(found.window),
        paused=found.pause.paused,
        paused_by=found.pause.by if found.pause.paused else "",
        paused_at=timestamp(found.pause.at) if found.pause.paused else None,
    )
    for name in ("ready", "claimed", "review", "done", "blocked", "cancelled"):
        reply.by_status[name] = 0
    for row in found.counts:
        reply.by_status[row.status] += row.cards
        reply.leases_over += row.leases_over
        if row.status == "ready" and row.free:
            reply.claimable += row.cards
            reply.claimable_by_class[row.required_class] += row.cards
        elif row.status == "ready":
            reply.waiting += row.cards
        if row.status not in ("done", "cancelled"):
            reply.estimated_open.cost_micros += row.estimate_cost_micros
            reply.estimated_open.tokens += row.estimate_tokens
            reply.estimated_open.seconds += row.estimate_seconds
        reply.spent.cost_micros += row.spent_cost_micros
        reply.spent.tokens += row.spent_tokens
        reply.spent.seconds += row.spent_seconds
    if found.oldest is not None:
        reply.oldest_claimable = found.oldest[0]
        reply.oldest_claimable_since.FromDatetime(found.oldest[1])
    nothing = FlowRow("", 0, None, None)
    claimed = found.flow.get("claimed", nothing)
    completed = found.flow.get("completed", nothing)
    reply.claimed_in_window = claimed.events
    reply.completed_in_window = completed.events
    reply.expired_in_window = found.flow.get("expired", nothing).events
    reply.completed_per_hour = completed.events / (found.window.total_seconds() / 3600)
    for seconds, field in (
        (claimed.p50, reply.time_to_claim_p50),
        (claimed.p95, reply.time_to_claim_p95),
        (completed.p50, reply.time_to_complete_p50),
        (completed.p95, reply.time_to_complete_p95),
    ):
        if seconds is not None:
            field.FromTimedelta(timedelta(seconds=float(seconds)))
    return reply


def record(found: Record, *, tenant: str) -> pb.CardRecord:
    """Return a card as it is exported."""
    return pb.CardRecord(
        card=card(found.card, tenant=tenant, depends_on=found.depends_on),
        history=[event(row, tenant=tenant) for row in found.history],
        draft_digest=found.card.draft_digest or b"",
    )


def pause(row: PauseRow, *, changed: bool) -> pb.PauseReply:
    """Return whether a tenant is paused."""
    return pb.PauseReply(paused=row.paused, by=row.by, at=timestamp(row.at), reason=row.reason, changed=changed)


def error(failure: FleetError) -> common_pb2.Error:
    """Return an error as a part of an answer."""
    _status, message = wire.error_to_status(failure)
    return common_pb2.Error.FromString(message)
