"""pgqueuer doing the backlog's work: jobs that do nothing. Runs in the peers' environment; prints JSON.

python pgqueuer_peer.py URL throughput JOBS WORKERS | URL batched JOBS WORKERS | URL latency ROUNDS
"""

import asyncio
import json
import statistics
import sys
import time
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode


async def throughput(url: str, jobs: int, workers: int, *, batch: int = 1) -> float:
    """Return jobs a second: so many workers, each with a connection of its own, that take `batch` jobs at once."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    await queries.enqueue(["nothing"] * jobs, [None] * jobs, [0] * jobs)
    queues = []
    for _ in range(workers):
        queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

        @queue.entrypoint("nothing")
        async def nothing(_job: object) -> None: ...

        queues.append(queue)
    began = time.perf_counter()
    await asyncio.gather(
        *(
            queue.run(dequeue_timeout=timedelta(seconds=1), batch_size=batch, mode=QueueExecutionMode.drain)
            for queue in queues
        )
    )
    return jobs / (time.perf_counter() - began)


async def batched(url: str, jobs: int, workers: int) -> float:
    """Return jobs a second with the library's own batches of 10."""
    return await throughput(url, jobs, workers, batch=10)


async def latency(url: str, rounds: int) -> float:
    """Return the median milliseconds from the call that makes a job to its start in an idle worker."""
    started: asyncio.Queue[float] = asyncio.Queue()
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

    @queue.entrypoint("mark")
    async def mark(_job: object) -> None:
        started.put_nowait(time.perf_counter())

    worker = asyncio.create_task(queue.run(dequeue_timeout=timedelta(seconds=30), batch_size=1))
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    await asyncio.sleep(1)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        await queries.enqueue("mark", None)
        taken.append((await started.get() - began) * 1000)
        await asyncio.sleep(0.02)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    return statistics.median(taken)


async def main() -> None:
    url, what, *numbers = sys.argv[1:]
    await Queries(AsyncpgDriver(await asyncpg.connect(url))).install()
    measure = {"throughput": throughput, "batched": batched, "latency": latency}[what]
    print(json.dumps(await measure(url, *map(int, numbers))))


asyncio.run(main())
