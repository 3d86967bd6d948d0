"""Cards, claims and their history as JSON documents: camelCase, RFC 3339 in UTC, fields only ever added (pure)."""

from __future__ import annotations

from typing import Any

from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli.documents import principal_document, rfc3339

STATUSES = ("ready", "claimed", "review", "done", "blocked", "cancelled")
URGENCIES = ("low", "normal", "high", "critical")


def status_word(status: int) -> str:
    """Return a card's status as the word people use; one that this program does not know is `unknown`."""
    return _word(pb.CardStatus, status, "CARD_STATUS_", "unknown")


def urgency_word(urgency: int) -> str:
    """Return a card's urgency as a word; unspecified is normal."""
    return _word(pb.Urgency, urgency, "URGENCY_", "normal")


def holder_name(holder: pb.Holder) -> str:
    """Return who holds a card, or held it last, as people write it; empty where nobody has."""
    return f"{holder.who.host}/{holder.who.name}" if holder.who.host else holder.who.name


def seconds(duration: Any) -> float:
    """Return a protobuf Duration in seconds; 0 where it is not set."""
    return float(duration.seconds + duration.nanos / 1e9)


def spend_document(spend: pb.Spend) -> dict[str, Any]:
    """Return what work costs, or cost; None for what was not said."""
    return {
        "cost": spend.cost_micros / 1_000_000 if spend.cost_micros else None,
        "tokens": spend.tokens or None,
        "seconds": spend.seconds or None,
        "basis": spend.basis or None,
    }


def content_document(content: pb.CardContent) -> dict[str, Any]:
    """Return what a card says."""
    return {
        "title": content.title,
        "body": content.body,
        "mission": content.mission,
        "phase": content.phase,
        "priority": content.priority,
        "urgency": urgency_word(content.urgency),
        "class": getattr(content, "class"),
        "labels": list(content.labels),
        "acceptance": list(content.acceptance),
        "goals": list(content.goals),
        "requirements": list(content.requirements),
        "repository": content.repository,
        "branch": content.branch,
        "head": content.head,
        "pullRequest": content.pull_request,
        "evidence": list(content.evidence),
        "gated": content.gated,
        "estimate": spend_document(content.estimate),
        "attemptLimit": content.attempt_limit or None,
        "timeLimitSeconds": seconds(content.time_limit) or None,
    }


def holder_document(holder: pb.Holder) -> dict[str, Any]:
    """Return who holds a card, or held it last; `leaseUntil` is None when it is not held any more."""
    return {
        "who": principal_document(holder.who),
        "runId": holder.run_id or None,
        "fence": holder.fence,
        "claimedAt": rfc3339(holder.claimed_at),
        "leaseUntil": rfc3339(holder.lease_until),
        "renewUntil": rfc3339(holder.renew_until),
    }


def card_document(card: pb.Card) -> dict[str, Any]:
    """Return a card."""
    return {
        "id": card.id,
        "tenant": card.tenant,
        "status": status_word(card.status),
        "claimable": card.claimable,
        "reason": card.reason,
        **content_document(card.content),
        "dependsOn": list(card.depends_on),
        "unmet": card.unmet,
        "depth": card.depth,
        "fence": card.fence,
        "attempts": card.attempts,
        "expired": card.expired,
        "holder": holder_document(card.holder) if card.HasField("holder") else None,
        "spent": spend_document(card.spent),
        "result": card.result,
        "idempotencyKey": card.idempotency_key or None,
        "madeBy": principal_document(card.made_by),
        "madeAt": rfc3339(card.made_at),
        "changedAt": rfc3339(card.changed_at),
        "readySince": rfc3339(card.ready_since),
        "finishedAt": rfc3339(card.finished_at),
    }


def claim_document(claim: pb.Claim) -> dict[str, Any]:
    """Return a claim: its card, and the fence that goes with every write under it."""
    return {
        "fence": claim.fence,
        "leaseUntil": rfc3339(claim.lease_until),
        "over": claim.over,
        "card": card_document(claim.card),
    }


def event_document(event: pb.CardEvent) -> dict[str, Any]:
    """Return one transition of a card."""
    return {
        "at": rfc3339(event.at),
        "kind": event.kind,
        "status": status_word(event.status),
        "fence": event.fence,
        "who": principal_document(event.who),
        "runId": event.run_id or None,
        "reason": event.reason,
        "details": dict(event.details),
    }


def node_document(node: pb.TreeNode) -> dict[str, Any]:
    """Return one card of a dependency tree."""
    return {
        "id": node.id,
        "title": node.title,
        "status": status_word(node.status),
        "level": node.level,
        "parent": node.parent or None,
        "unmet": node.unmet,
        "repeatedAbove": node.repeated_above,
        "cut": node.cut,
    }


def stats_document(stats: pb.BacklogStatsReply) -> dict[str, Any]:
    """Return the counts and times of a backlog."""
    return {
        "byStatus": {word: stats.by_status.get(word, 0) for word in STATUSES},
        "claimable": stats.claimable,
        "waiting": stats.waiting,
        "claimableByClass": dict(sorted(stats.claimable_by_class.items())),
        "oldestClaimable": stats.oldest_claimable or None,
        "oldestClaimableSince": rfc3339(stats.oldest_claimable_since),
        "leasesOver": stats.leases_over,
        "windowSeconds": seconds(stats.window),
        "expiredInWindow": stats.expired_in_window,
        "claimedInWindow": stats.claimed_in_window,
        "completedInWindow": stats.completed_in_window,
        "completedPerHour": stats.completed_per_hour,
        "timeToClaimP50Seconds": _optional(stats, "time_to_claim_p50"),
        "timeToClaimP95Seconds": _optional(stats, "time_to_claim_p95"),
        "timeToCompleteP50Seconds": _optional(stats, "time_to_complete_p50"),
        "timeToCompleteP95Seconds": _optional(stats, "time_to_complete_p95"),
        "estimatedOpen": spend_document(stats.estimated_open),
        "spent": spend_document(stats.spent),
        "paused": stats.paused,
        "pausedBy": stats.paused_by or None,
        "pausedAt": rfc3339(stats.paused_at),
    }


def _optional(stats: pb.BacklogStatsReply, field: str) -> float | None:
    return seconds(getattr(stats, field)) if stats.HasField(field) else None  # type: ignore[arg-type]


def _word(enum: Any, value: int, prefix: str, unspecified: str) -> str:
    if value not in enum.values():
        return "unknown"
    name = str(enum.Name(value)).removeprefix(prefix)
    return unspecified if name == "UNSPECIFIED" else name.lower()
