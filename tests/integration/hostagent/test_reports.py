"""The reporter that hooks call, as a process of its own, against a host-agent that lives, is stopped, or is dead."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mosaic_framework import pane
from mosaic_framework.paths import private_folder
from mosaic_hostagent import reporter
from mosaic_hostagent.reports import Reports
from mosaic_hostagent.sessions import PaneSession, Sessions
from mosaic_hostagent.signals import Report, SeatNotReady

REPORTER = [sys.executable, "-I", "-S", reporter.__file__]
RUN = "01a221c6-9dff-746e-9b1a-694c821e51cb"


class Host:
    """The part of a host-agent that takes reports."""

    def __init__(self, folder: Path) -> None:
        self.sessions = Sessions(folder / "state", host="here", socket=folder / "agent.sock")
        session, token = self.sessions.begin(RUN, agent_id="a")
        self.environment = self.sessions.session_environment(session, token, agent="coder")
        self.taken: list[Report] = []
        self.answer = ""
        self.ready = True
        private_folder(self.sessions.spools)
        self.reports = Reports(self.sessions, self._take)
        self._server: asyncio.Server | None = None

    async def _take(self, _session: PaneSession, report: Report) -> str:
        if not self.ready:
            raise SeatNotReady
        self.taken.append(report)
        return self.answer

    @property
    def events(self) -> list[str]:
        return [report.event for report in self.taken]

    async def start(self) -> None:
        path = self.environment[pane.SOCKET] + pane.REPORT_SUFFIX
        self._server = await asyncio.start_unix_server(self.reports.answer, path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            Path(self.environment[pane.SOCKET] + pane.REPORT_SUFFIX).unlink(missing_ok=True)
            self._server = None

    async def report(self, event: str, payload: str | bytes = "{}", **environment: str) -> tuple[int, str]:
        """Run the reporter; returns its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *REPORTER,
            event,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment | environment,
        )
        out, err = await process.communicate(payload if isinstance(payload, bytes) else payload.encode())
        assert err == b"", err
        return process.returncode or 0, out.decode()


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    with tempfile.TemporaryDirectory(prefix="mosaic-reports-") as folder:
        host = Host(Path(folder))
        await host.start()
        yield host
        await host.stop()


async def test_an_event_arrives_with_its_payload_and_its_moment(host: Host) -> None:
    before = time.time()
    prompt = 'a "b" \\ ünï 😀\n\tnext'
    assert await host.report("UserPromptSubmit", json.dumps({"prompt": prompt})) == (0, "")
    (report,) = host.taken
    assert (report.event, report.payload) == ("UserPromptSubmit", {"prompt": prompt})
    assert before <= report.at <= time.time()


async def test_what_the_host_agent_answers_is_what_the_hook_prints(host: Host) -> None:
    host.answer = '{"decision": "block", "reason": "go on\\n😀"}'
    assert await host.report("Stop") == (0, host.answer)
    # Printed, and so read by the runtime: only now may the text count as given to it.
    assert host.events == ["Stop", "handover-taken"]


async def test_with_the_host_agent_dead_it_ends_well_and_what_it_had_is_delivered_later_in_order(host: Host) -> None:
    await host.stop()
    for event in ("UserPromptSubmit", "PostToolUse", "Stop"):
        assert await host.report(event, json.dumps({"prompt": "x" * 1000, "of": event})) == (0, "")
    spool = Path(host.environment[pane.SPOOL])
    assert spool.stat().st_mode & 0o777 == 0o600
    assert len(spool.read_bytes().splitlines()) == 3
    await host.start()
    await host.reports.drain()
    assert host.events == ["UserPromptSubmit", "PostToolUse", "Stop"]
    assert [report.payload["of"] for report in host.taken] == host.events
    await host.reports.drain()
    assert len(host.taken) == 3


async def test_a_spool_that_is_written_to_while_it_is_read_loses_nothing(host: Host) -> None:
    await host.stop()
    await host.report("one")
    await host.reports.drain()
    # A reporter had opened the spool before it was set aside, and writes only now.
    aside = Path(f"{host.environment[pane.SPOOL]}.read")
    head = json.dumps({"token": "", "event": "two", "id": "2", "at_ns": 1}).encode()
    append(aside, head + b"\t" + base64.b64encode(b"{}") + b"\n")
    await host.report("three")
    await host.reports.drain()
    os.utime(aside, (1, 1))
    await host.reports.drain()
    await host.reports.drain()
    assert host.events == ["one", "two", "three"]


async def test_what_a_run_said_before_it_ended_is_delivered_all_the_same(host: Host) -> None:
    await host.stop()
    await host.report("Stop")
    host.sessions.end(RUN)
    await host.reports.drain()
    assert host.events == ["Stop"]
    (aside,) = host.sessions.spools.iterdir()
    os.utime(aside, (1, 1))
    await host.reports.drain()
    assert (host.events, list(host.sessions.spools.iterdir())) == (["Stop"], [])


async def test_a_spool_of_a_run_that_nobody_knows_is_taken_away(host: Host) -> None:
    (host.sessions.spools / str(uuid4())).write_bytes(b"x\ty\n")
    await host.reports.drain()
    assert (host.taken, list(host.sessions.spools.iterdir())) == ([], [])


async def test_with_the_host_agent_stopped_it_waits_a_moment_and_spools(host: Host) -> None:
    await host.stop()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(host.environment[pane.SOCKET] + pane.REPORT_SUFFIX)
    listener.listen(8)  # as a host-agent under SIGSTOP: the kernel takes connections, and nobody answers
    try:
        assert await host.report("Stop") == (0, "")
    finally:
        listener.close()
    Path(host.environment[pane.SOCKET] + pane.REPORT_SUFFIX).unlink()
    assert Path(host.environment[pane.SPOOL]).exists()


async def test_a_seat_that_is_not_held_yet_gets_its_first_events_later(host: Host) -> None:
    host.ready = False
    assert await host.report("SessionStart") == (0, "")
    await host.reports.drain()
    assert host.taken == []
    host.ready = True
    await host.reports.drain()
    assert host.events == ["SessionStart"]


@pytest.mark.parametrize(
    "environment",
    [
        {pane.TOKEN: "0" * 64},
        {pane.TOKEN: ""},
        {pane.TOKEN: '"}, {"'},
        {pane.SOCKET: "/nowhere/agent.sock", pane.SPOOL: "/nowhere/spool"},
        {pane.SOCKET: "x" * 300, pane.SPOOL: "/dev/full"},
        {pane.SPOOL: "", pane.SOCKET: ""},
    ],
)
async def test_it_ends_well_whatever_is_wrong_around_it(host: Host, environment: dict[str, str]) -> None:
    assert await host.report("Stop", "{}", **environment) == (0, "")
    assert host.taken == []


async def test_a_payload_that_is_too_large_or_no_text_is_an_event_all_the_same(host: Host) -> None:
    assert await host.report("PostToolUse", b"\xff\x00" * 900_000) == (0, "")
    assert await host.report("Stop", b"\xff\xfe not json") == (0, "")
    assert [(report.event, report.payload) for report in host.taken] == [("PostToolUse", {}), ("Stop", {})]


async def test_it_does_not_wait_for_a_standard_input_that_nobody_closes(host: Host) -> None:
    process = await asyncio.create_subprocess_exec(
        *REPORTER, "Stop", stdin=asyncio.subprocess.PIPE, env=host.environment
    )
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_stranger_who_says_nothing_or_too_much_blocks_nobody(host: Host) -> None:
    path = host.environment[pane.SOCKET] + pane.REPORT_SUFFIX
    silent = await asyncio.open_unix_connection(path)
    reader, writer = await asyncio.open_unix_connection(path)
    for _ in range(40):
        writer.write(b"x" * 100_000)
        await writer.drain()
    writer.write_eof()
    assert (await reader.read()).startswith(b"refused bad-report")
    assert await host.report("Stop") == (0, "")
    silent[1].close()


def test_it_imports_nothing_that_has_to_be_found(tmp_path: Path) -> None:
    """Its price is the start of an interpreter: a module that creeps in is seen here, its cost in bench/reporter.py."""
    code = f"import sys; sys.argv = ['r']; exec(open({reporter.__file__!r}).read().replace('main()\\n', 'pass\\n'))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{code}; print(sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    loaded: list[Any] = json.loads(done.stdout.replace("'", '"'))
    assert not {"json", "socket", "re", "enum", "asyncio", "struct", "pathlib", "site"} & set(loaded)
