"""Many simulated hosts as a process: each dials over a TLS connection of its own with its own leaf and speaks the
real link.

Run as a program (FOLDER, ADDRESS, FIRST, COUNT) it links all, says `linked`, and answers each line of its standard
input with a line of JSON: `beats` → how many it has sent so far; `changes N` → it lets N agents change one after
another and says how long each took to reach a watcher of the same process, in milliseconds; `snapshot`,
`list` → how long a watcher's whole snapshot takes, and a listing of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Any

import grpc.aio
from mosaic_framework import protocol, wire
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2, fleet_pb2_grpc, host_link_pb2_grpc
from mosaic_proto.v1 import host_link_pb2 as pb

from bench.mesh_parts.register import Card
from tests.support.checkout import ROOT

_DIAL_AT_ONCE = 48
_CHANGES_A_SECOND = 20.0
_PATIENCE_SECONDS = 600.0


def channel(card: Card, bundle: bytes, address: str) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(bundle, card.key_pem.encode(), card.certificate_pem.encode())
    return grpc.aio.secure_channel(
        address, credentials, options=[*wire.client_options(), ("grpc.use_local_subchannel_pool", 1)]
    )


class SimulatedHost:
    """One link."""

    def __init__(self, card: Card, bundle: bytes, address: str) -> None:
        self._card, self._bundle, self._address = card, bundle, address
        self._runs = [str(new_id()) for _ in card.agents]
        self._call: Any = None
        self._sequence = 0
        self._writing = asyncio.Lock()
        self.beat_seconds = 5.0
        self.ended = ""

    async def link(self) -> bool:
        """Dial, and return when the welcome has come. False: it has to be dialled again."""
        try:
            await self._dial()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await self._channel.close()
            return False
        self._reading = asyncio.create_task(self._read())
        return True

    async def _dial(self) -> None:
        self._channel = channel(self._card, self._bundle, self._address)
        stub: host_link_pb2_grpc.HostLinkServiceAsyncStub = host_link_pb2_grpc.HostLinkServiceStub(self._channel)
        self._call = stub.Link()
        hello = pb.Hello(
            protocol_version=protocol.VERSION,
            oldest_protocol=protocol.OLDEST,
            capabilities=["capture", "view", "claims", protocol.PACE],
            host_id=self._card.id,
            journal_id=str(new_id()),
            seats=[self.report(number, "at its prompt") for number in range(len(self._card.agents))],
            version="bench",
            machine=self._card.name,
        )
        await self._write(pb.HostFrame(hello=hello))
        frame = await self._call.read()
        self.beat_seconds = frame.welcome.beat_interval_ms / 1000
        await self._write(pb.HostFrame(ready=pb.Ready(link_epoch=frame.welcome.link_epoch)))
        await self._write(pb.HostFrame(runs_alive=pb.RunsAlive(run_ids=self._runs)))

    async def _write(self, frame: pb.HostFrame) -> None:
        async with self._writing:  # gRPC ends a call that is written to twice at once: "Internal error from Core"
            await self._call.write(frame)

    def report(self, number: int, detail: str) -> pb.SeatReport:
        return pb.SeatReport(
            agent_id=self._card.agents[number],
            name=f"{self._card.name}-{number}",
            state=fleet_pb2.AGENT_STATE_AVAILABLE,
            source="screen",
            detail=detail,
            run_id=self._runs[number],
            pid=1000 + number,
            command="bash",
            generation=1,
            supervision="built-in",
            running_runtime="shell",
        )

    async def _read(self) -> None:
        try:
            while isinstance(frame := await self._call.read(), pb.ControlFrame):
                match frame.WhichOneof("frame"):
                    case "desired":
                        await self._write(pb.HostFrame(applied=pb.Applied(generation=frame.desired.generation)))
                    case "pace":
                        self.beat_seconds = frame.pace.beat_interval_ms / 1000
            self.ended = "by the control plane"
        except grpc.aio.AioRpcError as error:
            self.ended = f"{error.code().name}: {error.details()}"

    async def beat(self) -> None:
        self._sequence += 1
        await self._write(pb.HostFrame(beat=pb.Beat(sequence=self._sequence)))

    async def change(self, number: int, detail: str) -> str:
        """Let an agent change; returns its id."""
        await self._write(pb.HostFrame(seat=self.report(number, detail)))
        return self._card.agents[number]


class Crowd:
    """All hosts of this process, and the clockwork that beats for them."""

    def __init__(self, hosts: list[SimulatedHost]) -> None:
        self.hosts = hosts
        self.beats = 0
        self.dialled_again = 0

    async def link(self) -> None:
        gate = asyncio.Semaphore(_DIAL_AT_ONCE)
        self._due: list[tuple[float, int]] = []
        beating = asyncio.create_task(self._beat())

        async def one(number: int) -> None:
            async with gate:
                while not await self.hosts[number].link():
                    self.dialled_again += 1
                    await asyncio.sleep(random.random())
            heapq.heappush(self._due, (time.monotonic() + random.random() * self.hosts[number].beat_seconds, number))

        await asyncio.gather(*(one(number) for number in range(len(self.hosts))))
        self._beating = beating

    async def _beat(self) -> None:
        while True:
            while self._due and self._due[0][0] <= time.monotonic():
                at, number = heapq.heappop(self._due)
                host = self.hosts[number]
                if host.ended:
                    continue
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await host.beat()
                    self.beats += 1
                heapq.heappush(self._due, (at + host.beat_seconds, number))
            await asyncio.sleep(0.005)

    def ended(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for host in self.hosts:
            if host.ended:
                found[host.ended] = found.get(host.ended, 0) + 1
        return found


async def changes(crowd: Crowd, operator: grpc.aio.Channel, count: int) -> dict[str, Any]:
    """Let agents change at a steady pace; how long each took until a watcher was told."""
    stub: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(operator)
    sent: dict[str, float] = {}
    taken: dict[str, float] = {}
    complete = asyncio.Event()

    async def watch() -> None:
        async for event in stub.Watch(fleet_pb2.WatchRequest()):
            if event.HasField("bookmark") and event.bookmark.snapshot_complete:
                complete.set()
            detail = event.agent.state_detail
            if detail in sent and detail not in taken:
                taken[detail] = (time.monotonic() - sent[detail]) * 1000

    watching = asyncio.create_task(watch())
    await asyncio.wait_for(complete.wait(), _PATIENCE_SECONDS)
    for number in range(count):
        host = random.choice([one for one in crowd.hosts if not one.ended])
        detail = f"change {number}"
        sent[detail] = time.monotonic()
        await host.change(random.randrange(8), detail)
        await asyncio.sleep(1 / _CHANGES_A_SECOND)
    deadline = time.monotonic() + 60
    while len(taken) < count and time.monotonic() < deadline:  # noqa: ASYNC110 - the stream's task fills it
        await asyncio.sleep(0.05)
    watching.cancel()
    return {"taken": sorted(taken.values()), "lost": count - len(taken)}


async def snapshot(operator: grpc.aio.Channel) -> dict[str, Any]:
    """How long it takes until a watcher has everything."""
    stub: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(operator)
    began, agents = time.monotonic(), 0
    try:
        async for event in stub.Watch(fleet_pb2.WatchRequest()):
            agents += event.HasField("agent")
            if event.HasField("bookmark") and event.bookmark.snapshot_complete:
                break
    except grpc.aio.AioRpcError as error:
        return {"ms": None, "agents": agents, "error": f"a snapshot is refused: {error.details()}"}
    return {"ms": (time.monotonic() - began) * 1000, "agents": agents, "error": ""}


async def listing(operator: grpc.aio.Channel) -> dict[str, Any]:
    """How long it takes until ListAgents has told of everything."""
    stub: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(operator)
    began = time.monotonic()
    try:
        agents = await _listed(stub)
    except grpc.aio.AioRpcError as error:
        return {"ms": None, "agents": 0, "error": f"ListAgents of all is refused: {error.code().name}"}
    return {"ms": (time.monotonic() - began) * 1000, "agents": agents, "error": ""}


async def _listed(stub: fleet_pb2_grpc.FleetServiceAsyncStub) -> int:
    """List all agents as the command line does, a page at a time; returns how many there are."""
    request, found = fleet_pb2.ListAgentsRequest(page_size=2_000), 0
    while True:
        reply = await stub.ListAgents(request)
        found += len(reply.agents)
        if not reply.next_page_token:
            return found
        request.page_token = reply.next_page_token


class Hosts:
    """Such a process, from outside."""

    def __init__(self, folder: Path, address: str, first: int, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.mesh_parts.hosts", str(folder), address, str(first), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    async def linked(self) -> None:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), _PATIENCE_SECONDS)
        assert line.strip() == "linked", line

    async def ask(self, what: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return json.loads(await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), _PATIENCE_SECONDS))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.asynccontextmanager
async def _crowd(folder: Path, address: str, first: int, count: int) -> AsyncIterator[tuple[Crowd, grpc.aio.Channel]]:
    bundle = (folder / "bundle.pem").read_bytes()
    with (folder / "hosts.jsonl").open() as file:
        cards = [Card(**json.loads(line)) for line in islice(file, first, first + count)]
    crowd = Crowd([SimulatedHost(card, bundle, address) for card in cards])
    operator = channel(Card(**json.loads((folder / "operator.json").read_text())), bundle, address)
    await crowd.link()
    try:
        yield crowd, operator
    finally:
        await operator.close()


async def _serve(folder: Path, address: str, first: int, count: int) -> None:
    async with _crowd(folder, address, first, count) as (crowd, operator):
        _say_line("linked")
        while line := await asyncio.to_thread(sys.stdin.readline):
            match line.split():
                case ["beats"]:
                    told = {"beats": crowd.beats, "ended": crowd.ended(), "dialled_again": crowd.dialled_again}
                    _say_line(json.dumps(told))
                case ["changes", number]:
                    _say_line(json.dumps(await changes(crowd, operator, int(number))))
                case ["snapshot"]:
                    _say_line(json.dumps(await snapshot(operator)))
                case ["list"]:
                    _say_line(json.dumps(await listing(operator)))


def _say_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
