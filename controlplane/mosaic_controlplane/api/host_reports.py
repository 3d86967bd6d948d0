"""What a host tells, as the register keeps it: each text bounded, so that no host can fill it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from mosaic_framework.errors import InvalidInput
from mosaic_proto.v1 import host_link_pb2 as pb
from mosaic_proto.v1 import messages_pb2, runtimes_pb2

from mosaic_controlplane.api import encode
from mosaic_controlplane.mesh import host_events
from mosaic_controlplane.register.agent import SeatReportRow
from mosaic_controlplane.register.runtime_update import Progress

_TEXT_LIMIT = 500  # characters; a fleet of 1,000 agents is listed in one reply of 4 MiB
_OUTPUT_LIMIT = 8192
_UNMANAGED_LIMIT = 100
_SEATS_LIMIT = 1000
REPORT_LIMIT = 2_000
"""Seats, or runs, that one host may tell of at once."""
_STRONGEST = ("submitted", "accepted", "turn_started", "turn_ended")


def bounded(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return what the register can keep of a host's text: NUL, which it cannot, would come again with every retry."""
    return text[:limit].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def decode_unmanaged(told: pb.Unmanaged) -> bytes:
    """Return the sessions as the register keeps them, each text bounded and the first hundred of them."""
    kept = pb.Unmanaged()
    for one in told.sessions[:_UNMANAGED_LIMIT]:
        added = kept.sessions.add(
            socket_name=bounded(one.socket_name, 64),
            name=bounded(one.name, 128),
            pid=one.pid,
            command=bounded(one.command, 64),
        )
        added.created_at.CopyFrom(one.created_at)
    return kept.SerializeToString(deterministic=True)


def decode_progress(told: runtimes_pb2.UpdateProgress) -> Progress | None:
    """Return how far an update is; None for a state that we do not know. Its texts are bounded."""
    if told.state not in runtimes_pb2.UpdateState.values() or told.state <= runtimes_pb2.UPDATE_STATE_WANTED:
        return None
    seats = runtimes_pb2.RuntimeUpdate()
    for one in told.seats[:_SEATS_LIMIT]:
        seats.seats.add(name=bounded(one.name, 128), well=one.well, detail=bounded(one.detail))
    return Progress(
        update_id=encode.identifier(told.id, what="update id"),
        state=runtimes_pb2.UpdateState.Name(told.state).removeprefix("UPDATE_STATE_").lower(),
        version_before=bounded(told.version_before, 64),
        version_after=bounded(told.version_after, 64),
        problem=bounded(told.problem),
        output=bounded(told.output, _OUTPUT_LIMIT),
        seats=seats.SerializeToString(deterministic=True),
    )


def _strongest(step: messages_pb2.MessageStep.ValueType) -> str:
    name = encode.step_name(step)
    return name if name in _STRONGEST else "submitted"


def _age(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=min(max(0, milliseconds), 30 * 24 * 3600 * 1000))


def decode_reports(reports: list[pb.SeatReport]) -> list[SeatReportRow]:
    """Return the newest report of each seat, as rows. Raises InvalidInput."""
    if len(reports) > REPORT_LIMIT:
        raise InvalidInput("a host reports too many seats at once", why=f"{len(reports):,} of at most {REPORT_LIMIT:,}")
    newest = {encode.identifier(report.agent_id, what="agent id"): report for report in reports}
    return [
        SeatReportRow(
            agent_id=agent_id,
            state=encode.agent_state_name(report.state),
            source=bounded(report.source, 32),
            detail=bounded(report.detail),
            age=_age(report.state_age_ms),
            run_id=encode.optional_identifier(report.run_id, what="run id"),
            pid=report.pid,
            command=bounded(report.command),
            problem=bounded(report.problem),
            exit_status=report.exit_status,
            generation=report.generation,
            supervision=bounded(report.supervision, 32),
            unit=bounded(report.unit),
            enabled=report.enabled,
            output_age=_age(report.output_age_ms) if report.output_age_ms else None,
            running_runtime=bounded(report.running_runtime, 64),
            running_model=bounded(report.running_model, 256),
            reported_model=bounded(report.reported_model, 256),
            runtime_version=bounded(report.runtime_version, 64),
            runtime_session=bounded(report.runtime_session, 256),
            driver=bounded(report.driver, 200),
            driven=_age(report.driven_ms),
            strongest_step=_strongest(report.strongest_step),
        )
        for agent_id, report in newest.items()
    ]


def decode_waits(reasons: list[pb.Waits]) -> dict[UUID, str]:
    """Return why messages wait, the newest word of each. Raises InvalidInput."""
    return {encode.identifier(one.message_id, what="message id"): bounded(one.reason) for one in reasons}


def decode_event(event: pb.JournalEvent) -> host_events.Event | None:
    """Return what a journalled event says; None for a kind that a newer host-agent knows and we do not."""
    match event.WhichOneof("event"):
        case "step":
            step = event.step
            name = encode.step_name(step.step)
            if not name or name == "queued":
                return None
            return host_events.Step(
                message_id=encode.identifier(step.message_id, what="message id"),
                step=name,
                source=bounded(step.evidence.source, 32),
                detail=bounded(step.evidence.detail),
                reason=bounded(step.reason),
                age=_age(step.age_ms),
            )
        case "run_started":
            began = event.run_started
            return host_events.RunBegan(
                run_id=encode.identifier(began.run_id, what="run id"),
                agent_id=encode.identifier(began.agent_id, what="agent id"),
                model=bounded(began.model, 256),
                account=bounded(began.account, 256),
                age=_age(began.age_ms),
            )
        case "run_ended":
            over = event.run_ended
            return host_events.RunOver(
                run_id=encode.identifier(over.run_id, what="run id"),
                agent_id=encode.identifier(over.agent_id, what="agent id"),
                reason=bounded(over.reason, 64),
                exit_status=over.exit_status,
                age=_age(over.age_ms),
            )
        case "runtime_update":
            return decode_progress(event.runtime_update)
        case _:
            return None
