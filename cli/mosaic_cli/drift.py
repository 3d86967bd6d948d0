"""How what runs differs from what the roster says (pure).

A difference is told only on positive evidence. Runtime: the process in the pane was seen to be another one than the
roster says. Model: the roster names one, and the run was launched with another. A model that a person, or the program
itself, chose after the launch is no drift: the runtime tells of it by signal, and that is not held against the roster.
"""

from __future__ import annotations

from mosaic_proto.v1 import fleet_pb2 as pb

RUNTIME = "runtime"
MODEL = "model"
PROBLEM = "problem"
BEHIND = "behind"
EXITED = "exited"
RUNS = "runs"

_RUNNING = (
    pb.AGENT_STATE_STARTING,
    pb.AGENT_STATE_WORKING,
    pb.AGENT_STATE_AVAILABLE,
    pb.AGENT_STATE_WAITING,
    pb.AGENT_STATE_STUCK,
)


def differences(agent: pb.Agent) -> dict[str, str]:
    """Return each kind of difference with a few words about it; empty when the seat is what is wanted of it."""
    found: dict[str, str] = {}
    if agent.pid and agent.running_runtime and agent.running_runtime != agent.runtime:
        found[RUNTIME] = f"the roster says {agent.runtime}, it runs {agent.running_runtime}"
    elif agent.pid and agent.model and agent.running_model and agent.running_model != agent.model:
        found[MODEL] = f"the roster says model {agent.model}, it runs {agent.running_model}"
    if agent.problem:
        found[PROBLEM] = agent.problem
    elif agent.observed_generation < agent.generation:
        found[BEHIND] = f"behind: has {agent.observed_generation}, wanted {agent.generation}"
    elif agent.desired_running and agent.state == pb.AGENT_STATE_EXITED:
        found[EXITED] = f"exited with {agent.exit_status}, should run"
    elif not agent.desired_running and agent.state in _RUNNING:
        found[RUNS] = "runs, should be stopped"
    return found
