"""The control plane's end of host links: the real wire and mTLS, with a script instead of a register."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
from mosaic_framework import pki, protocol, wire
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import host_link_pb2 as pb
from mosaic_proto.v1 import host_link_pb2_grpc

TRUST_DOMAIN = "abcdefgh23456777.mosaic"


@dataclass
class HeldLink:
    """One link of a host, from here."""

    hello: pb.Hello
    epoch: int
    down: asyncio.Queue[pb.ControlFrame | None] = field(default_factory=asyncio.Queue)
    frames: list[pb.HostFrame] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    deaf: bool = False

    def send(self, **frame: object) -> None:
        self.down.put_nowait(pb.ControlFrame(**frame))  # type: ignore[arg-type]

    def drop(self) -> None:
        """End the stream from this side."""
        self.down.put_nowait(None)

    def of(self, kind: str) -> list[pb.HostFrame]:
        return [frame for frame in self.frames if frame.WhichOneof("frame") == kind]

    async def has(self, kind: str, count: int = 1, *, seconds: float = 10.0) -> list[pb.HostFrame]:
        """Wait until `count` frames of a kind have come, and return them."""
        async with asyncio.timeout(seconds):
            while len(self.of(kind)) < count:
                await self.changed.wait()
                self.changed.clear()
        return self.of(kind)


class FakeHostLinks(host_link_pb2_grpc.HostLinkServiceServicer):
    """Serves links. `beat_ms` is told to hosts; a link made while `deaf` gets no word; `acknowledges`: facts are."""

    def __init__(self, folder: Path, *, beat_ms: int = 200) -> None:
        self.beat_ms = beat_ms
        self.deaf = False
        self.acknowledges = True
        self.refuse: Exception | None = None
        self.disowns = 0
        """so many of the next links are told that their journal is an older one"""
        self.fleet_addresses: list[str] = []
        self.welcome = pb.Welcome(protocol_version=protocol.VERSION, oldest_protocol=protocol.OLDEST)
        """what every welcome says beside what belongs to its link"""
        self.links: list[HeldLink] = []
        self.linked = asyncio.Event()
        self.folder = folder
        self.host_id = str(new_id())
        self._authority = pki.Authority.create(TRUST_DOMAIN)
        self._server: grpc.aio.Server | None = None
        self.address = ""

    def twin(self) -> FakeHostLinks:
        """Return another replica of the same cluster, which is not started."""
        twin = FakeHostLinks(self.folder, beat_ms=self.beat_ms)
        twin._authority, twin.host_id = self._authority, self.host_id
        return twin

    async def start(self, port: int = 0) -> None:
        """Serve on a port of 127.0.0.1; the same one again after `stop`, to come back."""
        key = pki.new_key()
        leaf = self._authority.issue(
            key.public_key(),
            pki.SpiffeId(TRUST_DOMAIN, "replica", str(new_id())),
            identity_id=str(new_id()),
            identity_epoch=1,
            dns_names=[pki.SERVER_NAME],
        )
        self._server = grpc.aio.server(options=wire.SERVER_OPTIONS)
        host_link_pb2_grpc.add_HostLinkServiceServicer_to_server(self, self._server)
        bundle = pki.certificate_to_pem(self._authority.certificate)
        credentials = wire.fleet_server_credentials(pki.key_to_pem(key), pki.certificate_to_pem(leaf), bundle)
        bound = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self.address = f"127.0.0.1:{bound}"
        await self._server.start()

    async def stop(self) -> int:
        """Be gone, at once; returns the port."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None
        return int(self.address.rpartition(":")[2])

    def write_identity(self, folder: Path, *addresses: str) -> StoredIdentity:
        """Put a host's identity into `folder`, as enrolment would."""
        key = pki.new_key()
        spiffe_id = pki.SpiffeId(TRUST_DOMAIN, "host", "alpha", tenant="default")
        leaf = self._authority.issue(key.public_key(), spiffe_id, identity_id=self.host_id, identity_epoch=1)
        stored = StoredIdentity(
            kind="host",
            name="alpha",
            tenant="default",
            identity_id=self.host_id,
            identity_epoch=1,
            spiffe_id=str(spiffe_id),
            trust_domain=TRUST_DOMAIN,
            cluster="test",
            fleet_addresses=list(addresses) or [self.address],
            not_after=datetime.now(UTC) + timedelta(days=1),
            key_pem=pki.key_to_pem(key),
            certificate_pem=pki.certificate_to_pem(leaf),
            bundle_pem=pki.certificate_to_pem(self._authority.certificate),
        )
        stored.save(folder)
        return stored

    async def link(self, number: int = -1, *, count: int = 1, seconds: float = 15.0) -> HeldLink:
        """Wait until `count` links have been made in all, and return one."""
        async with asyncio.timeout(seconds):
            while len(self.links) < count:
                self.linked.clear()
                await self.linked.wait()
        return self.links[number]

    async def Link(  # noqa: N802 - the method's name on the wire
        self,
        request_iterator: AsyncIterator[pb.HostFrame],
        context: grpc.aio.ServicerContext[pb.HostFrame, pb.ControlFrame],
    ) -> AsyncIterator[pb.ControlFrame]:
        if self.refuse is not None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(self.refuse))
        first = await anext(request_iterator)
        assert first.WhichOneof("frame") == "hello"
        link = HeldLink(first.hello, len(self.links) + 1, deaf=self.deaf)
        self.links.append(link)
        self.linked.set()
        disowned, self.disowns = self.disowns > 0, max(0, self.disowns - 1)
        welcome = pb.Welcome(
            link_epoch=link.epoch,
            beat_interval_ms=self.beat_ms,
            fleet_addresses=self.fleet_addresses,
            journal_disowned=disowned,
        )
        welcome.MergeFrom(self.welcome)
        yield pb.ControlFrame(welcome=welcome)
        reader = asyncio.create_task(self._read(request_iterator, link))
        try:
            while (frame := await link.down.get()) is not None:
                yield frame
        finally:
            link.ended = True
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, frames: AsyncIterator[pb.HostFrame], link: HeldLink) -> None:
        async for frame in frames:
            link.frames.append(frame)
            link.changed.set()
            kind = frame.WhichOneof("frame")
            if kind == "beat" and not link.deaf:
                link.send(beat_acknowledged=pb.BeatAcknowledged(sequence=frame.beat.sequence))
            elif kind == "event" and self.acknowledges and not link.deaf:
                link.send(acknowledged=pb.EventsAcknowledged(sequence=frame.event.sequence))
