"""procrastinate doing the backlog's work: jobs that do nothing. Runs in the peers' environment; prints JSON.

python procrastinate_peer.py URL throughput JOBS WORKERS | URL latency ROUNDS
"""

import asyncio
import json
import statistics
import sys
import time

import procrastinate


async def throughput(app: procrastinate.App, jobs: int, workers: int) -> float:
    """Return jobs a second: one worker that runs so many at once."""

    @app.task(name="nothing")
    async def nothing() -> None: ...

    async with app.open_async():
        await nothing.batch_defer_async(*({} for _ in range(jobs)))
        began = time.perf_counter()
        await app.run_worker_async(concurrency=workers, wait=False, install_signal_handlers=False)
        return jobs / (time.perf_counter() - began)


async def latency(app: procrastinate.App, rounds: int) -> float:
    """Return the median milliseconds from the call that makes a job to its start in an idle worker."""
    started: asyncio.Queue[float] = asyncio.Queue()

    @app.task(name="mark")
    async def mark() -> None:
        started.put_nowait(time.perf_counter())

    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(concurrency=1, install_signal_handlers=False))
        await asyncio.sleep(1)
        taken = []
        for _ in range(rounds):
            began = time.perf_counter()
            await mark.defer_async()
            taken.append((await started.get() - began) * 1000)
            await asyncio.sleep(0.02)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        return statistics.median(taken)


async def main() -> None:
    url, what, *numbers = sys.argv[1:]
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
    measure = {"throughput": throughput, "latency": latency}[what]
    print(json.dumps(await measure(app, *map(int, numbers))))


asyncio.run(main())
