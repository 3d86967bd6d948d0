"""What waits to go up the link: the newest report of each seat, answers, and facts from the journal, in order."""

from __future__ import annotations

import asyncio
from collections import deque

from mosaic_framework.steps import reached
from mosaic_proto.v1 import host_link_pb2 as pb

from mosaic_hostagent.journal import Journal
from mosaic_hostagent.terminal.panes import Unmanaged

_BATCH = 128
UNMANAGED_LIMIT = 100


class Outgoing:
    """Filled by the whole host-agent, emptied by one link at a time. A new link begins with `rewind`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._seats: dict[str, pb.SeatReport] = {}
        self._answers: deque[pb.HostFrame] = deque()
        self._applied = 0
        self._unmanaged: list[Unmanaged] = []
        self._unmanaged_told: list[Unmanaged] | None = None
        self._waits: dict[str, str] = {}
        self._waits_told: dict[str, str] = {}
        """what has not been sent yet"""
        self._sent = 0
        self._more = asyncio.Event()
        journal.on_append = self._more.set

    def report(self, report: pb.SeatReport) -> None:
        """Tell how a seat is; an older report of it that has not gone yet is dropped."""
        self._seats[report.agent_id] = report
        self._more.set()

    def waits(self, message_id: str, reason: str) -> None:
        """Tell why a message is not further; "" when it is. Only what changes is sent, and all of it at a new link."""
        if self._waits.get(message_id, "") == reason:
            return
        if reason:
            self._waits[message_id] = reason
        else:
            del self._waits[message_id]
        self._waits_told[message_id] = reason
        self._more.set()

    def applied(self, generation: int) -> None:
        """Tell that a generation was reconciled."""
        self._applied = generation
        self._more.set()

    def unmanaged(self, sessions: list[Unmanaged]) -> None:
        """Tell which sessions are not ours; what they run just now is told with them, and is no news of its own."""
        known = {(one.server, one.name, one.pid) for one in self._unmanaged}
        if known != {(one.server, one.name, one.pid) for one in sessions}:
            self._unmanaged = sessions[:UNMANAGED_LIMIT]
            self._more.set()

    def answer(self, frame: pb.HostFrame) -> None:
        """Send a frame of this link only: a beat, or the answer to a capture."""
        self._answers.append(frame)
        self._more.set()

    def rewind(self) -> None:
        """A new link: what was sent and not acknowledged goes again. The hello has told of all seats."""
        self._seats.clear()
        self._answers.clear()
        self._waits_told = dict(self._waits)
        self._applied = 0
        self._unmanaged_told = None
        self._sent = 0
        self._more.set()

    async def next_frames(self) -> list[pb.HostFrame]:
        """Wait until there is something to send, and return it, in the order in which it goes."""
        while True:
            await self._more.wait()
            self._more.clear()
            frames = list(self._answers)
            self._answers.clear()
            # Taken at one moment: whoever waits for a generation finds its seats told before it.
            seats, self._seats = self._seats, {}
            applied, self._applied = self._applied, 0
            frames += [pb.HostFrame(seat=report) for report in seats.values()]
            if self._unmanaged != self._unmanaged_told:
                self._unmanaged_told = self._unmanaged
                frames.append(pb.HostFrame(unmanaged=_unmanaged(self._unmanaged)))
            events = await self._journal.events_after(self._sent, _BATCH)
            if events:
                self._sent = events[-1].sequence
                if len(events) == _BATCH:
                    self._more.set()
                frames += [pb.HostFrame(event=event) for event in events]
                reached("hostagent.before-event-sent")
            # After the steps: a reason never comes later than the step that ends it.
            waits, self._waits_told = self._waits_told, {}
            frames += [
                pb.HostFrame(waits=pb.Waits(message_id=message_id, reason=reason))
                for message_id, reason in waits.items()
            ]
            if applied:
                frames.append(pb.HostFrame(applied=pb.Applied(generation=applied)))
            if frames:
                return frames


def _unmanaged(sessions: list[Unmanaged]) -> pb.Unmanaged:
    told = pb.Unmanaged()
    for one in sessions:
        added = told.sessions.add(
            socket_name=one.server.socket_name, name=one.name[:128], pid=one.pid, command=one.command[:128]
        )
        added.created_at.FromSeconds(one.created)
    return told
