"""A program that was forked is what one that was started by itself would be."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
import pytest
from mosaic_framework.paths import Home

from tests.support import forked
from tests.support.program import Program, eventually

WAYS = pytest.mark.parametrize("way", ["forked", "by itself"])


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, way: str) -> Path:
    if way == "by itself":
        monkeypatch.setattr(forked, "server", lambda: None)
    return tmp_path


def test_both_ways_say_the_same_and_end_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for way in ("forked", "by itself"):
        if way == "by itself":
            monkeypatch.setattr(forked, "server", lambda: None)
        for arguments in (["health"], ["serve", "--no-such-option"], ["serve"]):
            home = tmp_path / f"{way}-{len(told)}"
            home.mkdir()
            program = Program(["mosaic-controlplane", *arguments], home, {"MOSAIC_DATABASE_URL": "not a database"})
            program.start()
            assert program.process is not None
            status = program.process.wait(30)
            said = program.log.read_text().replace(str(home), "HOME")
            told.append((arguments, status, re.sub(r"\d{4}-\d\d-\d\dT[^\"]*|\"pid\": \d+", "", said)))
    assert told[:3] == told[3:]
    assert all(status != 0 and said for _arguments, status, said in told)


@WAYS
async def test_it_has_its_own_environment_folder_and_output_and_nothing_of_its_server(
    made: Path, database_url: str
) -> None:
    environment = {
        "MOSAIC_DATABASE_URL": database_url,
        **{f"MOSAIC_{port}_PORT": "0" for port in ("FLEET", "ENROL", "PEER")},
    }
    program = Program(["mosaic-controlplane", "serve"], made, environment)
    program.start()
    try:
        await eventually((Home(made).run / "controlplane.json").exists, "it serves", program)
        assert program.process is not None
        process = psutil.Process(program.process.pid)
        own = {Path(f"/proc/{process.pid}/fd/{number}").resolve() for number in (1, 2)}
        assert own == {program.log.resolve()}
        assert Path(process.cwd()) == Path.cwd()
        unix = [one for one in process.net_connections("unix") if one.raddr]
        assert unix == []
        program.signal(signal.SIGINT)
        assert program.process.wait(30) >= 0
    finally:
        program.kill()


@WAYS
def test_how_it_ended_is_known_also_when_it_was_killed(made: Path, database_url: str) -> None:
    program = Program(["mosaic-controlplane", "serve"], made, {"MOSAIC_DATABASE_URL": database_url})
    program.start()
    assert program.runs
    assert program.process is not None
    program.kill()
    assert (program.runs, program.process.returncode) == (False, -signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        os.kill(program.process.pid, 0)
