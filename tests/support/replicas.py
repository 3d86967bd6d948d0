"""A second replica of a mesh's control plane."""

from __future__ import annotations

import asyncio

import grpc.aio
from mosaic_framework import wire
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2_grpc, messages_pb2_grpc

from tests.support.mesh import Mesh
from tests.support.ports import free_port
from tests.support.program import Program, eventually


class Replica:
    """A second control plane, in a home of its own that holds the cluster's key file."""

    def __init__(self, mesh: Mesh) -> None:
        home = mesh.folder / "replica"
        pki = Home(home).pki
        pki.mkdir(parents=True, mode=0o700)
        key = pki / "authority.key"
        key.touch(mode=0o600)
        key.write_bytes((Home(mesh.controlplane.home).pki / "authority.key").read_bytes())
        self._mesh = mesh
        self.port = free_port(mesh.listen)
        ports = {
            "MOSAIC_FLEET_PORT": str(self.port),
            "MOSAIC_ENROL_PORT": str(free_port(mesh.listen)),
            "MOSAIC_PEER_PORT": "0",
        }
        environment = {**mesh.controlplane.environment, **ports}
        self.program = Program(["mosaic-controlplane", "serve"], home, environment)

    @property
    def address(self) -> str:
        return f"{self._mesh.listen}:{self.port}"

    async def start(self) -> None:
        """Start it; returns when the other one tells joiners of it."""
        self.program.start()
        serving = Home(self.program.home).run / "controlplane.json"
        await eventually(serving.exists, "the second replica serves", self.program)
        assert self._mesh.operator is not None
        self.channel: grpc.aio.Channel = wire.aio_channel(self._mesh.operator, self.address)
        self.fleet: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(self.channel)
        self.messages: messages_pb2_grpc.MessageServiceAsyncStub = messages_pb2_grpc.MessageServiceStub(self.channel)
        await asyncio.sleep(2)  # two ticks: the first replica has read that there is another

    async def close(self) -> None:
        await self.channel.close()
        self.program.kill()
