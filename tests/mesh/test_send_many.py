"""One text to many agents, and what may not be in a text."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2

from tests.support.mesh import Mesh

TOKEN = "ghp_" + "a8Kd93LqPz72XvBn5TrY61WmQe04HsGuJc2f"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


class Cli:
    """`mosaic` as processes."""

    def __init__(self, home: Path) -> None:
        self._environment = {**os.environ, "MOSAIC_HOME": str(home)}

    async def __call__(self, *arguments: str, stdin: str = "") -> Said:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mosaic_cli.main", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        out, err = await program.communicate(stdin.encode())
        assert program.returncode is not None
        return Said(program.returncode, out.decode(), err.decode())


@pytest.fixture
async def cli(mesh: Mesh, tmp_path: Path) -> Cli:
    """A mesh of two hosts with four shell seats; `asleep` is stopped, and takes no message."""
    mesh.write_context(Home(tmp_path / "home"))
    await mesh.join("web1")
    await mesh.join("db1")
    seats = {f"w{number}": "web1" for number in range(2)} | {"d0": "db1", "asleep": "db1"}
    await mesh.apply(seats)
    await mesh.fleet.ChangeSeats(
        fleet_pb2.ChangeSeatsRequest(request_id=str(new_id()), action=fleet_pb2.SEAT_ACTION_STOP, agents=["asleep"])
    )
    await mesh.until_available(*(name for name in seats if name != "asleep"))
    await mesh.until_agent("asleep", lambda agent: not agent.pid and agent.observed_generation == agent.generation)
    return Cli(tmp_path / "home")


async def test_selectors_send_to_all_that_fit_once_and_the_worst_decides_the_exit_code(
    mesh: Mesh, cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "ran"
    body = f"echo $MOSAIC_NAME >> {file}"
    sent = await cli("agent", "send", "--host", "web*", "-m", body, "-o", "json")
    assert sent.code == 0, sent
    items = json.loads(sent.out)["items"]
    assert [item["step"] for item in items] == ["submitted"] * 2
    assert "2 agents: 2 submitted" in sent.err

    batch = sent.err.split("batch ")[1].split(":")[0]
    again = await cli("agent", "send", "--host", "web*", "-m", body, "--id", batch, "-o", "json")
    assert again.code == 0, again
    assert [item["id"] for item in json.loads(again.out)["items"]] == [item["id"] for item in items]
    assert len(await mesh.sent()) == 2

    expired = await cli("agent", "send", "--host", "db1", "-m", "true", "--deadline", "1s")
    assert expired.code == 1, expired
    assert "expired" in expired.out

    short = await cli("agent", "send", "--host", "db1", "-m", "true", "--timeout", "3")
    assert short.code == 8, short
    assert "asleep" in short.out.splitlines()[1], "what fell short comes first"
    assert "1 submitted" in short.err


async def test_a_secret_is_refused_by_the_command_and_by_the_control_plane_and_written_down_when_it_is_allowed(
    mesh: Mesh, cli: Cli
) -> None:
    refused = await cli("agent", "send", "w0", "-f", "-", stdin=f"first\nuse {TOKEN}\n")
    assert refused.code == 1
    assert "GitHub token (line 2)" in refused.err
    assert TOKEN[-8:] not in refused.err + refused.out
    with pytest.raises(Exception, match="looks like a secret") as there:
        await mesh.send("w0", f"use {TOKEN}", message_id=str(new_id()))
    assert TOKEN[-8:] not in str(there.value)
    assert await mesh.sent() == []

    allowed = await cli("agent", "send", "w0", "-m", f": {TOKEN}", "--allow-secrets")
    assert allowed.code == 0, allowed
    detail = str(
        await mesh.register_value(
            "select detail::text from fleet.audit where method = 'MessageService/Send' and outcome = 'done'"
        )
    )
    assert "GitHub token (line 1)" in detail
    assert TOKEN[-8:] not in detail
