"""What a host or an operator may send that no honest one does: refused or made harmless, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import timedelta
from typing import Any, cast

import pytest
from mosaic_controlplane.api import host_link
from mosaic_controlplane.api.fleet import decode_seats
from mosaic_controlplane.api.host_link import HostLinkService
from mosaic_controlplane.api.host_reports import decode_event, decode_reports
from mosaic_controlplane.api.messages import deadline_of
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.mesh import host_events, links
from mosaic_controlplane.mesh.held_link import Downward, HeldLink, HostNotHere
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.host import LinkKey
from mosaic_framework.errors import InvalidInput, TooLarge
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2, messages_pb2
from mosaic_proto.v1 import host_link_pb2 as pb

NO_DATABASE = cast("Database", None)


def a_link(downward: Downward | None = None) -> HeldLink:
    return HeldLink(LinkKey(new_id(), new_id(), 1), "alpha", cast("Downward", downward))


def some_links() -> Links:
    return Links(NO_DATABASE, Wakes(NO_DATABASE, new_id()), new_id())


def roster(document: str = "{}", **seat: Any) -> fleet_pb2.ApplyRosterRequest:
    spec = fleet_pb2.SeatSpec(**{"name": "a", "runtime": "shell", "manifest_json": "{}", **seat})
    return fleet_pb2.ApplyRosterRequest(document=document, seats=[spec])


def test_a_nul_in_a_hosts_text_does_not_reach_the_register() -> None:
    report = pb.SeatReport(agent_id=str(new_id()), command="a\x00b", detail="\x00", problem="\x00", source="\x00")
    row = decode_reports([report])[0]
    assert "\x00" not in row.command + row.detail + row.problem + row.source
    step = pb.StepEvent(message_id=str(new_id()), step=messages_pb2.MESSAGE_STEP_FAILED, reason="a\x00b")
    event = decode_event(pb.JournalEvent(sequence=1, step=step))
    assert isinstance(event, host_events.Step)
    assert "\x00" not in event.reason


def test_the_longest_reports_of_the_largest_fleet_fit_into_one_reply() -> None:
    long = "x" * 100_000
    row = decode_reports([pb.SeatReport(agent_id=str(new_id()), command=long, detail=long, problem=long)])[0]
    assert 1000 * len(row.command + row.detail + row.problem) < 3 * 1024 * 1024


def test_a_nul_in_a_text_for_all_agents_is_refused() -> None:
    asked = roster()
    asked.briefing.texts.add(name="user", text="a\x00b")
    with pytest.raises(InvalidInput, match="NUL"):
        decode_seats(asked)


def test_what_all_agents_are_told_counts_for_the_size_of_an_apply() -> None:
    asked = roster()
    asked.briefing.texts.add(name="user", text="x" * 4_000_000)
    with pytest.raises(TooLarge):
        decode_seats(asked)


def test_more_reports_than_a_fleet_has_seats_are_refused() -> None:
    with pytest.raises(InvalidInput):
        decode_reports([pb.SeatReport(agent_id=str(new_id())) for _ in range(10_000)])


@pytest.mark.parametrize("document", ["[" * 200_000, "{", ""])
def test_a_document_that_is_no_json_or_too_deep_is_refused(document: str) -> None:
    with pytest.raises(InvalidInput):
        decode_seats(roster(document))


@pytest.mark.parametrize("field", ["runtime", "alias", "class"])
def test_a_nul_in_a_seat_is_refused(field: str) -> None:
    with pytest.raises(InvalidInput):
        decode_seats(roster(**{field: "a\x00b"}))


def test_a_roster_that_does_not_fit_into_one_frame_to_its_host_is_refused() -> None:
    with pytest.raises(TooLarge):
        decode_seats(roster(manifest_json="x" * (4 * 1024 * 1024 - 100)))


@pytest.mark.parametrize("seconds", [2**62, -(2**62)])
def test_a_deadline_beyond_every_clock_is_refused(seconds: int) -> None:
    request = messages_pb2.SendRequest()
    request.deadline.seconds = seconds
    with pytest.raises(InvalidInput):
        deadline_of(request)


async def test_a_terminal_asked_of_a_host_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "CAPTURE_SECONDS", 0.1)

    async def stuck(*_: object) -> None:
        await asyncio.Event().wait()

    held = some_links()
    link = a_link(Downward(*[stuck] * len(fields(Downward))))
    held._links[link.key.host_id] = link
    with pytest.raises(HostNotHere):
        await asyncio.wait_for(held.capture(link.key.host_id, "alpha", new_id(), 10), 5)
    assert not link.captures


async def read(frames: list[pb.HostFrame], down: asyncio.Queue[pb.ControlFrame | None]) -> None:
    async def stream() -> AsyncIterator[pb.HostFrame]:
        for frame in frames:
            yield frame
        await asyncio.Event().wait()

    held = some_links()
    wakes = Wakes(NO_DATABASE, new_id())
    service = HostLinkService(NO_DATABASE, wakes, held, new_id(), list, Backlog(NO_DATABASE, NO_DATABASE, wakes))
    up: asyncio.Queue[pb.HostFrame] = asyncio.Queue(host_link._UP_LIMIT)
    link = a_link()
    link.beat_interval = timedelta(milliseconds=25)
    await asyncio.wait_for(service._read(stream(), link, up, down), 5)


async def test_the_link_of_a_host_that_sends_beats_and_reads_nothing_ends() -> None:
    down: asyncio.Queue[pb.ControlFrame | None] = asyncio.Queue(1)
    await read([pb.HostFrame(beat=pb.Beat(sequence=n)) for n in range(3)], down)


async def test_a_large_frame_that_would_wait_to_be_written_ends_the_link() -> None:
    frame = pb.HostFrame(seat=pb.SeatReport(agent_id=str(new_id()), detail="x" * 1_000_000))
    with pytest.raises(InvalidInput):
        await read([frame], asyncio.Queue(1))
