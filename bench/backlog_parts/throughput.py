"""Claims and completions a second: in this process, through the peers' own workers, and over work streams with mTLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from mosaic_controlplane.backlog.claiming import Wish
from mosaic_controlplane.register.card_claim import Completion
from mosaic_controlplane.register.postgres_cluster import Cluster
from mosaic_framework import wire
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import backlog_pb2_grpc

from bench.backlog_parts.databases import fresh, vacuumed
from bench.backlog_parts.shapes import FLAT, load
from bench.backlog_parts.yards import open_yard
from tests.support.checkout import ROOT
from tests.support.mesh import running_mesh

PEERS_ENVIRONMENT = ROOT / ".venv-bench"
PEERS = ("procrastinate", "pgqueuer")


def peers_python() -> Path:
    """Return the interpreter of an environment with the peers in it, made on first use: no dependency of ours."""
    python = PEERS_ENVIRONMENT / "bin" / "python"
    if not python.exists():
        print(f"making {PEERS_ENVIRONMENT.name} with {' and '.join(PEERS)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS_ENVIRONMENT)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *PEERS, "asyncpg", "psycopg[binary,pool]"]
        subprocess.run(install, check=True, stdout=sys.stderr)
    return python


async def peer(cluster: Cluster, name: str, *words: object) -> float:
    """Run a peer on a database of its own; returns the figure that it prints."""
    url = await fresh(cluster, "peer", migrated=False)
    script = Path(__file__).parents[1] / "peers" / f"{name}_peer.py"
    process = await asyncio.create_subprocess_exec(
        str(peers_python()),
        str(script),
        url,
        *map(str, words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, talk = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{name} failed: {talk.decode()[-2000:]}")
    return float(json.loads(out.decode().splitlines()[-1]))


async def in_process(cluster: Cluster, *, jobs: int, workers: int, one_call: bool) -> float:
    """Return cards a second that callers in this process work off; `one_call`: done and next in one, else in two."""
    url = await fresh(cluster, "throughput")
    tenant_id = new_id()
    await load(url, FLAT, jobs, tenant_id=tenant_id)
    await vacuumed(url, "fleet.card")
    async with open_yard(url, tenant_id) as yard:

        async def by_two_calls() -> int:
            who, done = yard.worker(), 0
            while taken := await yard.claim(who):
                await yard.complete(who, taken[0].card.card_id, taken[0].fence)
                done += 1
            return done

        async def by_one_call() -> int:
            who, done = yard.worker(), 0
            finished: list[Completion] = []
            while True:
                answers, taken = await yard.backlog.claiming.work(tenant_id, finished, Wish(new_id(), who))
                done += sum(1 for answer in answers if not answer.refusal)
                if not taken:
                    return done
                finished = [Completion(one.card.card_id, one.fence, who, new_id()) for one in taken]

        worker = by_one_call if one_call else by_two_calls
        began = time.perf_counter()
        done = await asyncio.gather(*(worker() for _ in range(workers)))
        seconds = time.perf_counter() - began
        left = await yard.database.pool.fetchval("select count(*) from fleet.card where status <> 'done'")
    assert (sum(done), left) == (jobs, 0)
    return jobs / seconds


async def streamed(cluster: Cluster, *, jobs: int, agents: int) -> float:
    """Return cards a second over work streams: a control plane process, a connection with mTLS for each agent."""
    url = await fresh(cluster, "streams")
    async with running_mesh(url) as mesh:
        stub: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(mesh.channel)
        drafts = [pb.CardDraft(content=pb.CardContent(title=f"card {n}")) for n in range(jobs)]
        for first in range(0, jobs, 2000):
            await stub.Create(pb.CreateCardsRequest(request_id=str(new_id()), cards=drafts[first : first + 2000]))
        assert mesh.operator is not None
        async with contextlib.AsyncExitStack() as stack:
            # Connected before the clock starts, as the peers' workers are.
            channels = [
                await stack.enter_async_context(wire.aio_channel(mesh.operator, f"{mesh.listen}:{mesh.fleet_port}"))
                for _ in range(agents)
            ]
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
            began = time.perf_counter()
            done = await asyncio.gather(*(_agent(channel) for channel in channels))
            seconds = time.perf_counter() - began
        left = await mesh.register_value("select count(*) from fleet.card where status <> 'done'")
    assert (sum(done), left) == (jobs, 0)
    return jobs / seconds


async def _agent(channel: grpc.aio.Channel) -> int:
    """Work until nothing is left: done and next in one message. Returns how many cards were done."""
    done = 0
    answered: asyncio.Queue[pb.WorkReply] = asyncio.Queue()

    async def requests() -> AsyncIterator[pb.WorkRequest]:
        nonlocal done
        yield pb.WorkRequest(request_id=str(new_id()), claimant_id=str(new_id()), next=1)
        while (reply := await answered.get()).claims:
            (claim,) = reply.claims
            done += 1
            finished = pb.CompleteRequest(card_id=claim.card.id, fence=claim.fence)
            yield pb.WorkRequest(request_id=str(new_id()), done=[finished], next=1)

    stub: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(channel)
    async for reply in stub.Work(requests()):
        assert not any(one.HasField("error") for one in reply.done), reply
        answered.put_nowait(reply)
    return done


async def wait_latency(cluster: Cluster, *, rounds: int) -> float:
    """Return the median milliseconds from the call that makes a card to a waiting claim's answer elsewhere."""
    url = await fresh(cluster, "waiting")
    async with running_mesh(url) as mesh:
        assert mesh.operator is not None
        made: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(mesh.channel)
        taken = []
        async with wire.aio_channel(mesh.operator, f"{mesh.listen}:{mesh.fleet_port}") as channel:
            waits: backlog_pb2_grpc.BacklogServiceAsyncStub = backlog_pb2_grpc.BacklogServiceStub(channel)

            async def wait() -> tuple[float, pb.ClaimReply]:
                reply = await waits.Claim(pb.ClaimRequest(request_id=str(new_id()), wait=Duration(seconds=60)))
                return time.perf_counter(), reply

            for _ in range(rounds + 3):
                waiting = asyncio.create_task(wait())
                await asyncio.sleep(0.05)
                draft = pb.CardDraft(content=pb.CardContent(title="card"))
                began = time.perf_counter()
                await made.Create(pb.CreateCardsRequest(request_id=str(new_id()), cards=[draft]))
                at, reply = await waiting
                assert len(reply.claims) == 1
                taken.append((at - began) * 1000)
    return statistics.median(taken[3:])
