"""What operators see of the programs: metrics that move and are documented, health, and logs without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mosaic_controlplane import metrics as of_controlplane
from mosaic_framework import pane, wire
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.health import Health, HealthServer, Pulse, ask, health_of
from mosaic_framework.paths import Home
from mosaic_hostagent import metrics as of_hostagent
from mosaic_proto.v1 import backlog_pb2, backlog_pb2_grpc, messages_pb2, messages_pb2_grpc
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.support.checkout import ROOT
from tests.support.fuzzing import metrics_of
from tests.support.mesh import Host, Mesh, running_mesh
from tests.support.pane import inside, mosaic
from tests.support.peers import write_peer
from tests.support.postgres import Databases
from tests.support.program import Program, eventually

ROW = re.compile(r"^\| `(mosaic_\w+)` \| (\w+) \|\s*(.*?)\s*\| (.+) \|$", re.MULTILINE)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(databases: Databases) -> AsyncIterator[Mesh]:
    url = databases.create()
    async with running_mesh(url) as made:
        await made.join("alpha")
        await made.apply({"worker": "alpha"})
        await made.until_available("worker")
        yield made
    databases.drop(url)


def alpha(mesh: Mesh) -> Host:
    return mesh.hosts["alpha"]


async def value(program: Program, name: str, **labels: str) -> float:
    """What a program exports under this name and these labels now; 0 when it says nothing."""
    text = await asyncio.to_thread(metrics_of, program)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return 0.0


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    text = (ROOT / "docs/metrics.md").read_text()
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in ROW.findall(text)}


def exported(registry: CollectorRegistry) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        name: (metric._type, tuple(metric._labelnames))
        for metric, names in registry._collector_to_names.items()
        if hasattr(metric, "_labelnames")
        for name in [metric._name]
        if names
    }


async def test_the_metrics_that_are_documented_are_those_that_are_exported() -> None:
    both = exported(of_controlplane.Metrics().registry) | exported(of_hostagent.Metrics().registry)
    assert documented() == both


async def test_no_label_can_take_on_a_value_that_somebody_chose(mesh: Mesh) -> None:
    known = {"method", "outcome", "code", "limit", "state", "step", "status", "version", "le"}
    for program in (mesh.controlplane, alpha(mesh).program):
        for family in text_string_to_metric_families(await asyncio.to_thread(metrics_of, program)):
            for sample in family.samples:
                assert set(sample.labels) <= known, sample


async def test_a_real_message_moves_the_figures_of_both_programs(mesh: Mesh) -> None:
    send = {"method": "mosaic.v1.MessageService/Send", "outcome": "ok"}
    before = await value(mesh.controlplane, "mosaic_calls_total", **send)
    assert await value(mesh.controlplane, "mosaic_links") == 1
    assert await value(mesh.controlplane, "mosaic_streams", method="mosaic.v1.HostLinkService/Link") == 1
    assert await value(mesh.controlplane, "mosaic_hosts", state="live") == 1
    assert await value(alpha(mesh).program, "mosaic_host_link_up") == 1
    assert await value(alpha(mesh).program, "mosaic_host_seats", state="available") == 1
    alpha(mesh).program.signal(signal.SIGSTOP)
    try:
        sent = await mesh.send("worker", "true")
        assert await value(mesh.controlplane, "mosaic_messages_open", step="queued") == 1
        assert await value(mesh.controlplane, "mosaic_message_oldest_seconds", step="queued") > 0
    finally:
        alpha(mesh).program.signal(signal.SIGCONT)
    await mesh.until_step(sent)
    assert await value(mesh.controlplane, "mosaic_messages_open", step="queued") == 0
    assert await value(mesh.controlplane, "mosaic_calls_total", **send) == before + 1
    assert await value(mesh.controlplane, "mosaic_call_seconds_count", method=send["method"]) >= 1


async def test_a_real_claim_moves_the_figures_of_the_backlog(mesh: Mesh) -> None:
    environment = await inside(mesh, "worker")
    backlog: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(mesh.channel)
    await backlog.Create(
        backlog_pb2.CreateCardsRequest(
            request_id="0190b6e0-0000-7000-8000-00000000c0de",
            cards=[backlog_pb2.CardDraft(content=backlog_pb2.CardContent(title="one"))],
        )
    )
    assert await value(mesh.controlplane, "mosaic_cards", status="ready") == 1
    calls = await value(alpha(mesh).program, "mosaic_host_pane_calls_total", outcome="ok")
    done = await asyncio.to_thread(mosaic, environment, "backlog", "claim")
    assert done.code == 0, done.err
    assert await value(mesh.controlplane, "mosaic_cards", status="claimed") == 1
    assert await value(mesh.controlplane, "mosaic_card_leases", state="live") == 1
    assert await value(alpha(mesh).program, "mosaic_host_pane_calls_total", outcome="ok") > calls


async def test_a_peer_that_is_silent_and_messages_that_wait_for_it_are_told(mesh: Mesh) -> None:
    peer_id = await write_peer(mesh, "south")
    assert await value(mesh.controlplane, "mosaic_peers", state="paired") == 1
    silent = (
        "with silent as (update fleet.peer_feed set bookmark_at = now() - interval '3 minutes' where peer_id = $1"
        " returning tenant_id, peer_id) insert into fleet.peer_message"
        " (tenant_id, message_id, peer_id, caller, address, request, origin, queued, made_at, deadline_at, state)"
        " select tenant_id, gen_random_uuid(), peer_id, '', '', '', '', true, now() - interval '2 minutes',"
        " now() + interval '1 hour', 'waiting' from silent returning 1"
    )
    assert await mesh.register_value(silent, peer_id) == 1
    assert await value(mesh.controlplane, "mosaic_peers", state="paired") == 0
    assert await value(mesh.controlplane, "mosaic_peers", state="stale") == 1
    assert await value(mesh.controlplane, "mosaic_peer_bookmark_oldest_seconds", state="stale") >= 180
    waiting = [
        await value(mesh.controlplane, "mosaic_outbox_messages", state=state) for state in ("waiting", "offered")
    ]
    assert sum(waiting) == 1, "the outbox may be trying it just now"
    ages = [
        await value(mesh.controlplane, "mosaic_outbox_oldest_seconds", state=state) for state in ("waiting", "offered")
    ]
    assert max(ages) >= 120
    await mesh.register_value("delete from fleet.peer where peer_id = $1 returning 1", peer_id)
    assert await value(mesh.controlplane, "mosaic_peers", state="stale") == 0
    assert await value(mesh.controlplane, "mosaic_outbox_messages", state="waiting") == 0


async def test_a_refused_call_is_counted_by_its_code(mesh: Mesh) -> None:
    before = await value(mesh.controlplane, "mosaic_calls_refused_total", code="denied")
    eve = await mesh.another_operator("eve", role="viewer")
    async with wire.aio_channel(eve, f"{mesh.listen}:{mesh.fleet_port}") as channel:
        with pytest.raises(grpc.RpcError):
            await messages_pb2_grpc.MessageServiceStub(channel).Send(messages_pb2.SendRequest(to="worker", body="x"))
    assert await value(mesh.controlplane, "mosaic_calls_refused_total", code="denied") == before + 1


async def test_both_programs_say_that_they_are_ready(mesh: Mesh) -> None:
    for program in (mesh.controlplane, alpha(mesh).program):
        done = await asyncio.to_thread(run_health, program)
        assert (done.returncode, done.stdout) == (0, "alive: yes\nready: yes\n"), done.stderr
    health: health_pb2_grpc.HealthAsyncStub = health_pb2_grpc.HealthStub(mesh.channel)
    listed = await health.List(health_pb2.HealthListRequest())
    assert {name: one.status for name, one in listed.statuses.items()} == {"": 1, "alive": 1, "ready": 1}
    for service in ("", "alive", "ready"):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == 1


def run_health(program: Program) -> subprocess.CompletedProcess[str]:
    module = {"mosaic-controlplane": "mosaic_controlplane", "mosaic-hostagent": "mosaic_hostagent"}
    return subprocess.run(
        [sys.executable, "-m", f"{module[program.arguments[0]]}.main", "health"],
        capture_output=True,
        text=True,
        check=False,
        env=program.full_environment,
    )


async def test_without_its_register_a_control_plane_is_alive_and_not_ready(databases: Databases) -> None:
    url = databases.create()
    async with running_mesh(url) as mesh:
        home = Home(mesh.controlplane.home)
        assert (await asyncio.to_thread(ask, home, "controlplane")).ready
        # Nobody may connect, and who is connected is cut off: the register is away, and stays so.
        databases.shut(url)
        try:
            await eventually(lambda: not ask(home, "controlplane").ready, "it is not ready", mesh.controlplane)
            found = ask(home, "controlplane")
            assert found.alive
            assert "register" in found.why
            done = await asyncio.to_thread(run_health, mesh.controlplane)
            assert done.returncode == 1
            assert done.stdout.startswith("alive: yes\nready: no\nwhy: ")
            assert "mosaic_register_away_seconds" in metrics_of(mesh.controlplane)
        finally:
            databases.open_again(url)
        await eventually(lambda: ask(home, "controlplane").ready, "it is ready again", mesh.controlplane)
    databases.drop(url)


async def test_a_host_agent_without_a_link_is_alive_and_not_ready(mesh: Mesh) -> None:
    home = Home(alpha(mesh).program.home)
    mesh.controlplane.kill()
    await eventually(lambda: not ask(home, "hostagent").ready, "it is not ready", alpha(mesh).program)
    assert ask(home, "hostagent") == Health(alive=True, ready=False, why="there is no link to the control plane")
    mesh.controlplane.start()
    await mesh.serving()
    await eventually(lambda: ask(home, "hostagent").ready, "it is ready again", alpha(mesh).program)


async def test_a_loop_that_does_not_turn_is_not_alive() -> None:
    now = [0.0]
    pulse = Pulse(clock=lambda: now[0])
    tell = health_of(pulse, lambda: "")
    assert tell() == Health(alive=True, ready=True)
    now[0] = 11.0
    assert not tell().alive
    assert "has not turned for 11 s" in tell().why


async def test_an_odd_request_over_http_is_answered_and_a_silent_one_does_not_stop_the_others() -> None:
    server = HealthServer(CollectorRegistry(), lambda: Health(alive=True, ready=False, why="because"))
    address = server.start(0)
    try:
        silent = await asyncio.open_connection(*address.split(":"))
        assert await asyncio.to_thread(status, address, "/alive") == 200
        assert await asyncio.to_thread(status, address, "/ready") == 503
        assert await asyncio.to_thread(status, address, "/../etc/passwd") == 404
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"\x16\x03\x01" + os.urandom(2_000) + b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"Traceback" not in await reader.read()
        writer.close()
        silent[1].close()
    finally:
        server.stop()


def status(address: str, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_logs_are_json_with_constant_words_and_hold_no_secret_of_the_run(mesh: Mesh) -> None:
    token = await mesh.token("another")
    environment = await inside(mesh, "worker")
    secrets = {token, JoinToken.parse(token).secret, environment[pane.TOKEN]}
    secrets |= {line for line in private_lines(mesh.folder) if len(line) > 30}
    logs = [mesh.controlplane.log, alpha(mesh).program.log]
    text = "".join(log.read_text() for log in logs)
    assert text
    for secret in secrets:
        assert secret not in text
    for line in text.splitlines():
        entry = json.loads(line)
        assert entry["event"]
        assert entry["level"]


def private_lines(folder: Path) -> set[str]:
    """Every line of every private key of the run."""
    found = set()
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_size < 100_000:
            text = file.read_bytes().decode(errors="ignore")
            for block in re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", text, re.DOTALL):
                found |= set(block.split())
    return found
