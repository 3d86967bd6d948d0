"""The one stream to the control plane: dialled by us, dialled again when it ends, and never needed for seats to run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from mosaic_framework import protocol
from mosaic_framework.call_endings import as_ended
from mosaic_framework.errors import Denied, FleetError, NotLoggedIn, Unreachable
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.steps import reached
from mosaic_framework.wire import aio_channel, error_from_rpc, how_to_come_back
from mosaic_proto.v1 import host_link_pb2 as pb
from mosaic_proto.v1 import host_link_pb2_grpc, runtimes_pb2

from mosaic_hostagent.addresses import following
from mosaic_hostagent.backoff import before_next_dial
from mosaic_hostagent.beats import Beats
from mosaic_hostagent.outgoing import Outgoing
from mosaic_hostagent.waiting import wait_at_most

if TYPE_CHECKING:
    from grpc.aio import StreamStreamCall

    Call = StreamStreamCall[pb.HostFrame, pb.ControlFrame]

CAPABILITIES = ("capture", "view", "claims", protocol.PACE)
STABLE_SECONDS = 10.0
_WELCOME_SECONDS = 10.0
_END_SECONDS = 5.0

log = structlog.get_logger(__name__)


class LinkSilent(Unreachable):
    """The control plane fell silent."""

    code = "link-silent"


class HostReplaced(FleetError):
    """The identity in this home is of another host now."""

    code = "host-replaced"
    hint = "start the host-agent again"


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the rest of the host-agent does with what comes down. All are awaited in the order of the stream."""

    hello: Callable[[], Awaitable[pb.Hello]]
    welcome: Callable[[pb.Welcome], Awaitable[None]]
    """returns when the link epoch is on disk; only then is the host ready for messages. A FleetError ends the link"""
    desired: Callable[[pb.DesiredState], Awaitable[None]]
    dispatch: Callable[[pb.Dispatch], Awaitable[None]]
    cancel: Callable[[str], Awaitable[None]]
    acknowledged: Callable[[int], Awaitable[None]]
    capture: Callable[[pb.CaptureTerminal], Awaitable[pb.TerminalText]]
    explain: Callable[[pb.ExplainSeat], pb.ExplainedSeat]
    update: Callable[[runtimes_pb2.WantedUpdate], Awaitable[None]]
    open_view: Callable[[grpc.aio.Channel, pb.OpenView, int], Awaitable[None]]
    """calls back over the link's own connection, under the link's epoch, until the view ends"""
    claims: Callable[[pb.ClaimsHeld], Awaitable[None]]
    roots: Callable[[bytes], None]
    """told which roots the cluster trusts: their digest"""
    replicas: Callable[[list[str]], None]
    """told the fleet addresses of the replicas that live now"""


class Link:
    """Keeps a link up. `addresses` and `identity` are asked at each dial, so that a new enrolment is taken up."""

    def __init__(
        self,
        *,
        identity: Callable[[], StoredIdentity],
        addresses: Callable[[StoredIdentity], list[str]],
        outgoing: Outgoing,
        handlers: Handlers,
        on_up: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._addresses = addresses
        self._outgoing = outgoing
        self._handlers = handlers
        self._on_up = on_up
        self._dials = 0
        self._dialled = ""
        self.up = False
        self.address = ""
        """the control plane at the other end of the link; empty while there is none"""
        self.opened: tuple[grpc.aio.Channel, bytes] | None = None
        """the link's channel while it is up, and the certificate (PEM) that it was opened with"""

    @property
    def dials(self) -> int:
        """How often it was dialled."""
        return self._dials

    async def run(self) -> None:
        """Dial until cancelled: one address after another, with full jitter from 0.2 s up to 10 s between.

        After a limit's refusal not before it said that there is room.
        """
        attempt = 0
        failure: FleetError | None
        while True:
            began, failure = time.monotonic(), None
            try:
                await self._dial()
            except HostReplaced:
                raise  # everything else of this process is the other host's
            except FleetError as error:
                refused = isinstance(error, Denied)
                failure = error
                log.log(
                    40 if refused else 30,
                    "link down",
                    code=error.code,
                    what=error.what,
                    why=error.why,
                    next=error.next_step,
                )
            else:
                log.info("link ended by the control plane")
            attempt = 0 if time.monotonic() - began >= STABLE_SECONDS else attempt + 1
            await asyncio.sleep(before_next_dial(attempt, failure))

    async def _dial(self) -> None:
        identity = self._identity()
        addresses = self._addresses(identity)
        if identity.expired():
            raise NotLoggedIn(
                f"the certificate of host {identity.name} has expired",
                why=f"it was valid until {identity.not_after:%Y-%m-%d %H:%M} UTC, by this machine's clock",
                next_step=how_to_come_back(identity),
            )
        # By the last one, not by a count: what a welcome said of who lives has put the addresses into another order.
        address = self._dialled = following(addresses, self._dialled)
        self._dials += 1
        async with aio_channel(identity, address) as channel:
            stub = host_link_pb2_grpc.HostLinkServiceStub(channel)
            # The hello tells of all seats as they are at this moment; what is reported from here on goes after it. Made
            # before the call, which may have failed by the time that anything else has been waited for.
            self._outgoing.rewind()
            hello = await self._handlers.hello()
            call: Call = stub.Link()
            try:
                frames: Any = aiter(call)
                # Closed, or the call and what reads it would hold one another.
                with as_ended(call):
                    async with aclosing(frames):
                        await self._hold(call, frames, hello, address, channel, identity)
            except grpc.RpcError as error:
                raise error_from_rpc(error) from error
            finally:
                self.up = False
                self.address = ""
                self.opened = None
                call.cancel()

    async def _hold(
        self,
        call: Call,
        frames: AsyncIterator[object],
        hello: pb.Hello,
        address: str,
        channel: grpc.aio.Channel,
        identity: StoredIdentity,
    ) -> None:
        try:
            async with asyncio.timeout(_WELCOME_SECONDS):
                await call.write(pb.HostFrame(hello=hello))
                first = await anext(frames, None)
        except TimeoutError:
            raise LinkSilent(f"the control plane at {address} said no welcome", why="none came within 10 s") from None
        if not isinstance(first, pb.ControlFrame):
            return
        if first.WhichOneof("frame") != "welcome":
            raise LinkSilent(f"what answers at {address} speaks another protocol")
        welcome = first.welcome
        them = f"the control plane at {address}"
        protocol.agree(welcome.protocol_version, welcome.oldest_protocol, them=them, us="this host-agent")
        await self._handlers.welcome(welcome)
        self._outgoing.answer(pb.HostFrame(ready=pb.Ready(link_epoch=welcome.link_epoch)))
        self.up = True
        self.address = address
        self.opened = channel, identity.certificate_pem
        log.info("link up", address=address, link_epoch=welcome.link_epoch, replica=welcome.replica_id)
        self._on_up()
        beats = Beats(welcome.beat_interval_ms, welcome.answer_within_ms)
        tasks = [
            asyncio.create_task(self._read(frames, beats, channel, welcome.link_epoch), name="link-read"),
            asyncio.create_task(self._write(call), name="link-write"),
            asyncio.create_task(self._beat(beats, address), name="link-beat"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, frames: AsyncIterator[object], beats: Beats, channel: grpc.aio.Channel, epoch: int) -> None:
        captures: set[asyncio.Future[None]] = set()
        try:
            async for frame in frames:
                if not isinstance(frame, pb.ControlFrame):  # gRPC's way to say that it cannot be decoded
                    raise LinkSilent("what the control plane says cannot be read", why="it speaks another protocol")
                beats.heard(time.monotonic())
                match frame.WhichOneof("frame"):
                    case "desired":
                        await self._handlers.desired(frame.desired)
                    case "dispatch":
                        await self._handlers.dispatch(frame.dispatch)
                    case "cancel":
                        await self._handlers.cancel(frame.cancel.message_id)
                    case "update":
                        await self._handlers.update(frame.update)
                    case "acknowledged":
                        await self._handlers.acknowledged(frame.acknowledged.sequence)
                    case "roots":
                        self._handlers.roots(frame.roots.digest)
                    case "replicas":
                        self._handlers.replicas(list(frame.replicas.fleet_addresses))
                    case "claims_held":
                        await self._handlers.claims(frame.claims_held)
                    case "pace":
                        beats.set_pace(frame.pace.beat_interval_ms, frame.pace.answer_within_ms)
                    case "capture":
                        task: asyncio.Future[None] = asyncio.create_task(
                            self._capture(frame.capture), name="link-capture"
                        )
                        captures.add(task)
                        task.add_done_callback(captures.discard)
                    case "explain":
                        answered = pb.HostFrame(explained=self._handlers.explain(frame.explain))
                        self._outgoing.answer(answered)
                    case "open_view":
                        serving = self._handlers.open_view(channel, frame.open_view, epoch)
                        view = asyncio.ensure_future(serving)
                        captures.add(view)
                        view.add_done_callback(captures.discard)
        finally:
            for task in captures:
                task.cancel()
            # A view lets go of its tmux client and of a lease before the next link may open it again.
            await asyncio.gather(*captures, return_exceptions=True)

    async def _capture(self, asked: pb.CaptureTerminal) -> None:
        self._outgoing.answer(pb.HostFrame(terminal=await self._handlers.capture(asked)))

    async def _write(self, call: Call) -> None:
        while True:
            for frame in await self._outgoing.next_frames():
                try:
                    await call.write(frame)
                except (asyncio.InvalidStateError, grpc.RpcError):
                    # The call is over. Who reads takes what came before its end, and only then hears how it ended;
                    # unless what came keeps it for long.
                    await asyncio.sleep(_END_SECONDS)
                    raise
                if frame.WhichOneof("frame") == "event":
                    reached("hostagent.event-sent")

    async def _beat(self, beats: Beats, address: str) -> None:
        """Beat, and end the link when a beat has not been answered in time."""
        sequence = 0
        while True:
            now = time.monotonic()
            if beats.silent(now):
                why = f"a beat was not answered within {beats.answer_within:.3g} s"
                raise LinkSilent(f"the control plane at {address} fell silent", why=why)
            if beats.due(now):
                sequence += 1
                self._outgoing.answer(pb.HostFrame(beat=pb.Beat(sequence=sequence)))
                beats.sent(now)
            beats.changed.clear()
            await wait_at_most(beats.changed, beats.next_look(now))
