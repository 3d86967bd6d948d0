"""Limits of one caller: told with a stable code and a time to come back, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from mosaic_cli import client
from mosaic_controlplane import config
from mosaic_controlplane.api import limits as limits_module
from mosaic_controlplane.api.admission import neighbourhood
from mosaic_controlplane.api.limits import Limits
from mosaic_controlplane.config import Settings
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.pace import PerPeer
from mosaic_controlplane.mesh.messages import QueueFull
from mosaic_controlplane.metrics import Metrics
from mosaic_controlplane.register.database import Database
from mosaic_framework import wire
from mosaic_framework.errors import (
    RETRY_AFTER,
    FleetError,
    IdentityRevoked,
    LimitReached,
    Overloaded,
    TooManyCalls,
    TooManyStreams,
)
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import messages_pb2

from tests.support.listeners import Listeners, call, running
from tests.support.mesh import running_mesh
from tests.support.pane import mosaic, persons

AGENTS = "mosaic.v1.FleetService/ListAgents"
WATCH = "mosaic.v1.FleetService/Watch"


def caller(name: str) -> Caller:
    return Caller("operator", UUID(int=1), "default", new_id(), name, "admin", 1, "")


async def refusal(listeners: Listeners, channel: grpc.aio.Channel, method: str, request: Any = None) -> LimitReached:
    """Call and be refused by a limit, with the status that stands for all of them."""
    with pytest.raises(grpc.RpcError) as failed:
        await call(channel, method, request=request)
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = wire.error_from_rpc(failed.value)
    assert isinstance(told, LimitReached), told
    return told


async def test_calls_over_the_rate_are_refused_with_the_time_after_which_they_are_taken(
    database: Database, tmp_path: Path
) -> None:
    settings = Settings(limit_calls_per_second=2, limit_calls_burst=3)
    async with running(database, tmp_path, limits=Limits(settings)) as listeners:
        eager = await listeners.enrolled("operator", "eager", role="viewer")
        other = await listeners.enrolled("operator", "other", role="viewer")
        async with (
            wire.aio_channel(eager, listeners.fleet_address) as channel,
            wire.aio_channel(other, listeners.fleet_address) as others,
        ):
            for _ in range(3):
                await call(channel, AGENTS)
            told = await refusal(listeners, channel, AGENTS)
            assert type(told) is TooManyCalls
            assert told.retry_after is not None
            assert 0 < told.retry_after <= 0.5
            assert "try again in" in told.next_step
            await call(others, AGENTS)
            await asyncio.sleep(told.retry_after)
            await call(channel, AGENTS)


async def test_streams_over_the_limit_are_refused_and_one_that_ends_makes_room(
    database: Database, tmp_path: Path
) -> None:
    async def forever(method: str, _context: Any) -> None:
        if method == WATCH:
            await asyncio.Event().wait()

    limits = Limits(Settings(limit_streams=2))
    async with running(database, tmp_path, behaviour=forever, limits=limits) as listeners:
        eager = await listeners.enrolled("operator", "eager", role="viewer")
        async with wire.aio_channel(eager, listeners.fleet_address) as channel:
            open_ones = [asyncio.create_task(call(channel, WATCH)) for _ in range(2)]
            await until(lambda: len(listeners.answered) == 2)
            told = await refusal(listeners, channel, WATCH)
            assert type(told) is TooManyStreams
            assert told.retry_after is not None
            await call(channel, AGENTS)
            open_ones[0].cancel()
            await asyncio.gather(open_ones[0], return_exceptions=True)
            again = asyncio.create_task(tried_until_taken(channel, WATCH))
            await until(lambda: len(listeners.answered) == 4)
            for one in (again, open_ones[1]):
                one.cancel()
            await asyncio.gather(again, open_ones[1], return_exceptions=True)


async def tried_until_taken(channel: grpc.aio.Channel, method: str) -> None:
    """Call again while a limit refuses it: the other side learns a moment later that a stream has ended."""
    while True:
        try:
            await call(channel, method)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
        await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_message_beyond_the_wires_size_is_told_as_too_large(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as listeners:
        eager = await listeners.enrolled("operator", "eager", role="admin")
        options = [("grpc.max_send_message_length", -1), ("grpc.ssl_target_name_override", wire.SERVER_NAME)]
        credentials = grpc.ssl_channel_credentials(eager.bundle_pem, eager.key_pem, eager.certificate_pem)
        async with grpc.aio.secure_channel(listeners.fleet_address, credentials, options=options) as channel:
            request = messages_pb2.SendRequest(body="x" * (wire.MESSAGE_LIMIT + 1))
            with pytest.raises(grpc.RpcError) as failed:
                await call(channel, "mosaic.v1.MessageService/Send", request=request)
            assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert wire.error_from_rpc(failed.value).code == "too-large"
            await call(channel, AGENTS)


async def test_a_fleet_behind_one_address_joins_one_by_one_and_not_in_vain(database: Database, tmp_path: Path) -> None:
    settings = Settings(limit_enrolments_per_address=10)
    async with running(database, tmp_path, settings=settings) as listeners:
        tokens = [await listeners.token("host", f"host{number}") for number in range(40)]
        joined = await asyncio.gather(*(listeners.join(token) for token in tokens))
    assert {identity.name for identity in joined} == {f"host{number}" for number in range(40)}


def test_each_caller_has_a_pace_of_its_own_and_all_together_a_bound() -> None:
    limits = Limits(Settings(limit_calls_at_once=2, limit_calls_together=3))
    one, two = caller("one"), caller("two")
    with limits.admit(one, AGENTS, stream=False), limits.admit(one, AGENTS, stream=False):
        with pytest.raises(TooManyCalls, match="under way"), limits.admit(one, AGENTS, stream=False):
            pass
        with limits.admit(two, AGENTS, stream=False):
            with pytest.raises(Overloaded), limits.admit(two, AGENTS, stream=False):
                pass
            with limits.admit(two, WATCH, stream=True):
                pass
    with limits.admit(one, AGENTS, stream=False):
        pass


def test_a_certificate_refused_over_and_over_hears_why_without_a_look_into_the_register() -> None:
    limits = Limits()
    for _ in range(100):
        limits.knock(b"revoked")
        limits.refused(b"revoked", IdentityRevoked("operator ben has been revoked"))
    limits.refused(b"revoked", IdentityRevoked("operator ben has been revoked"))
    with pytest.raises(IdentityRevoked, match="ben has been revoked"):
        limits.knock(b"revoked")
    limits.knock(b"another")


def test_a_certificate_that_rested_is_looked_at_again_and_then_bounded_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(limits_module, "PerPeer", partial(PerPeer, clock=lambda: now))
    limits = Limits()

    def looks(calls: int) -> int:
        """Return how many of so many calls cost a look into the register."""
        looked = 0
        for _ in range(calls):
            with contextlib.suppress(IdentityRevoked):
                limits.knock(b"revoked")
                looked += 1
                limits.refused(b"revoked", IdentityRevoked("operator ben has been revoked"))
        return looked

    assert looks(1_000) == 101, "the burst, and the one that showed that it was over"
    now = 10.0
    assert looks(1_000) == 51


def test_of_certificates_refused_over_and_over_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "CALLERS", 10)
    monkeypatch.setattr(limits_module, "REFUSALS_BURST", 0)
    limits = Limits()
    for number in range(11):
        limits.refused(b"%d" % number, IdentityRevoked("it has been revoked"))
    assert len(limits._refused) == 10
    with pytest.raises(IdentityRevoked):
        limits.knock(b"10")


def test_a_pairing_that_is_refused_over_and_over_shuts_out_no_other_of_the_same_certificate() -> None:
    limits = Limits()
    for _ in range(101):
        limits.refused(b"cluster", IdentityRevoked("it was ended"), "over")
    with pytest.raises(IdentityRevoked, match="it was ended"):
        limits.knock(b"cluster", "over")
    limits.knock(b"cluster", "stands")


def test_a_certificate_that_makes_pairings_up_costs_no_look_into_the_register_for_each() -> None:
    limits, looks = Limits(), 0
    for number in range(1_000):
        with contextlib.suppress(TooManyCalls):
            limits.knock(b"cluster", f"made up {number}")
            looks += 1
            limits.refused(b"cluster", IdentityRevoked("nobody has this pairing"), f"made up {number}")
    assert looks < 900, "a burst, and a few a second"
    with pytest.raises(TooManyCalls) as told:
        limits.knock(b"cluster", "another one")
    assert told.value.retry_after
    limits.knock(b"another cluster", "stands")


def test_the_defaults_let_a_script_send_to_every_agent_of_a_thousand_hosts_at_the_pace_they_say() -> None:
    settings = Settings()
    limits = Limits(settings, Metrics())
    script = caller("script")
    for _ in range(settings.limit_calls_burst):
        with limits.admit(script, AGENTS, stream=False):
            pass
    hosts = [caller(f"host{number}") for number in range(1_000)]
    for host in hosts:
        with limits.admit(host, WATCH, stream=True):
            pass


@pytest.mark.parametrize(
    ("peer", "place"),
    [
        ("127.0.0.1:5000", "127.0.0.1"),
        ("[::1]:5000", "::/64"),
        ("[2001:db8:1:2:aaaa::1]:1", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:bbbb::9]:2", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
        ("[fe80::1%eth0]:80", "fe80::/64"),
        ("nonsense", ""),
    ],
)
def test_one_machine_counts_as_one_address_however_many_it_gives_itself(peer: str, place: str) -> None:
    assert neighbourhood(peer) == place


def test_a_retry_time_survives_the_wire_and_a_wrong_one_is_no_time() -> None:
    told = TooManyCalls.until(seconds=1.2345)
    back = wire.error_from_message(wire.error_to_message(told))
    assert isinstance(back, TooManyCalls)
    assert back.retry_after == 1.235
    for wrong in ("", "-5", "1e9", "٣", "9" * 40):
        assert LimitReached(details={"retry_after_ms": wrong}).retry_after is None


def test_every_limit_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "controlplane.yaml").write_text("limit_streams: 7\n")
    found = config.load(Home(tmp_path), {"MOSAIC_LIMIT_QUEUE": "3", "MOSAIC_METRICS_PORT": "off"})
    assert (found.limit_streams, found.limit_queue, found.metrics_port) == (7, 3, "off")
    with pytest.raises(FleetError, match="limit_streams"):
        config.load(Home(tmp_path), {"MOSAIC_LIMIT_STREAMS": "0"})


def test_the_command_line_waits_for_a_limit_as_long_as_it_says_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    patience = client.Patience()
    assert patience.wait(TooManyCalls.until(seconds=0.5))
    assert not capsys.readouterr().err
    assert patience.wait(TooManyCalls.until(seconds=5))
    assert "too-many-calls" in (told := capsys.readouterr().err)
    assert "trying again in 5.0 s" in told
    assert not patience.wait(TooManyCalls.until(seconds=5))
    assert not client.Patience().wait(QueueFull(details={RETRY_AFTER: "10000"}))
    assert not client.Patience().wait(FleetError())
    assert slept == [0.5, 5.0]


def test_a_command_with_a_deadline_waits_for_a_limit_as_long_as_that_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr(client.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(client.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    patience, waits = client.Patience(until=1_060.0), 0
    while patience.wait(TooManyCalls.until(seconds=0.5)):
        waits += 1
    assert (waits, now[0]) == (119, 1_059.5)


async def test_commands_over_a_limit_wait_and_do_their_work(database_url: str, tmp_path: Path) -> None:
    slow = {"MOSAIC_LIMIT_CALLS_PER_SECOND": "1", "MOSAIC_LIMIT_CALLS_BURST": "1"}
    async with running_mesh(database_url, environment=slow) as mesh:
        environment = persons(mesh, tmp_path)
        done = await asyncio.gather(*(asyncio.to_thread(mosaic, environment, "host", "ls") for _ in range(3)))
    assert [one.code for one in done] == [0, 0, 0], [one.err for one in done]


async def test_a_full_queue_is_told_with_the_time_to_come_again(database_url: str) -> None:
    async with running_mesh(database_url, environment={"MOSAIC_LIMIT_QUEUE": "2"}) as mesh:
        host = await mesh.join("alpha")
        await mesh.apply({"worker": "alpha"})
        await mesh.until_available("worker")
        host.program.kill()
        for _ in range(2):
            await mesh.send("worker", "true")
        with pytest.raises(grpc.RpcError) as failed:
            await mesh.send("worker", "true")
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = wire.error_from_rpc(failed.value)
    assert (told.code, told.details[RETRY_AFTER]) == ("queue-full", "10000")
