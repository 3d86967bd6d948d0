"""Drift is told on positive evidence only, and a model chosen on purpose is none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from mosaic_cli.drift import differences
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.recognise import recognise
from mosaic_framework.runtimes import known_runtimes, read_manifest
from mosaic_proto.v1 import fleet_pb2

CATALOG = Catalog(shipped_data())
MANIFESTS = [read_manifest(CATALOG, name) for name in known_runtimes(CATALOG)]


def seat(runtime: str = "pi", model: str = "", running: tuple[str, str] = ("", ""), **more: object) -> fleet_pb2.Agent:
    found = fleet_pb2.Agent(
        runtime=runtime,
        model=model,
        running_runtime=running[0],
        running_model=running[1],
        pid=4000,
        desired_running=True,
        state=fleet_pb2.AGENT_STATE_AVAILABLE,
    )
    found.MergeFrom(fleet_pb2.Agent(**more))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("agent", "kinds"),
    [
        (seat("pi", running=("pi", "")), []),
        (seat("pi", running=("claude", "")), ["runtime"]),
        (seat("pi", "gemini", running=("claude", "opus")), ["runtime"]),
        (seat("pi", running=("", "")), []),  # nobody can say
        (seat("pi", "gemini", running=("pi", "gemini")), []),
        (seat("pi", "gemini", running=("pi", "opus")), ["model"]),
        (seat("pi", "gemini", running=("pi", "")), []),  # nobody can say
        (seat("pi", "", running=("pi", "opus")), []),  # the roster names none
        (seat("pi", running=("claude", ""), pid=0), ["runtime"]),
        (seat("pi", running=("claude", ""), problem="crash loop"), ["runtime", "problem"]),
    ],
)
def test_what_is_drift(agent: fleet_pb2.Agent, kinds: list[str]) -> None:
    assert list(differences(agent)) == kinds


def test_what_ran_last_in_a_seat_that_has_ended_is_no_drift() -> None:
    ended = seat("pi", running=("claude", ""), desired_running=False)
    ended.pid, ended.state, ended.desired_running = 0, fleet_pb2.AGENT_STATE_EXITED, False
    assert differences(ended) == {}


@pytest.mark.parametrize(
    ("argv", "runtime", "model"),
    [
        (["claude", "--model", "opus"], "claude", "opus"),
        (["/opt/claude", "--model=opus", "-c"], "claude", "opus"),
        (["claude", "--model", "opus", "--model", "haiku"], "claude", "haiku"),
        (["node", "--no-warnings", "/usr/bin/codex", "-m", "gpt-5"], "codex", "gpt-5"),
        (["/bin/sh", "/home/a/bin/opencode", "-m", "x/y"], "opencode", "x/y"),
        (["pi"], "pi", ""),
        (["claude", "--append-system-prompt", "use --model opus"], "claude", ""),
        (["claude", "--model"], "claude", ""),
        (["-bash"], "shell", ""),
        (["/usr/bin/fish", "-l"], "shell", ""),
        (["vim", "claude"], "", ""),
        (["node", "/srv/claude/server.js"], "", ""),
        (["node"], "", ""),
        ([], "", ""),
        ([""], "", ""),
    ],
)
def test_a_program_is_recognised_by_the_name_it_was_called_by(argv: Sequence[str], runtime: str, model: str) -> None:
    found = recognise(argv, MANIFESTS)
    assert ((found.runtime, found.model) if found else ("", "")) == (runtime, model)


def test_a_name_that_two_manifests_claim_is_nobodys() -> None:
    twin = MANIFESTS[0].model_copy(update={"name": "twin"})
    assert recognise([MANIFESTS[0].program], [*MANIFESTS, twin]) is None
