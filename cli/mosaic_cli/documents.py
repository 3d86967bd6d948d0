"""Messages of the wire as JSON documents: camelCase, RFC 3339 in UTC, fields only ever added."""

from __future__ import annotations

import datetime as dt
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_proto.v1 import common_pb2, fleet_pb2, messages_pb2


def now() -> Timestamp:
    """Return this machine's time, for ages of what was read just now."""
    moment = Timestamp()
    moment.GetCurrentTime()
    return moment


def moment(value: Any) -> dt.datetime | None:
    """Return a protobuf Timestamp as an aware datetime; None when it is not set."""
    if value.seconds == 0 and value.nanos == 0:
        return None
    found: dt.datetime = value.ToDatetime(tzinfo=dt.UTC)
    return found


def rfc3339(value: Any) -> str | None:
    """Return a protobuf Timestamp as text with milliseconds; None when it is not set."""
    found = moment(value)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z") if found else None


def seconds_between(later: Any, earlier: Any) -> float | None:
    """Return the seconds from one Timestamp to another; None when either is not set."""
    end, start = moment(later), moment(earlier)
    return (end - start).total_seconds() if end and start else None


def word(enum: Any, value: int) -> str:
    """Return an enum's value as the word people use: AGENT_STATE_AVAILABLE → available, TURN_ENDED → turn_ended."""
    try:
        name = str(enum.Name(value))
    except ValueError:  # of a newer control plane
        return "unknown"
    for prefix in ("AGENT_STATE_", "HOST_STATE_", "MESSAGE_STEP_", "PRINCIPAL_KIND_"):
        name = name.removeprefix(prefix)
    return "unknown" if name == "UNSPECIFIED" else name.lower()


def agent_document(agent: fleet_pb2.Agent, at: Any) -> dict[str, Any]:
    """Return an agent; `at` is the database's time of the reading."""
    return {
        "id": agent.id,
        "tenant": agent.tenant,
        "host": agent.host,
        "name": agent.name,
        "class": getattr(agent, "class"),
        "runtime": agent.runtime,
        "alias": agent.alias,
        "model": agent.model,
        "desiredRunning": agent.desired_running,
        "state": word(fleet_pb2.AgentState, agent.state),
        "stateSource": agent.state_source,
        "stateDetail": agent.state_detail,
        "stateSince": rfc3339(agent.state_since),
        "reportedAt": rfc3339(agent.reported_at),
        "ageSeconds": seconds_between(at, agent.reported_at),
        "runId": agent.run_id or None,
        "pid": agent.pid or None,
        "command": agent.command,
        "generation": agent.generation,
        "observedGeneration": agent.observed_generation,
        "problem": agent.problem,
        "exitStatus": agent.exit_status if word(fleet_pb2.AgentState, agent.state) == "exited" else None,
        "workingDirectory": agent.working_directory,
        "reportedModel": agent.reported_model,
        "runtimeVersion": agent.runtime_version,
        "runtimeSession": agent.runtime_session,
        "driver": agent.driver,
        "drivenSince": rfc3339(agent.driven_since),
    }


def host_document(host: fleet_pb2.Host, at: Any) -> dict[str, Any]:
    """Return a host; `at` is the database's time of the reading."""
    return {
        "id": host.id,
        "tenant": host.tenant,
        "name": host.name,
        "state": word(fleet_pb2.HostState, host.state),
        "lastBeatAt": rfc3339(host.last_beat_at),
        "ageSeconds": seconds_between(at, host.last_beat_at),
        "joinedAt": rfc3339(host.joined_at),
        "linkEpoch": host.link_epoch,
        "identityEpoch": host.identity_epoch,
        "generation": host.generation,
        "observedGeneration": host.observed_generation,
        "version": host.version,
        "machine": host.machine,
        "seats": host.seats,
        "linked": host.linked,
        "linkProblem": host.link_problem,
        "drainingSince": rfc3339(host.draining_since),
        "drainingBy": host.draining_by,
        "beatIntervalSeconds": host.beat_interval_ms / 1000,
        "lostAfterSeconds": host.lost_after_ms / 1000,
        "lostClaims": host.lost_claims,
    }


def principal_document(principal: common_pb2.Principal) -> dict[str, Any]:
    """Return a sender or a recipient."""
    return {
        "kind": word(common_pb2.PrincipalKind, principal.kind),
        "id": principal.id,
        "name": principal.name,
        "host": principal.host,
        "tenant": principal.tenant,
    }


def step_document(step: messages_pb2.ReceiptStep) -> dict[str, Any]:
    """Return one step of a receipt with its evidence."""
    return {
        "step": word(messages_pb2.MessageStep, step.step),
        "at": rfc3339(step.at),
        "source": step.evidence.source,
        "detail": step.evidence.detail,
        "reason": step.reason,
    }


def mode_word(mode: messages_pb2.DeliveryMode.ValueType) -> str:
    """Return how a message is delivered, as the options of `agent send` call it."""
    if mode == messages_pb2.DELIVERY_MODE_UNSPECIFIED or mode not in messages_pb2.DeliveryMode.values():
        return "send"
    return messages_pb2.DeliveryMode.Name(mode).removeprefix("DELIVERY_MODE_").lower().replace("_", "-")


def receipt_document(receipt: messages_pb2.Receipt) -> dict[str, Any]:
    """Return a receipt, oldest step first."""
    return {
        "id": receipt.message_id,
        "sender": principal_document(receipt.sender),
        "recipient": principal_document(receipt.recipient),
        "step": word(messages_pb2.MessageStep, receipt.step),
        "reason": receipt.reason,
        "steps": [step_document(step) for step in receipt.steps],
        "createdAt": rfc3339(receipt.created_at),
        "deadlineAt": rfc3339(receipt.deadline_at),
        "seatSeq": receipt.seat_seq or None,
        "strongestStepIsSubmitted": receipt.strongest_step_is_submitted,
        "waitsFor": receipt.waits_for or None,
        "mode": mode_word(receipt.mode),
        "leftOut": receipt.stripped or None,
        "sentBy": receipt.sent_by or None,
        "cancelAsked": receipt.cancel_asked,
        "cluster": receipt.cluster or None,
        "waitsHere": receipt.waits_here,
    }
