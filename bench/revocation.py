"""bench/revocation: how soon somebody who is revoked is out, on the replica that was told and on another.

script/bench revocation [--rounds 20]

Two replicas over one register that waits for the disk. An operator holds a stream on each and calls each over and over;
taken is the time from the call that revokes to the end of the last of it. The floor beside it is that call alone.
Ends with 1 when the promise of the last column is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

import grpc
import grpc.aio
from mosaic_framework import wire
from mosaic_framework.errors import FleetError
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import common_pb2, fleet_pb2, fleet_pb2_grpc, identity_pb2, identity_pb2_grpc

from bench.send import durable_register
from tests.mesh.test_revocation import login
from tests.mesh.test_two_replicas import Replica
from tests.support.checkout import ROOT
from tests.support.mesh import Mesh, running_mesh

PROMISE = 1.0


async def stream_ends(channel: grpc.aio.Channel, begun: asyncio.Event) -> float:
    """Watch the fleet until the stream ends in an error; returns when that was (monotonic)."""
    try:
        async for _ in fleet_pb2_grpc.FleetServiceStub(channel).Watch(fleet_pb2.WatchRequest()):
            begun.set()
    except grpc.aio.AioRpcError as error:
        _check(wire.error_from_rpc(error))
        return time.monotonic()
    raise AssertionError("the stream ended by itself")


async def calls_refused(channel: grpc.aio.Channel, begun: asyncio.Event) -> float:
    """Call over and over until it is refused; returns when the last one that was answered was answered (monotonic)."""
    fleet = fleet_pb2_grpc.FleetServiceStub(channel)
    answered = 0.0
    while True:
        try:
            await fleet.GetCluster(fleet_pb2.GetClusterRequest())
        except grpc.aio.AioRpcError as error:
            _check(wire.error_from_rpc(error))
            return answered
        answered = time.monotonic()
        begun.set()
        await asyncio.sleep(0.01)


def _check(error: FleetError) -> None:
    if error.code != "identity-revoked":
        raise error


async def one_round(mesh: Mesh, other: Replica, identity: StoredIdentity) -> tuple[float, float, float]:
    """Revoke; returns the seconds until it was answered, the last stream had ended, the last call had passed."""
    channels = [wire.aio_channel(identity, address) for address in (f"{mesh.listen}:{mesh.fleet_port}", other.address)]
    begun = [asyncio.Event() for _ in range(4)]
    streams = [asyncio.create_task(stream_ends(one, on)) for one, on in zip(channels, begun[:2], strict=True)]
    calls = [asyncio.create_task(calls_refused(one, on)) for one, on in zip(channels, begun[2:], strict=True)]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(one.wait() for one in begun))
            began = time.monotonic()
            request = identity_pb2.RevokeRequest(
                request_id=str(new_id()), kind=common_pb2.PRINCIPAL_KIND_OPERATOR, name="eve", reason="a benchmark"
            )
            await identity_pb2_grpc.IdentityServiceStub(mesh.channel).Revoke(request)
            answered = time.monotonic()
            ends = await asyncio.gather(*streams)
            passed = await asyncio.gather(*calls)
    finally:
        for task in (*streams, *calls):
            task.cancel()
        for channel in channels:
            await channel.close()
    return answered - began, max(ends) - began, max(0.0, max(passed) - began)


async def run(rounds: int) -> bool:
    """Measure and print the table. Returns whether the promise was kept."""
    with durable_register() as (folder, url):
        async with running_mesh(url) as mesh:
            other = Replica(mesh)
            await other.start()
            try:
                taken = [await one_round(mesh, other, await _eve(mesh, folder, number)) for number in range(rounds)]
            finally:
                await other.close()
    names = ("floor: the call that revokes", "the last of two streams ends", "the last call is let through")
    print(f"{'until':<32}{'rounds':>7}{'p50 ms':>10}{'longest ms':>12}  promise")
    for name, column in zip(names, zip(*taken, strict=True), strict=True):
        promise = "" if name.startswith("floor") else f"within {PROMISE:g} s"
        print(f"{name:<32}{rounds:>7}{statistics.median(column) * 1e3:>10.1f}{max(column) * 1e3:>12.1f}  {promise}")
    return all(max(row[1:]) <= PROMISE for row in taken)


async def _eve(mesh: Mesh, folder: Path, number: int) -> StoredIdentity:
    """Return a new identity of the same operator."""
    return await login(mesh, "eve", folder / f"eve-{number}")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="How soon somebody who is revoked is out, on each of two replicas.")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.exit(0 if asyncio.run(run(options.rounds)) else 1)


if __name__ == "__main__":
    main()
