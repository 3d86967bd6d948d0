"""What callers send about cards, checked as far as is needed to be a value at all. The rest: backlog/drafts.py."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_framework.errors import InvalidInput
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import common_pb2

from mosaic_controlplane.api.encode import identifier, optional_identifier
from mosaic_controlplane.backlog.drafts import LIST_LIMIT, Draft, require
from mosaic_controlplane.backlog.exchange import Record
from mosaic_controlplane.backlog.wishes import Filter
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register.card import ATTEMPT_LIMIT, CONTENT_FIELDS, TIME_LIMIT, CardContent, CardRow
from mosaic_controlplane.register.card_claim import Spent
from mosaic_controlplane.register.card_history import EventRow

_SPEND_LIMIT = 2**53
_EVENT_KINDS = frozenset(
    [
        "created",
        "changed",
        "claimed",
        "renewed",
        "proposed",
        "completed",
        "released",
        "blocked",
        "unblocked",
        "expired",
        "reclaimed",
        "cancelled",
        "linked",
        "unlinked",
        "imported",
    ]
)
_KINDS = {
    common_pb2.PRINCIPAL_KIND_AGENT: "agent",
    common_pb2.PRINCIPAL_KIND_OPERATOR: "operator",
    common_pb2.PRINCIPAL_KIND_CONNECTOR: "connector",
    common_pb2.PRINCIPAL_KIND_HOST: "host",
    common_pb2.PRINCIPAL_KIND_REPLICA: "replica",
    common_pb2.PRINCIPAL_KIND_PEER: "peer",
}
# Names on the wire that are others in the register.
_RENAMED = {"class": ("required_class",)}
_ESTIMATE = ("estimate_cost_micros", "estimate_tokens", "estimate_seconds", "estimate_basis")


def length(message: Message, field: str) -> timedelta | None:
    """Return a duration of a message, or None when it is absent. Raises InvalidInput beyond what a clock holds."""
    if not message.HasField(field):
        return None
    found: Duration = getattr(message, field)
    try:
        return found.ToTimedelta()
    except (OverflowError, ValueError):
        raise InvalidInput(f"the {field} is out of range") from None


def moment(message: Message, field: str) -> datetime | None:
    """Return a time of a message, or None when it is absent. Raises InvalidInput beyond what a calendar holds."""
    if not message.HasField(field):
        return None
    found: Timestamp = getattr(message, field)
    try:
        return found.ToDatetime(tzinfo=UTC)
    except (OverflowError, ValueError):
        raise InvalidInput(f"the time {field} is out of range") from None


def status_name(value: pb.CardStatus.ValueType) -> str:
    """Return the register's word for a status. Raises InvalidInput for one that is not known."""
    if value == pb.CARD_STATUS_UNSPECIFIED or value not in pb.CardStatus.values():
        raise InvalidInput("the status is not known", why=f"its number is {value}")
    return pb.CardStatus.Name(value).removeprefix("CARD_STATUS_").lower()


def _urgency_name(value: pb.Urgency.ValueType) -> str:
    if value == pb.URGENCY_UNSPECIFIED:
        return "normal"
    if value not in pb.Urgency.values():
        raise InvalidInput("the urgency is not known", why=f"its number is {value}")
    return pb.Urgency.Name(value).removeprefix("URGENCY_").lower()


def content(said: pb.CardContent) -> CardContent:
    """Return what a card is to say."""
    return CardContent(
        title=said.title,
        body=said.body,
        mission=said.mission,
        phase=said.phase,
        priority=said.priority,
        acceptance=list(said.acceptance),
        labels=list(dict.fromkeys(said.labels)),
        required_class=getattr(said, "class"),
        urgency=_urgency_name(said.urgency),
        estimate_cost_micros=said.estimate.cost_micros,
        estimate_tokens=said.estimate.tokens,
        estimate_seconds=said.estimate.seconds,
        estimate_basis=said.estimate.basis,
        goals=list(said.goals),
        requirements=list(said.requirements),
        repository=said.repository,
        branch=said.branch,
        head=said.head,
        pull_request=said.pull_request,
        evidence=list(said.evidence),
        gated=said.gated,
        attempt_limit=said.attempt_limit or ATTEMPT_LIMIT,
        time_limit=length(said, "time_limit") or TIME_LIMIT,
    )


def draft(sent: pb.CardDraft) -> Draft:
    """Return a draft; one without an id gets one."""
    return Draft(
        card_id=sent.id or str(new_id()),
        content=content(sent.content),
        depends_on=tuple(sent.depends_on),
        idempotency_key=sent.idempotency_key,
        id_was_given=bool(sent.id),
    )


def changes(request: pb.UpdateCardRequest) -> dict[str, object]:
    """Return the fields that a request changes, by CardContent's names, and what they become. Raises InvalidInput."""
    wanted = content(request.content)
    found: dict[str, object] = {}
    for name in request.fields:
        if name not in pb.CardContent.DESCRIPTOR.fields_by_name:
            known = ", ".join(sorted(pb.CardContent.DESCRIPTOR.fields_by_name))
            raise InvalidInput(f"a card has no field {name[:64]!r}", why=f"it has {known}")
        for field in _ESTIMATE if name == "estimate" else _RENAMED.get(name, (name,)):
            found[field] = getattr(wanted, field)
    return found


def which(sent: pb.CardFilter, caller: Caller) -> Filter:
    """Return which cards a caller may and wants to claim: an agent those of its own class, and those for any."""
    if len(sent.labels) > LIST_LIMIT:
        raise InvalidInput(f"{len(sent.labels)} labels are too many", why=f"at most {LIST_LIMIT} may be asked for")
    labels = tuple(sorted({require(label, what="label", limit=128) for label in sent.labels}))
    asked: str = require(getattr(sent, "class"), what="class", limit=64)
    if caller.kind == "agent":
        if asked not in ("", caller.role):
            raise InvalidInput(
                f"you cannot claim for class {asked!r}", why=f"your class is {caller.role}, and yours are its cards"
            )
        return Filter(("", caller.role), labels)
    return Filter(("", asked) if asked else None, labels)


def spent(sent: pb.Spend) -> Spent:
    """Return what work has cost. Raises InvalidInput."""
    for name in ("cost_micros", "tokens", "seconds"):
        if not 0 <= getattr(sent, name) <= _SPEND_LIMIT:
            raise InvalidInput(f"the {name} spent are out of range")
    return Spent(sent.cost_micros, sent.tokens, sent.seconds)


def evidence(entries: Sequence[str]) -> list[str]:
    """Return evidence to be added. Raises InvalidInput."""
    if len(entries) > LIST_LIMIT:
        raise InvalidInput(f"{len(entries)} pieces of evidence are too many", why=f"at most {LIST_LIMIT} at once")
    return [require(entry, what="evidence") for entry in entries]


def records(sent: Iterable[pb.CardRecord]) -> list[Record]:
    """Return exported cards. Raises InvalidInput for what no export has."""
    return [
        Record(_row(one.card, one.draft_digest), tuple(one.card.depends_on), tuple(map(_event, one.history)))
        for one in sent
    ]


def _row(sent: pb.Card, draft_digest: bytes) -> CardRow:
    said = content(sent.content)
    holder = sent.holder if sent.HasField("holder") else None
    made_at = moment(sent, "made_at")
    made_by = sent.made_by
    if made_at is None:
        raise InvalidInput(f"card {sent.id!r} does not say when it was made", why="an export does")
    for number, name in ((sent.fence, "fence"), (sent.attempts, "attempts")):
        if not 0 <= number < 2**31:
            raise InvalidInput(f"card {sent.id!r}: the {name} is out of range")
    if len(draft_digest) not in (0, hashlib.sha256().digest_size):
        raise InvalidInput(f"card {sent.id!r}: what its key stands for is no SHA-256")
    cost = spent(sent.spent)
    return CardRow(
        tenant_id=UUID(int=0),
        card_id=sent.id,
        seq=0,
        status=status_name(sent.status),
        reason=require(sent.reason, what="reason", limit=4_000),
        unmet=0,
        depth=0,
        ready_since=moment(sent, "ready_since"),
        fence=sent.fence,
        attempts=sent.attempts,
        expired=sent.expired,
        run_id=optional_identifier(holder.run_id, what="run id") if holder else None,
        holder_kind=_kind(holder.who) if holder else None,
        holder_id=identifier(holder.who.id, what="holder's id") if holder else None,
        holder_name=require(holder.who.name, what="holder's name", limit=128) if holder else None,
        claimed_at=moment(holder, "claimed_at") if holder else None,
        lease=None,
        lease_until=None,
        renew_until=None,
        spent_cost_micros=cost.cost_micros,
        spent_tokens=cost.tokens,
        spent_seconds=cost.seconds,
        result=require(sent.result, what="result", limit=RESULT_LIMIT),
        idempotency_key=sent.idempotency_key or None,
        draft_digest=draft_digest or None,
        made_by_kind=_kind(made_by),
        made_by_id=identifier(made_by.id, what="maker's id"),
        made_by_name=require(made_by.name, what="maker's name", limit=128),
        made_at=made_at,
        changed_at=moment(sent, "changed_at") or made_at,
        finished_at=moment(sent, "finished_at"),
        **{name: getattr(said, name) for name in CONTENT_FIELDS},
    )


RESULT_LIMIT = 64 * 1024
"""Characters of the result of a card."""


def _kind(who: common_pb2.Principal) -> str:
    if who.kind not in _KINDS:
        raise InvalidInput("a principal of an unknown kind", why=f"its number is {who.kind}")
    return _KINDS[who.kind]


def _event(sent: pb.CardEvent) -> EventRow:
    at = moment(sent, "at")
    if at is None or sent.kind not in _EVENT_KINDS:
        raise InvalidInput(f"a transition {sent.kind[:32]!r} is none of a history", why="an export has no such")
    return EventRow(
        at=at,
        kind=sent.kind,
        status=status_name(sent.status),
        fence=sent.fence,
        actor_kind=_kind(sent.who),
        actor_id=identifier(sent.who.id, what="id in a history"),
        actor_name=require(sent.who.name, what="name in a history", limit=128),
        run_id=optional_identifier(sent.run_id, what="run id"),
        reason=require(sent.reason, what="reason", limit=4_000),
        details={key[:64]: require(value, what="detail") for key, value in list(sent.details.items())[:20]},
    )
