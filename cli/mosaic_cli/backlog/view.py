"""Cards, claims, trees and figures of the backlog, ready to be shown (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli.backlog.documents import (
    STATUSES,
    card_document,
    claim_document,
    event_document,
    holder_name,
    node_document,
    seconds,
    stats_document,
    status_word,
    urgency_word,
)
from mosaic_cli.backlog.tree import draw
from mosaic_cli.documents import moment, rfc3339, seconds_between
from mosaic_cli.output import Column, Listing, Style, Thing
from mosaic_cli.text import age, local_time, safe_lines

NOTHING_HERE = "no card to show; make one with: mosaic backlog create TITLE"


def card_listing(
    cards: Sequence[pb.Card], at: Any, *, next_cursor: str = "", empty: str = NOTHING_HERE
) -> Listing[pb.Card]:
    """Return cards in the order given; `at` is the register's time of the reading."""
    columns: list[Column[pb.Card]] = [
        Column("ID", lambda card: card.id),
        Column("STATUS", status_text),
        Column("PRI", lambda card: str(card.content.priority)),
        Column("CLASS", lambda card: getattr(card.content, "class")),
        Column("HOLDER", lambda card: _holder_text(card)),
        Column("AGE", lambda card: age(seconds_between(at, card.made_at))),
        Column("TITLE", lambda card: card.content.title),
        Column("URGENCY", lambda card: urgency_word(card.content.urgency), wide=True),
        Column("LABELS", lambda card: ",".join(card.content.labels), wide=True),
        Column("MISSION", lambda card: card.content.mission, wide=True),
        Column("PHASE", lambda card: card.content.phase, wide=True),
        Column("ATTEMPTS", lambda card: str(card.attempts), wide=True),
        Column("FENCE", lambda card: str(card.fence), wide=True),
        Column("REASON", lambda card: card.reason, wide=True),
    ]
    return Listing(
        "CardList",
        cards,
        columns,
        name=lambda card: card.id,
        document=card_document,
        style=_style,
        extra={"at": rfc3339(at), "nextCursor": next_cursor or None},
        empty=empty,
    )


def claim_listing(claims: Sequence[pb.Claim]) -> Listing[pb.Claim]:
    """Return claims, best first."""
    columns: list[Column[pb.Claim]] = [
        Column("ID", lambda claim: claim.card.id),
        Column("FENCE", lambda claim: str(claim.fence)),
        Column("LEASE", lambda claim: "over" if claim.over else age(claim.lease_left_ms / 1000)),
        Column("PRI", lambda claim: str(claim.card.content.priority)),
        Column("TITLE", lambda claim: claim.card.content.title),
    ]
    return Listing(
        "ClaimList",
        claims,
        columns,
        name=lambda claim: claim.card.id,
        document=claim_document,
        style=lambda claim: Style.GREY if claim.over else Style.PLAIN,
        empty="nothing was claimed",
    )


def claim_thing(claim: pb.Claim) -> Thing:
    """Return one claim with all that its card says, for whoever works on it."""
    card = claim.card
    lines = [
        ("card", card.id),
        ("title", card.content.title),
        ("fence", str(claim.fence)),
        ("lease", "over" if claim.over else f"{age(claim.lease_left_ms / 1000)}, until {_time(claim.lease_until)}"),
        *_content_lines(card),
    ]
    return Thing("Claim", card.id, claim_document(claim), lines, _texts(card))


def card_thing(card: pb.Card) -> Thing:
    """Return one card, as it is after a write."""
    return Thing("Card", card.id, card_document(card), _card_lines(card, None))


def shown_card(reply: pb.ShowCardReply) -> Thing:
    """Return one card whole: what it says, its tree, and every transition."""
    card = reply.card
    parts = [_texts(card)]
    if len(reply.depends_on) > 1:
        parts.append("depends on\n" + draw(reply.depends_on))
    if len(reply.dependants) > 1:
        parts.append("waited for by\n" + draw(reply.dependants))
    if reply.history:
        cut = ["  … older ones are left out; --history N shows more"] if reply.history_cut else []
        parts.append("\n".join(["history", *cut, *(_event_line(event) for event in reply.history)]))
    body = {
        **card_document(card),
        "history": [event_document(event) for event in reply.history],
        "historyCut": reply.history_cut,
        "dependencyTree": [node_document(node) for node in reply.depends_on],
        "dependantTree": [node_document(node) for node in reply.dependants],
    }
    return Thing("Card", card.id, body, _card_lines(card, reply.at), "\n\n".join(part for part in parts if part))


def stats_thing(stats: pb.BacklogStatsReply) -> Thing:
    """Return the figures of a backlog."""
    counts = ", ".join(f"{stats.by_status.get(word, 0)} {word}" for word in STATUSES)
    oldest = ""
    if stats.oldest_claimable:
        oldest = f"{stats.oldest_claimable}, for {age(seconds_between(stats.at, stats.oldest_claimable_since))}"
    window = age(seconds(stats.window))
    lines = [
        ("cards", counts),
        ("claimable now", f"{stats.claimable} ({_by_class(stats)})" if stats.claimable else "0"),
        ("waiting for others", str(stats.waiting)),
        ("oldest claimable", oldest),
        ("leases over", str(stats.leases_over)),
        (f"last {window}", _window_text(stats)),
        ("created to claimed", _percentiles(stats, "time_to_claim")),
        ("claimed to done", _percentiles(stats, "time_to_complete")),
        ("estimated, open", spend_text(stats.estimated_open)),
        ("spent", spend_text(stats.spent)),
        ("paused", f"by {stats.paused_by}, {_time(stats.paused_at)}" if stats.paused else ""),
    ]
    return Thing("BacklogStats", "backlog", stats_document(stats), lines)


def verify_listing(reply: pb.VerifyBacklogReply) -> Listing[Any]:
    """Return what is kept about the graph and is not so."""
    columns: list[Column[Any]] = [
        Column("CARD", lambda row: row.card_id),
        Column("WHAT", lambda row: row.what),
        Column("KEPT", lambda row: row.kept),
        Column("FOUND", lambda row: row.found),
    ]
    return Listing(
        "BacklogMismatchList",
        list(reply.mismatches),
        columns,
        name=lambda row: str(row.card_id),
        document=lambda row: {"card": row.card_id, "what": row.what, "kept": row.kept, "found": row.found},
        style=lambda _row: Style.WRONG,
        extra={"cards": reply.cards, "edges": reply.edges, "cut": reply.cut},
        empty=f"{reply.cards} cards and {reply.edges} dependencies: all counters are right",
    )


def status_text(card: pb.Card) -> str:
    """Return a status with what keeps it from moving: `ready` alone can be claimed now."""
    word = status_word(card.status)
    if card.status == pb.CARD_STATUS_READY and card.unmet:
        return f"waiting ({card.unmet})"
    return f"{word} (expired)" if card.expired and card.status == pb.CARD_STATUS_READY else word


def spend_text(spend: pb.Spend) -> str:
    """Return a spend as people read it; empty where nothing was said."""
    parts = []
    if spend.cost_micros:
        parts.append(f"{spend.cost_micros / 1_000_000:.2f}")
    if spend.tokens:
        parts.append(f"{spend.tokens:,} tokens")
    if spend.seconds:
        parts.append(age(spend.seconds))
    if spend.basis:
        parts.append(f"({spend.basis})")
    return " ".join(parts)


def _card_lines(card: pb.Card, at: Any) -> list[tuple[str, str]]:
    status = status_text(card) + (f": {card.reason}" if card.reason else "")
    held = ""
    if card.HasField("holder"):
        held = f"{holder_name(card.holder)}, fence {card.holder.fence}"
        if card.holder.HasField("lease_until"):
            held += f", lease for {age(card.holder.lease_left_ms / 1000)}"
    made = f"{_time(card.made_at)} by {card.made_by.name}" if card.made_by.name else _time(card.made_at)
    return [
        ("card", card.id),
        ("title", card.content.title),
        ("status", status),
        ("holder" if card.status in _HELD else "held last by", held),
        *_content_lines(card),
        ("attempts", f"{card.attempts} of {card.content.attempt_limit}" if card.content.attempt_limit else ""),
        ("spent", spend_text(card.spent)),
        ("made", made),
        ("changed", f"{age(seconds_between(at, card.changed_at))} ago" if at is not None else ""),
        ("fence", str(card.fence)),
    ]


def _content_lines(card: pb.Card) -> list[tuple[str, str]]:
    content = card.content
    return [
        ("priority", str(content.priority) if content.priority else ""),
        ("urgency", urgency_word(content.urgency) if content.urgency > pb.URGENCY_NORMAL else ""),
        ("class", getattr(content, "class")),
        ("labels", ", ".join(content.labels)),
        ("mission", " / ".join(part for part in (content.mission, content.phase) if part)),
        ("goals", ", ".join(content.goals)),
        ("requirements", ", ".join(content.requirements)),
        ("repository", content.repository),
        ("branch", content.branch),
        ("head", content.head),
        ("pull request", content.pull_request),
        ("gated", "yes" if content.gated else ""),
        ("time limit", age(seconds(content.time_limit)) if content.HasField("time_limit") else ""),
        ("estimate", spend_text(content.estimate)),
    ]


def _texts(card: pb.Card) -> str:
    content = card.content
    parts = [safe_lines(content.body)]
    if content.acceptance:
        parts.append("accepted when\n" + "\n".join(f"  - {safe_lines(text)}" for text in content.acceptance))
    if content.evidence:
        parts.append("evidence\n" + "\n".join(f"  - {safe_lines(text)}" for text in content.evidence))
    if card.result:
        parts.append(f"result\n{safe_lines(card.result)}")
    return "\n\n".join(part for part in parts if part)


def _event_line(event: pb.CardEvent) -> str:
    who = f"{event.who.host}/{event.who.name}" if event.who.host else event.who.name
    details = " ".join(f"{key}={value}" for key, value in sorted(event.details.items()))
    told = " - ".join(part for part in (event.reason, details) if part)
    return safe_lines(
        f"  {_time(event.at)}  {event.kind:<10} {status_word(event.status):<9} fence {event.fence:<4} {who}"
        + (f"  {told}" if told else "")
    ).replace("\n", " ")


def _holder_text(card: pb.Card) -> str:
    return holder_name(card.holder) if card.status in _HELD else ""


def _style(card: pb.Card) -> Style:
    if card.status == pb.CARD_STATUS_BLOCKED:
        return Style.WRONG
    if card.status == pb.CARD_STATUS_REVIEW or card.expired:
        return Style.ATTENTION
    return Style.GREY if card.status in (pb.CARD_STATUS_DONE, pb.CARD_STATUS_CANCELLED) else Style.PLAIN


def _by_class(stats: pb.BacklogStatsReply) -> str:
    return ", ".join(f"{count} {name or 'any class'}" for name, count in sorted(stats.claimable_by_class.items()))


def _window_text(stats: pb.BacklogStatsReply) -> str:
    return (
        f"{stats.claimed_in_window} claimed, {stats.completed_in_window} completed "
        f"({stats.completed_per_hour:.1f} an hour), {stats.expired_in_window} expired"
    )


def _percentiles(stats: pb.BacklogStatsReply, name: str) -> str:
    if not stats.HasField(f"{name}_p50"):  # type: ignore[arg-type]
        return ""
    return f"p50 {age(seconds(getattr(stats, f'{name}_p50')))}, p95 {age(seconds(getattr(stats, f'{name}_p95')))}"


def _time(value: Any) -> str:
    return local_time(moment(value))


_HELD = (pb.CARD_STATUS_CLAIMED, pb.CARD_STATUS_REVIEW)
