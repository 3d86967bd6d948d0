"""Keeps this host's leaf young: renewed at half its life, over the link, and shown where the older one is in use."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
import structlog
from mosaic_framework import pki, renewal
from mosaic_framework.errors import Denied, FleetError
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.wire import error_from_rpc
from mosaic_proto.v1 import identity_pb2 as pb
from mosaic_proto.v1.identity_pb2_grpc import IdentityServiceStub

from mosaic_hostagent.waiting import wait_at_most

ANSWER_SECONDS = 10.0
_LONGEST_WAIT = 60.0  # a machine that was suspended finds its leaf old when it wakes up
_SPREAD_SECONDS = 30.0  # hosts that were all away, or all hear of a new root, do not come at one moment

log = structlog.get_logger(__name__)


async def present(channel: grpc.aio.Channel, leaf_pem: bytes, fresh: StoredIdentity) -> None:
    """Let what runs on a channel that was opened with `leaf_pem` go on under a renewed leaf. Raises FleetError."""
    try:
        await IdentityServiceStub(channel).Present(renewal.presentation(leaf_pem, fresh), timeout=ANSWER_SECONDS)
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error


class Renewing:
    """Renews whenever it is due and the link is up. The live link is never ended for it.

    `opened`: the link's channel with the certificate that it was opened with, None while there is no link.
    `present_elsewhere` shows a renewed leaf on every other channel.
    """

    def __init__(
        self,
        folder: Path,
        *,
        opened: Callable[[], tuple[grpc.aio.Channel, bytes] | None],
        present_elsewhere: Callable[[StoredIdentity], Awaitable[None]],
    ) -> None:
        self._folder = folder
        self._opened = opened
        self._present_elsewhere = present_elsewhere
        self._poked = asyncio.Event()
        self._roots = b""

    def poke(self) -> None:
        """Look again: the link is up."""
        self._poked.set()

    def roots_told(self, digest: bytes) -> None:
        """The cluster trusts these roots now (their digest); with others here, a renewal brings them."""
        self._roots = digest
        self._poked.set()

    async def run(self) -> None:
        """Keep it young until cancelled."""
        while True:
            pause = _LONGEST_WAIT
            try:
                identity = StoredIdentity.load(self._folder)
                pause = await self._look(identity)
            except (FleetError, OSError) as error:
                pause = self._failed(error)
            await wait_at_most(self._poked, pause)
            self._poked.clear()

    async def _look(self, identity: StoredIdentity) -> float:
        """Renew if it is time. Returns after how many seconds to look again, unless poked."""
        if self._opened() is None:
            return _LONGEST_WAIT
        if not identity.due() and self._roots in (b"", pki.bundle_digest(identity.bundle_pem)):
            assert identity.renew_at is not None
            return min(_LONGEST_WAIT, max(0.0, _seconds_until(identity.renew_at)))
        await asyncio.sleep(random.uniform(0, min(_SPREAD_SECONDS, _seconds_until(identity.not_after) / 10)))  # noqa: S311
        loop = asyncio.get_running_loop()

        def ask(request: pb.RenewLeafRequest) -> pb.RenewLeafReply:
            return asyncio.run_coroutine_threadsafe(self._ask(request), loop).result()

        # In a thread: it waits for its turn at the folder, and for the disk.
        fresh = await asyncio.to_thread(renewal.renewed, self._folder, identity, ask)
        self._roots = b""  # what was told has been done; the next change is told anew
        log.info("the leaf was renewed", until=fresh.not_after.isoformat(), renew_at=str(fresh.renew_at))
        await self._present(fresh)
        return 0.0

    async def _ask(self, request: pb.RenewLeafRequest) -> pb.RenewLeafReply:
        opened = self._opened()
        if opened is None:
            raise FleetError("the link ended", why="the leaf is renewed with the next one")
        try:
            return await IdentityServiceStub(opened[0]).Renew(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error

    async def _present(self, fresh: StoredIdentity) -> None:
        opened = self._opened()
        try:
            if opened is not None and opened[1] != fresh.certificate_pem:
                await present(opened[0], opened[1], fresh)
            await self._present_elsewhere(fresh)
        except FleetError as error:
            # What runs there ends with the older leaf, and is begun anew with this one.
            log.warning("a renewed leaf could not be shown", what=error.what, why=error.why)

    def _failed(self, error: FleetError | OSError) -> float:
        with contextlib.suppress(FleetError):
            identity = StoredIdentity.load(self._folder)
            told = (error.what, error.why, error.next_step) if isinstance(error, FleetError) else (str(error), "", "")
            log.log(
                40 if isinstance(error, (Denied, OSError)) else 30,
                "the leaf could not be renewed",
                what=told[0],
                why=told[1],
                next=told[2],
                until=identity.not_after.isoformat(),
            )
            return renewal.pause_after_failure(identity)
        log.error("this host's identity cannot be read", what=str(error))
        return _LONGEST_WAIT


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()
