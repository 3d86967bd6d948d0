"""Why an agent is in its state, for a person: the state, the rule that won, every signal with its age."""

from __future__ import annotations

from typing import Any

from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1 import signals_pb2 as pb

from mosaic_cli.client import connect
from mosaic_cli.documents import word
from mosaic_cli.output import Thing
from mosaic_cli.text import age


def explain_agent(address: str, *, context: str, tenant: str) -> Thing:
    """Ask the agent's host now, and return its explanation. Raises what a call raises."""
    with connect(context, tenant=tenant) as connection:
        request = pb.ExplainRequest(tenant=connection.tenant, address=address)
        reply = connection.call(connection.signals.Explain, request)
    return explanation_thing(reply)


def explanation_thing(reply: pb.ExplainReply) -> Thing:
    """Return an explanation ready to be shown."""
    told, agent = reply.explanation, f"{reply.agent.host}/{reply.agent.name}"
    state = word(fleet_pb2.AgentState, told.state)
    lines = [
        ("agent", agent),
        ("state", f"{state} for {age(told.state_age_ms / 1000)}"),
        ("source", told.source),
        ("evidence", told.detail),
        ("rule", told.rule),
        ("why", told.why),
        *((f"  {one.source}", f"{one.name}: {one.says}{_ago(one)}") for one in told.signals),
        ("silent", ", ".join(told.rules_before)),
        ("run", told.run_id),
    ]
    return Thing("Explanation", agent, _document(reply, state), lines)


def _ago(signal: pb.Signal) -> str:
    return f" ({age(signal.age_ms / 1000)} ago)" if signal.age_ms >= 0 else ""


def _document(reply: pb.ExplainReply, state: str) -> dict[str, Any]:
    told = reply.explanation
    return {
        "agent": reply.agent.name,
        "host": reply.agent.host,
        "state": state,
        "stateAgeSeconds": told.state_age_ms / 1000,
        "source": told.source,
        "detail": told.detail,
        "rule": told.rule,
        "why": told.why,
        "rulesBefore": list(told.rules_before),
        "signals": [
            {
                "source": one.source,
                "name": one.name,
                "says": one.says,
                "ageSeconds": one.age_ms / 1000 if one.age_ms >= 0 else None,
            }
            for one in told.signals
        ],
        "runId": told.run_id or None,
    }
