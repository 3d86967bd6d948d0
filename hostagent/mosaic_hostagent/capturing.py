"""The answer to a capture: what the terminal of a seat shows now, or why nobody can say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mosaic_framework.errors import FleetError
from mosaic_proto.v1 import host_link_pb2 as pb

from mosaic_hostagent.readiness import UNSEEN
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.terminal.screen import read_text

MOST_LINES = 50_000
CAPTURE_SECONDS = 2.5
"""Less than the control plane waits, which after 3 s can only say that the host did not answer."""


async def capture(residents: Mapping[str, Resident], pool: ServerPool, asked: pb.CaptureTerminal) -> pb.TerminalText:
    """Return the text of a seat's terminal, or the problem. Raises nothing."""
    resident = residents.get(asked.agent_id)
    if resident is not None and resident.session is None and resident.state == UNSEEN:
        return pb.TerminalText(call_id=asked.call_id, problem=UNSEEN.detail)
    if resident is None or resident.session is None:
        return pb.TerminalText(call_id=asked.call_id, problem="the seat does not run on this host")
    session = resident.session
    try:
        async with asyncio.timeout(CAPTURE_SECONDS):
            lines = min(max(0, asked.lines), MOST_LINES)
            text = await read_text(pool.get(session.server), session.pane_id, scrollback=lines)
    except TimeoutError:
        problem = f"its tmux server did not answer within {CAPTURE_SECONDS:g} s"
        return pb.TerminalText(call_id=asked.call_id, problem=problem)
    except FleetError as error:
        return pb.TerminalText(call_id=asked.call_id, problem=error.why or error.what)
    return pb.TerminalText(call_id=asked.call_id, text=text)
