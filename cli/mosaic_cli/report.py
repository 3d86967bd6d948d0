"""An agent says from its pane in which state it is: straight to the host-agent, which needs no control plane for it."""

from __future__ import annotations

import json
import os
import socket
import time

from mosaic_framework.errors import EXIT_USAGE, FleetError, InvalidInput, Unreachable
from mosaic_framework.ids import new_id
from mosaic_framework.pane import Pane

STATES = ("working", "available", "waiting", "stuck")
EVENT = "agent-report"
_PATIENCE_SECONDS = 4.0


class NotInAPane(InvalidInput):
    """This is not the pane of an agent."""

    code = "not-in-a-pane"
    hint = "run it inside an agent's pane; from outside, see: mosaic agent explain"


class NoSuchState(InvalidInput):
    """An agent cannot report this state."""

    code = "no-such-state"
    exit_code = EXIT_USAGE
    hint = f"one of: {', '.join(STATES)}"


def report(state: str, detail: str) -> str:
    """Report a state of the agent of this pane; returns its address.

    Raises NoSuchState, NotInAPane, Unreachable or the host-agent's refusal.
    """
    if state not in STATES:
        raise NoSuchState(f"an agent cannot report {state[:40]!r}")
    seat = Pane.from_environment(os.environ)
    if seat is None:
        raise NotInAPane
    head = {"token": seat.token, "event": EVENT, "id": str(new_id()), "at_ns": time.time_ns()}
    status, _, body = _ask(seat, json.dumps(head), json.dumps({"state": state, "detail": detail})).partition("\n")
    if status == "ok":
        return seat.agent
    if status == "later":
        raise Unreachable("the host-agent does not hold this seat yet", next_step="try again in a moment")
    told = json.loads(body) if body else {}
    raise _refusal(status.partition(" ")[2])(
        told.get("what", ""), why=told.get("why", ""), next_step=told.get("next", "")
    )


def _ask(seat: Pane, head: str, payload: str) -> str:
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE_SECONDS)
            connection.connect(seat.report_socket)
            connection.sendall(f"{head}\n{payload}".encode())
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answer += part
    except OSError as error:
        raise Unreachable(
            "the host-agent of this machine does not answer",
            why=str(error.strerror or error),
            next_step="the agent can go on; a person can run: mosaic status",
        ) from error
    return answer.decode(errors="replace")


def _refusal(code: str) -> type[FleetError]:
    from mosaic_framework.errors import Denied

    base = Denied if code == "session-refused" else InvalidInput
    return type("Refused", (base,), {"code": code or "refused", "__doc__": "The host-agent refused the report."})
