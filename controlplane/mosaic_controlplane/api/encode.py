"""Rows as the wire shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_framework.errors import InvalidInput
from mosaic_proto.v1 import common_pb2, fleet_pb2, host_link_pb2, messages_pb2

from mosaic_controlplane.register.agent import AgentRow
from mosaic_controlplane.register.host import HostRow
from mosaic_controlplane.register.message import MessageRow

if TYPE_CHECKING:
    from mosaic_controlplane.identity.caller import Caller

_KINDS = {
    "agent": common_pb2.PRINCIPAL_KIND_AGENT,
    "operator": common_pb2.PRINCIPAL_KIND_OPERATOR,
    "connector": common_pb2.PRINCIPAL_KIND_CONNECTOR,
    "host": common_pb2.PRINCIPAL_KIND_HOST,
    "replica": common_pb2.PRINCIPAL_KIND_REPLICA,
    "peer": common_pb2.PRINCIPAL_KIND_PEER,
}

_EPOCH = datetime.fromtimestamp(0, UTC)

DELIVERY_MODES = {
    "send": messages_pb2.DELIVERY_MODE_UNSPECIFIED,
    "when_idle": messages_pb2.DELIVERY_MODE_WHEN_IDLE,
    "interrupt": messages_pb2.DELIVERY_MODE_INTERRUPT,
    "interrupt_only": messages_pb2.DELIVERY_MODE_INTERRUPT_ONLY,
}
_MODE_NAMES = {value: name for name, value in DELIVERY_MODES.items()}


def delivery_mode_name(value: messages_pb2.DeliveryMode.ValueType) -> str:
    """Return the register's word for a mode of the wire. Raises InvalidInput for one that is not known here."""
    if value not in _MODE_NAMES:
        raise InvalidInput("this control plane does not know such a way to deliver", next_step="mosaic update")
    return _MODE_NAMES[value]


def timestamp(at: datetime | None) -> Timestamp | None:
    """Return the wire's form of an aware time, or None."""
    if at is None:
        return None
    # FromDatetime does the same in three times the time, and there are several in every row.
    since = at - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def identifier(text: str, *, what: str) -> UUID:
    """Return the UUID that `text` writes. Raises InvalidInput that names `what`."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(f"the {what} is not an id", why=f"it reads {text[:64]!r}, not a UUID") from None


def optional_identifier(text: str, *, what: str) -> UUID | None:
    """Return the UUID that `text` writes, or None when it is empty."""
    return identifier(text, what=what) if text else None


def message_step(name: str) -> messages_pb2.MessageStep.ValueType:
    """Return the wire's value of a step."""
    return messages_pb2.MessageStep.Value(f"MESSAGE_STEP_{name.upper()}")


def step_name(value: messages_pb2.MessageStep.ValueType) -> str:
    """Return the register's word for a step of the wire; '' when unspecified or not known here."""
    if value == messages_pb2.MESSAGE_STEP_UNSPECIFIED or value not in messages_pb2.MessageStep.values():
        return ""
    return messages_pb2.MessageStep.Name(value).removeprefix("MESSAGE_STEP_").lower()


def agent_state_name(value: fleet_pb2.AgentState.ValueType) -> str:
    """Return the register's word for a state a host reports; what a host may not say, or we do not know, is unknown."""
    known = {"unknown", "starting", "working", "available", "waiting", "stuck", "exited"}
    if value not in fleet_pb2.AgentState.values():
        return "unknown"
    name = fleet_pb2.AgentState.Name(value).removeprefix("AGENT_STATE_").lower()
    return name if name in known else "unknown"


def agent(row: AgentRow) -> fleet_pb2.Agent:
    """Return an agent. On a host that is stale or lost its last state is only told, dated, in the detail."""
    spec = fleet_pb2.SeatSpec.FromString(row.spec)
    state, source, detail = row.state, row.state_source, row.state_detail
    if row.host_state in ("stale", "lost", "left", "revoked"):
        detail = f"was {state} when its host was last heard of"
        state = "stale" if row.host_state == "stale" else "lost"
        source = "heartbeat"
    return fleet_pb2.Agent(
        id=str(row.agent_id),
        tenant=row.tenant,
        host=row.host,
        name=row.name,
        runtime=row.runtime,
        alias=row.alias,
        model=spec.model,
        desired_running=row.desired_running,
        state=fleet_pb2.AgentState.Value(f"AGENT_STATE_{state.upper()}"),
        state_source=source,
        state_detail=detail,
        state_since=timestamp(row.state_since),
        reported_at=timestamp(row.reported_at),
        run_id=str(row.run_id or ""),
        pid=row.pid or 0,
        command=row.command,
        generation=row.generation,
        observed_generation=row.observed_generation,
        problem=row.problem,
        exit_status=row.exit_status or 0,
        working_directory=spec.working_directory,
        removed=row.removed_at is not None,
        supervision=row.supervision,
        unit=row.unit,
        enabled=row.enabled,
        output_at=timestamp(row.output_at),
        running_runtime=row.running_runtime,
        running_model=row.running_model,
        reported_model=row.reported_model,
        runtime_version=row.runtime_version,
        runtime_session=row.runtime_session,
        card=row.card,
        labels=spec.labels,
        driver=row.driver,
        driven_since=timestamp(row.driven_since),
        **{"class": row.class_name},
    )


def host(row: HostRow) -> fleet_pb2.Host:
    """Return a host."""
    return fleet_pb2.Host(
        id=str(row.host_id),
        tenant=row.tenant,
        name=row.name,
        state=fleet_pb2.HostState.Value(f"HOST_STATE_{row.state.upper()}"),
        last_beat_at=timestamp(row.last_beat_at),
        joined_at=timestamp(row.joined_at),
        link_epoch=row.link_epoch,
        identity_epoch=row.identity_epoch,
        generation=row.generation,
        observed_generation=row.observed_generation,
        version=row.version,
        machine=row.machine,
        seats=row.seats,
        unmanaged=host_link_pb2.Unmanaged.FromString(row.unmanaged).sessions,
        linked=row.linked,
        link_problem=row.link_problem,
        draining_since=timestamp(row.draining_since),
        draining_by=row.draining_by,
        beat_interval_ms=round(row.beat_interval.total_seconds() * 1000),
        lost_after_ms=round(row.lost_after.total_seconds() * 1000),
        lost_claims=row.lost_claims,
    )


def principal(kind: str, *, identity: UUID, name: str, tenant: str, host_name: str = "") -> common_pb2.Principal:
    """Return who sends or receives."""
    return common_pb2.Principal(kind=_KINDS[kind], id=str(identity), name=name, host=host_name, tenant=tenant)


def caller_principal(caller: Caller) -> common_pb2.Principal:
    """Return who calls."""
    return principal(caller.kind, identity=caller.id, name=caller.name, tenant=caller.tenant, host_name=caller.host)


def receipt(row: MessageRow) -> messages_pb2.Receipt:
    """Return what is known of a message's delivery."""
    return messages_pb2.Receipt(
        message_id=str(row.message_id),
        sender=principal(
            row.sender_kind,
            identity=row.sender_id,
            name=row.sender_name,
            tenant=row.tenant,
            host_name=row.sender_host,
        ),
        recipient=principal(
            row.recipient_kind,
            identity=row.recipient_id,
            name=row.recipient_name or "",
            tenant=row.tenant,
            host_name=row.recipient_host or "",
        ),
        step=message_step(row.step),
        reason=row.reason,
        steps=[
            messages_pb2.ReceiptStep(
                step=message_step(step.step),
                at=timestamp(step.at),
                evidence=messages_pb2.Evidence(source=step.source, detail=step.detail),
                reason=step.reason,
            )
            for step in row.steps
        ],
        created_at=timestamp(row.created_at),
        deadline_at=timestamp(row.deadline_at),
        seat_seq=row.seat_seq or 0,
        strongest_step_is_submitted=row.recipient_strongest_step == "submitted",
        waits_for=row.waits_for,
        mode=DELIVERY_MODES[row.mode],
        stripped=row.stripped,
        sent_by=row.sent_by,
        cancel_asked=row.cancel_asked_at is not None and row.step in ("queued", "dispatched"),
    )
