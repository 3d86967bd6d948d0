"""A message that is in the journal is delivered, whatever becomes of the link that brought it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mosaic_hostagent.clock import Clock
from mosaic_hostagent.mailroom import Mailroom
from mosaic_proto.v1 import host_link_pb2


async def test_a_message_whose_link_ends_while_it_is_journalled_is_queued_for_its_seat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written, queued = asyncio.Event(), []

    async def receive(_message: object) -> tuple[str, bool]:
        await written.wait()
        return "dispatched", True

    mailroom = Mailroom(cast(Any, SimpleNamespace(receive=receive)), {}, Clock(), lambda *_: None)
    monkeypatch.setattr(mailroom, "_put", queued.append)
    taking = asyncio.create_task(mailroom.take(host_link_pb2.Dispatch(message_id="m", agent_id="a", body="echo")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    taking.cancel()  # as the link does to its reader when it ends
    written.set()
    await asyncio.wait([taking])
    await mailroom.close(grace=1.0)
    assert taking.cancelled()
    assert [message.message_id for message in queued] == ["m"]
