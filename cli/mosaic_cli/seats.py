"""When a seat is what was wanted of it (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli.documents import word

GONE_STATES = (pb.HOST_STATE_STALE, pb.HOST_STATE_LOST, pb.HOST_STATE_LEFT, pb.HOST_STATE_REVOKED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a seat stands: `settled` when its host has done or tried what is wanted, `problem` when that failed."""

    settled: bool
    problem: str = ""
    text: str = ""


def outcome(agent: pb.Agent, host: pb.Host | None) -> Outcome:
    """Return how `agent` stands against what is wanted of it."""
    if agent.observed_generation < agent.generation:
        return Outcome(settled=False, text=_waits_for(host, word(pb.AgentState, agent.state)))
    if agent.problem:
        return Outcome(settled=True, problem=agent.problem, text=agent.problem)
    state = word(pb.AgentState, agent.state)
    if not agent.desired_running:
        stopped = agent.state == pb.AGENT_STATE_EXITED or not agent.pid
        return Outcome(settled=stopped, text="stopped" if stopped else f"stopping ({state})")
    if agent.state == pb.AGENT_STATE_EXITED:
        problem = f"its program ended at once with status {agent.exit_status}"
        return Outcome(settled=True, problem=problem, text=problem)
    if agent.state in (pb.AGENT_STATE_STARTING, pb.AGENT_STATE_UNSPECIFIED) or not agent.pid:
        return Outcome(settled=False, text="starting")
    return Outcome(settled=True, text=f"{state}, pid {agent.pid}")


def behind(hosts: Iterable[pb.Host], wanted: Mapping[str, int]) -> list[str]:
    """Return the hosts of `wanted` (host name → generation) that have not reported it yet, with why."""
    by_name = {host.name: host for host in hosts}
    late = []
    for name, generation in sorted(wanted.items()):
        host = by_name.get(name)
        if host is None or host.observed_generation < generation:
            late.append(f"{name} ({_waits_for(host)})")
    return late


def _waits_for(host: pb.Host | None, state: str = "") -> str:
    if host is None:
        return "its host has not joined"
    if host.state in GONE_STATES or host.state == pb.HOST_STATE_JOINED:
        return f"waits for its host, which is {word(pb.HostState, host.state)}"
    # A host that has answered for all else waits for the seat itself: a reset is done when that is available.
    if state and host.observed_generation >= host.generation:
        return "the agent is being reset" if state == "available" else f"waits for the agent, which is {state}"
    return "its host has not answered yet"
