"""Carries out faults across clusters, and takes them back."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import grpc.aio

from bench.faults.schedule import Fault
from bench.faults.site import Kept
from bench.federation_faults.history import AcrossRun
from bench.federation_faults.layout import REPLICAS, SEES
from bench.federation_faults.site import Site


class Breaking:
    """Does all of a schedule to a site. What it did for good goes into the run."""

    def __init__(self, site: Site, run: AcrossRun, chance: random.Random) -> None:
        self._site, self._run, self._chance = site, run, chance
        self._of = {name: cluster for cluster, names in REPLICAS.items() for name in names}
        self._copies: dict[Fault, tuple[Path, float]] = {}
        self._at_database = {name: asyncio.Lock() for name in REPLICAS}
        self.skipped = 0
        """faults that could not be done, since another one was in their way"""

    async def run(self, faults: Sequence[Fault], *, window: float) -> None:
        """Carry out all faults in their time; at the end of the window everything is healed."""
        began = time.monotonic()

        async def one(fault: Fault) -> None:
            await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
            await self._do(fault)
            await asyncio.sleep(max(0.0, began + fault.until - time.monotonic()))
            await self._undo(fault)

        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                tasks.create_task(one(fault))
        await asyncio.sleep(max(0.0, began + window - time.monotonic()))
        self._heal()

    async def _do(self, fault: Fault) -> None:
        network = self._site.network
        match fault.kind:
            case "cut clusters":
                for replica in REPLICAS[fault.target]:
                    network.cut(replica, REPLICAS[fault.other])
            case "cut replica":
                network.cut(fault.target)
            case "loss":
                network.lose([fault.target], fault.amount)
            case "kill replica":
                await asyncio.to_thread(self._replica(fault.target).kill, fault.lasting)
            case "pause replica":
                self._signal(fault.target, signal.SIGSTOP)
            case "restart database":
                async with self._at_database[fault.target]:
                    if (database := self._site.clusters[fault.target].database).runs:
                        await database.stop(fault.other)
            case "put back":
                copied = time.monotonic()
                if (file := await self._site.clusters[fault.target].copy()) is not None:
                    self._copies[fault] = file, copied
            case "grants":
                await self._grants(fault)
            case _:
                raise ValueError(fault.kind)

    async def _undo(self, fault: Fault) -> None:
        network = self._site.network
        match fault.kind:
            case "cut clusters":
                for replica in REPLICAS[fault.target]:
                    network.join(replica, REPLICAS[fault.other])
            case "cut replica":
                network.join(fault.target)
            case "loss":
                network.lose([fault.target], 0.0)
            case "pause replica":
                self._signal(fault.target, signal.SIGCONT)
            case "restart database":
                self._start_database(fault.target)
            case "put back":
                await self._put_back(fault)
            case "grants":
                await self._grants(fault)

    async def _put_back(self, fault: Fault) -> None:
        if fault not in self._copies:
            self.skipped += 1
            return
        file, copied = self._copies[fault]
        async with self._at_database[fault.target]:
            self._start_database(fault.target)
            self._run.put_back.append(await self._site.clusters[fault.target].put_back(file, copied=copied))

    async def _grants(self, fault: Fault) -> None:
        try:
            await self._site.see_otherwise(fault.target, fault.other, *self._chance.choice(SEES))
        except grpc.aio.AioRpcError:
            self.skipped += 1  # whatever came of it, what the owner's register says is what counts

    def _heal(self) -> None:
        self._site.network.heal()
        for name, cluster in self._site.clusters.items():
            self._start_database(name)
            for kept in cluster.kept.values():
                if kept.program.runs:
                    kept.program.signal(signal.SIGCONT)

    def _start_database(self, cluster: str) -> None:
        if not (database := self._site.clusters[cluster].database).runs:
            database.start()

    def _replica(self, name: str) -> Kept:
        return self._site.clusters[self._of[name]].replicas[name]

    def _signal(self, name: str, number: signal.Signals) -> None:
        if (program := self._replica(name).program).runs:
            program.signal(number)
