"""Waiting for seats to become what was asked for, telling each step on stderr as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from mosaic_framework.errors import FleetError, Unfinished
from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import Connection
from mosaic_cli.feed import Fleet, follow
from mosaic_cli.seats import Outcome, behind, outcome


class SeatsHaveProblems(FleetError):
    """Some seats are not what was asked for."""

    code = "seats-have-problems"


def wait_for_seats(
    connection: Connection,
    wanted: Callable[[pb.Agent], bool],
    generations: Mapping[str, int],
    *,
    timeout: float,
) -> Fleet:
    """Wait until every host has reported its generation and every seat that `wanted` picks is settled.

    Returns the fleet as it then is. Raises SeatsHaveProblems, or Unfinished after `timeout` seconds (it goes on).
    """
    started = time.monotonic()
    told: dict[str, str] = {}
    fleet = Fleet()
    for fleet, _event in follow(connection, deadline=started + timeout, on_loss=_tell_loss):
        outcomes = _outcomes(fleet, wanted)
        for address, found in outcomes.items():
            if told.get(address) != found.text:
                told[address] = found.text
                output.say(f"  {time.monotonic() - started:5.1f}s  {address}: {found.text}")
        late = behind(fleet.hosts.values(), generations)
        if not late and all(found.settled for found in outcomes.values()):
            _raise_problems(outcomes)
            return fleet
    waiting = behind(fleet.hosts.values(), generations)
    waiting += [f"{name} ({found.text})" for name, found in _outcomes(fleet, wanted).items() if not found.settled]
    raise Unfinished(
        f"not finished after {timeout:.0f} s; it goes on",
        why=f"still waiting for {', '.join(waiting[:4]) or 'the first answer'}"
        + (f" (and {len(waiting) - 4} more)" if len(waiting) > 4 else ""),
        next_step="mosaic fleet ps",
        details={"waiting": "; ".join(waiting)},
    )


def _outcomes(fleet: Fleet, wanted: Callable[[pb.Agent], bool]) -> dict[str, Outcome]:
    hosts = {host.name: host for host in fleet.hosts.values()}
    picked = sorted((agent for agent in fleet.agents.values() if wanted(agent)), key=lambda a: (a.host, a.name))
    return {f"{agent.host}/{agent.name}": outcome(agent, hosts.get(agent.host)) for agent in picked}


def _raise_problems(outcomes: Mapping[str, Outcome]) -> None:
    wrong = {address: found.problem for address, found in outcomes.items() if found.problem}
    if not wrong:
        return
    first, reason = next(iter(wrong.items()))
    raise SeatsHaveProblems(
        f"{len(wrong)} of {len(outcomes)} seats {'has' if len(wrong) == 1 else 'have'} a problem",
        why=f"{first}: {reason}" + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""),
        next_step=f"mosaic agent show {first}",
        details=wrong,
    )


def _tell_loss(error: FleetError) -> None:
    output.say(f"  the connection is lost ({error.why}); trying again")
