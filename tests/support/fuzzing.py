"""Malformed requests at every listener of a real mesh, and what the programs look like before and after."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from mosaic_controlplane.api.policy import all_methods, load_policy
from mosaic_controlplane.identity.origin import ON_BEHALF_KEY
from mosaic_framework import enrolment, pane, wire
from mosaic_framework.call_endings import as_ended
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.health import address_file
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import host_link_pb2

from tests.support.malformed import Malformer
from tests.support.mesh import Host, Mesh, running_mesh
from tests.support.pane import inside
from tests.support.peers import StandInPeer, stand_in_peer
from tests.support.program import Program
from tests.support.raw_garbage import Door, throw, tls_context

NO_LIMITS = {
    "MOSAIC_LIMIT_CALLS_PER_SECOND": "1000000",
    "MOSAIC_LIMIT_CALLS_BURST": "1000000",
    "MOSAIC_LIMIT_ENROLMENTS_PER_SECOND": "1000000",
    "MOSAIC_LIMIT_ENROLMENTS_PER_ADDRESS": "1000000",
}
READ_SECONDS = 0.4
AT_ONCE = 16
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)
FOR_STRANGERS = (
    "mosaic.v1.EnrolmentService/Enrol",
    "mosaic.v1.PairingService/Pair",
    "mosaic.v1.PairingService/Standing",
)
FOR_PEERS = tuple(sorted(method for method in all_methods() if method.startswith("mosaic.v1.FederationService/")))
_TRACEBACK = re.compile(r"Traceback|File \"|\.py\b|asyncpg|Exception")


@dataclass
class Outcomes:
    """How the calls of one listener ended, and those that ended as none may."""

    made: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def note(self, what: str, code: grpc.StatusCode, told: str, request: list[bytes]) -> None:
        """Take the end of one call. What is told to the caller names no file, no class and no traceback."""
        self.codes[code.name] += 1
        if code is grpc.StatusCode.UNAVAILABLE:
            self.codes[f"UNAVAILABLE {told[:80]}"] += 1
        if code in FAULTS or _TRACEBACK.search(told):
            shown = " | ".join(one[:200].hex() for one in request)
            self.faults.append(f"{what}: {code.name}: {told[:300]!r} for {shown}")


@dataclass(frozen=True)
class Size:
    """What a process uses. `tasks` are those of its event loop."""

    rss: int
    files: int
    threads: int
    tasks: int


async def size_of(program: Program) -> Size:
    """Return what a program uses now."""
    assert program.process is not None
    process = psutil.Process(program.process.pid)
    text = await asyncio.to_thread(metrics_of, program)
    (tasks,) = re.findall(r"^mosaic(?:_host)?_tasks (\S+)$", text, re.MULTILINE)
    return Size(process.memory_info().rss, process.num_fds(), process.num_threads(), int(float(tasks)))


async def settled(program: Program) -> Size:
    """Return what a program uses when its tasks are no longer growing fewer: calls given up here end there by then."""
    before = await size_of(program)
    for _ in range(20):
        await asyncio.sleep(0.5)
        now = await size_of(program)
        if now.tasks >= before.tasks and now.files >= before.files:
            return now
        before = now
    return before


def health_address(program: Program) -> str:
    """Where a program tells its health and metrics."""
    name = program.arguments[0].removeprefix("mosaic-")
    return str(json.loads(address_file(Home(program.home), name).read_text())["address"])


def metrics_of(program: Program) -> str:
    """What a program tells Prometheus."""
    with urllib.request.urlopen(f"http://{health_address(program)}/metrics", timeout=5) as reply:
        return str(reply.read().decode())


class Fuzzed:
    """A mesh with one honest host and seat, and identities of every kind that misbehave."""

    def __init__(
        self,
        mesh: Mesh,
        honest: Host,
        identities: dict[str, StoredIdentity],
        pane_token: str,
        peers: dict[str, StandInPeer],
    ) -> None:
        self.mesh, self.honest, self.identities, self.pane_token, self.peers = (
            mesh,
            honest,
            identities,
            pane_token,
            peers,
        )
        self.policy = load_policy()
        self.methods = sorted(all_methods())

    @property
    def fleet_address(self) -> str:
        return f"{self.mesh.listen}:{self.mesh.fleet_port}"

    @property
    def enrol_address(self) -> str:
        return f"{self.mesh.listen}:{self.mesh.enrol_port}"

    @property
    def peer_address(self) -> str:
        return f"{self.mesh.listen}:{self.mesh.peer_port}"

    @property
    def pane_address(self) -> str:
        with_socket = {**self.honest.program.full_environment}
        home = Home(self.honest.program.home)
        return f"unix:{with_socket['XDG_RUNTIME_DIR']}/mosaic/{home.digest}/agent.sock"

    async def honest_work(self) -> None:
        """What an honest operator does still works: a message is sent and typed."""
        await self.mesh.until_step(await self.mesh.send("honest/worker", "true"))

    async def fleet(self, source: random.Random, count: int) -> Outcomes:
        """Malformed requests of every method by callers of every kind."""
        outcomes = Outcomes()
        async with contextlib.AsyncExitStack() as stack:
            channels = {
                name: await stack.enter_async_context(wire.aio_channel(identity, self.fleet_address))
                for name, identity in self.identities.items()
            }
            await in_parallel(count, lambda: self._fleet_call(source, channels, outcomes))
        return outcomes

    async def _fleet_call(
        self, source: random.Random, channels: dict[str, grpc.aio.Channel], outcomes: Outcomes
    ) -> None:
        method = source.choice(self.methods)
        caller = self._caller_for(method) if source.random() < 0.85 else source.choice(sorted(channels))
        requests = self._requests(source, method)
        if method.endswith("/Link") and source.random() < 0.7:
            hello = host_link_pb2.Hello(protocol_version=1, journal_id=str(new_id()), journal_sequence=0)
            requests.insert(0, host_link_pb2.HostFrame(hello=hello).SerializeToString())
        await call(channels[caller], method, requests, outcomes)

    def _caller_for(self, method: str) -> str:
        words = self.policy.rules.get(method, frozenset())
        return "host" if "host" in words else "admin"

    def _requests(self, source: random.Random, method: str) -> list[bytes]:
        found = _method(method)
        number = source.choice((1, 1, 2, 5)) if found.client_streaming else 1
        return [Malformer(source).request(found.input_type) for _ in range(number)]

    async def enrolment(self, source: random.Random, count: int) -> Outcomes:
        """Malformed requests by strangers."""
        outcomes = Outcomes()
        admin = self.identities["admin"]
        credentials = grpc.ssl_channel_credentials(admin.bundle_pem)
        async with grpc.aio.secure_channel(self.enrol_address, credentials, options=wire.client_options()) as channel:
            await in_parallel(
                count,
                lambda: call(
                    channel,
                    method := source.choice(FOR_STRANGERS if source.random() < 0.9 else self.methods),
                    self._requests(source, method),
                    outcomes,
                ),
                at_once=2,  # the listener takes few at once on one connection
            )
        return outcomes

    async def pane(self, source: random.Random, count: int) -> Outcomes:
        """Malformed requests from a program in a pane, with its token, another one, or none."""
        outcomes = Outcomes()
        async with grpc.aio.insecure_channel(self.pane_address) as channel:

            def one() -> Awaitable[None]:
                method = source.choice(self.methods)
                token = source.choice((self.pane_token, self.pane_token, "0" * 64, "x" * 3_000, "", "%00"))
                return call(channel, method, self._requests(source, method), outcomes, ((pane.TOKEN_KEY, token),))

            await in_parallel(count, one)
        return outcomes

    async def peer(self, source: random.Random, count: int) -> Outcomes:
        """Malformed requests by a peer that all is granted to, and by one that parts again and again."""
        outcomes = Outcomes()
        async with contextlib.AsyncExitStack() as stack:
            lent = {name: await stack.enter_async_context(peer.channel(self.mesh)) for name, peer in self.peers.items()}

            def one() -> Awaitable[None]:
                method = source.choice(FOR_PEERS if source.random() < 0.9 else self.methods)
                name = "leaving" if method.endswith("/Part") else "west"
                metadata = self.peers[name].metadata(self.mesh)
                if source.random() < 0.1:
                    metadata = ((source.choice(metadata)[0], source.choice(("", "x", "x" * 3_000, str(new_id())))),)
                told = source.choice((b"", b"\xff\0", source.randbytes(200), b"\x0a" * 3_000))
                return call(
                    lent[name], method, self._requests(source, method), outcomes, (*metadata, (ON_BEHALF_KEY, told))
                )

            await in_parallel(count, one)
        return outcomes

    async def raw(self, source: random.Random, count: int, *addresses: str) -> Outcomes:
        """Garbage below gRPC, at each of these addresses in turn."""
        outcomes = Outcomes()
        doors = [Door(address, self._tls(address)) for address in addresses]

        async def one() -> None:
            outcomes.codes[await throw(source.choice(doors), source)] += 1

        await in_parallel(count, one, at_once=2 * AT_ONCE)
        outcomes.made = sum(outcomes.codes.values())
        return outcomes

    def _tls(self, address: str) -> Any:
        if address.startswith("unix:"):
            return None
        folder = self.mesh.folder / "operator"
        if address == self.enrol_address:
            return tls_context(self.identities["admin"].bundle_pem)
        return tls_context(self.identities["admin"].bundle_pem, *certificate_files(self.identities["viewer"], folder))

    async def reports(self, source: random.Random, count: int) -> Outcomes:
        """Reports of hooks that no reporter writes."""
        outcomes = Outcomes()
        path = self.pane_address.removeprefix("unix:") + pane.REPORT_SUFFIX

        async def one() -> None:
            head = source.choice(
                (
                    source.randbytes(30),
                    b"{}",
                    b"[" * 9_000,
                    b'{"token": 1, "event": {}, "id": [], "at_ns": "x"}',
                    json.dumps({"token": self.pane_token, "event": "Stop", "id": "x" * 150, "at_ns": 2**70}).encode(),
                    json.dumps({"token": self.pane_token, "event": "\0" * 50, "id": "", "at_ns": -1}).encode(),
                )
            )
            payload = source.choice((b"", source.randbytes(500), b"{" * 50_000, b"x" * 1_500_000, b"null", b"[1]"))
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(head + b"\n" + payload)
                writer.write_eof()
                async with asyncio.timeout(10):
                    answer = await reader.read(4_000)
                word = answer.partition(b"\n")[0].decode(errors="replace")
                outcomes.codes[word or "nothing"] += 1
                if _TRACEBACK.search(answer.decode(errors="replace")):
                    outcomes.faults.append(f"a report of {head[:80]!r} was answered {answer[:300]!r}")
            finally:
                writer.close()

        await in_parallel(count, one)
        outcomes.made = count
        return outcomes


async def in_parallel(count: int, one: Callable[[], Awaitable[None]], *, at_once: int = AT_ONCE) -> None:
    """Do something `count` times, so many at a time."""
    left = count

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await one()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())


async def call(
    channel: grpc.aio.Channel,
    method: str,
    requests: list[bytes],
    outcomes: Outcomes,
    metadata: tuple[tuple[str, str | bytes], ...] = (),
) -> None:
    """Make one call with requests as bytes, read what it answers for a moment, and note how it ended."""
    outcomes.made += 1

    async def sent() -> AsyncIterator[bytes]:
        for request in requests:
            yield request

    made: Any
    if client_streams(method):
        made = channel.stream_stream(f"/{method}")(sent(), metadata=metadata, timeout=10)
    else:
        made = channel.unary_stream(f"/{method}")(requests[0], metadata=metadata, timeout=10)
    try:
        with as_ended(made):
            async with asyncio.timeout(READ_SECONDS):
                while await made.read() is not grpc.aio.EOF:
                    pass
    except TimeoutError:
        made.cancel()
        outcomes.codes["went on"] += 1
        return
    except grpc.aio.AioRpcError as error:
        code, details, trailers = error.code(), error.details() or "", error.trailing_metadata()
    else:
        code, details, trailers = grpc.StatusCode.OK, "", grpc.aio.Metadata()
    told = details + "".join(value.decode(errors="replace") for key, value in trailers if isinstance(value, bytes))
    outcomes.note(method, code, told, requests)


def client_streams(method: str) -> bool:
    """Whether the requests of a method are a stream."""
    return bool(_method(method).client_streaming)


def _method(method: str) -> MethodDescriptor:
    service, name = method.split("/")
    found: MethodDescriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return found


def certificate_files(identity: StoredIdentity, folder: Path) -> tuple[Path, Path]:
    """Write a certificate and its key where Python's ssl can read them."""
    certificate, key = folder / "raw.pem", folder / "raw.key"
    certificate.write_bytes(identity.certificate_pem)
    key.write_bytes(identity.key_pem)
    return certificate, key


@contextlib.asynccontextmanager
async def fuzzed_mesh(database_url: str) -> AsyncIterator[Fuzzed]:
    """A mesh without rate limits, with the seat `worker` on an honest host."""
    async with running_mesh(database_url, environment=NO_LIMITS) as mesh:
        honest = await mesh.join("honest")
        await mesh.apply({"worker": "honest"})
        await mesh.until_available("worker")
        assert mesh.operator is not None
        fuzzed_host = JoinToken.parse(await mesh.token("fuzzed"))
        identities = {
            "admin": mesh.operator,
            "viewer": await mesh.another_operator("eve", role="viewer"),
            "host": await asyncio.to_thread(enrolment.enrol, fuzzed_host, mesh.folder / "fuzzed"),
        }
        environment = await inside(mesh, "worker")
        peers = {name: await stand_in_peer(mesh, name) for name in ("west", "leaving")}
        yield Fuzzed(mesh, honest, identities, environment[pane.TOKEN], peers)
