"""Two tenants on a mesh's control plane: callers of every kind, their things, and any call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from mosaic_framework import enrolment, wire
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.resolve import resolve_roster
from mosaic_framework.roster_file import parse_roster
from mosaic_proto.v1 import (
    backlog_pb2,
    backlog_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    messages_pb2,
    messages_pb2_grpc,
    people_pb2,
    people_pb2_grpc,
)

from tests.support.listeners import method_kinds
from tests.support.mesh import Mesh
from tests.support.peers import write_peer

UNANSWERED_SECONDS = 0.4
"""How long a stream is read: what it shows of others it would show at once."""


Caller = tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]


@dataclass
class Side:
    """A tenant: its callers (channel and metadata), the names of its things, and words that only its rows hold."""

    tenant: str
    callers: dict[str, Caller] = field(default_factory=dict)
    things: dict[str, str] = field(default_factory=dict)
    words: list[bytes] = field(default_factory=list)


def filled(request_class: Callable[[], Any], values: Mapping[str, str]) -> Any:
    """Return a request in which every text field of a known name, at any depth, says the value of that name."""
    request = request_class()
    _fill(request, values, depth=3)
    return request


def _fill(message: Any, values: Mapping[str, str], *, depth: int) -> None:
    for one in message.DESCRIPTOR.fields:
        if one.containing_oneof is not None and message.WhichOneof(one.containing_oneof.name) is not None:
            continue
        if one.type == FieldDescriptor.TYPE_STRING and one.name in values:
            value = values[one.name]
            if one.is_repeated:
                getattr(message, one.name).append(value)
            else:
                setattr(message, one.name, value)
        elif one.name == "request_id" and one.type == FieldDescriptor.TYPE_STRING:
            message.request_id = str(new_id())
        elif one.message_type is not None and not one.is_repeated and depth and "mosaic" in one.message_type.full_name:
            _fill(getattr(message, one.name), values, depth=depth - 1)


def speaks_of(message_type: Any, name: str, depth: int = 3) -> bool:
    """Say whether a request has a field of this name, at any depth."""
    return any(
        one.name == name
        or bool(depth and one.message_type is not None and speaks_of(one.message_type, name, depth - 1))
        for one in message_type.fields
    )


async def answer(caller: Caller, method: str, request: Any) -> tuple[str, bytes]:
    """Call, and return how it ended with what a person is told, and the bytes of the replies."""
    channel, metadata = caller
    requests_stream, replies_stream, request_class, reply_class = method_kinds(method)
    kind = f"{'stream' if requests_stream else 'unary'}_{'stream' if replies_stream else 'unary'}"
    stub: Any = getattr(channel, kind)(
        f"/{method}", request_serializer=request_class.SerializeToString, response_deserializer=reply_class.FromString
    )
    seen = b""
    seconds = UNANSWERED_SECONDS if requests_stream or replies_stream else 20
    made = stub(iter([request]) if requests_stream else request, metadata=metadata, timeout=seconds)
    try:
        if replies_stream:
            async for reply in made:
                seen += reply.SerializeToString()
        else:
            seen = (await made).SerializeToString()
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and (requests_stream or replies_stream):
            return "still open", seen
        told = wire.error_from_rpc(error)
        return f"{told.code}: {told.what} {told.why} {told.next_step}", seen
    return "answered", seen


async def ask_all(caller: Any, values: Mapping[str, str], methods: list[str]) -> dict[str, tuple[str, bytes]]:
    """Call every method: one after the other, since some change what others find; the streams at once."""
    found = {}
    streams = [method for method in methods if any(method_kinds(method)[:2])]
    for method in [name for name in methods if name not in streams]:
        found[method] = await answer(caller, method, filled(method_kinds(method)[2], values))
    replies = await asyncio.gather(*(answer(caller, name, filled(method_kinds(name)[2], values)) for name in streams))
    return found | dict(zip(streams, replies, strict=True))


async def settle(mesh: Mesh, side: Side, stack: AsyncExitStack, folder: Path, admin: StoredIdentity) -> None:
    """Give a tenant callers of every kind, a host, agents, a message and a card, all named after it."""
    address = f"{mesh.listen}:{mesh.fleet_port}"

    async def channel(identity: StoredIdentity) -> grpc.aio.Channel:
        return await stack.enter_async_context(wire.aio_channel(identity, address))

    async def joined(token: str, name: str) -> StoredIdentity:
        return await asyncio.to_thread(enrolment.enrol, JoinToken.parse(token), folder / name)

    word = side.tenant
    side.callers["admin"] = (await channel(admin), ())
    people = people_pb2_grpc.OperatorServiceStub(side.callers["admin"][0])
    for role in ("operator", "viewer"):
        reply = await people.CreateToken(
            people_pb2.CreateOperatorTokenRequest(request_id=str(new_id()), name=f"{word}-{role}", role=role)
        )
        side.callers[role] = (await channel(await joined(reply.token, f"{word}-{role}")), ())
    hosts = mesh_stub(side, "HostService")
    made = await hosts.CreateToken(fleet_pb2.CreateHostTokenRequest(request_id=str(new_id()), name=f"{word}-host"))
    host = await joined(made.token, f"{word}-host")
    side.callers["host"] = (await channel(host), ())
    roster = f"""\
version: 1
transport: tmux
agents:
  - name: {word}-agent
    alias: leak-{word}
    class: orchestrator
    runtime: shell
    host: {word}-host
    working_directory: /tmp
  - name: {word}-pi
    runtime: pi
    host: {word}-host
    working_directory: /tmp
"""
    catalog = Catalog(shipped_data())
    resolved = resolve_roster(parse_roster(roster, source="r", catalog=catalog).roster, catalog=catalog)
    await mesh_stub(side, "FleetService").ApplyRoster(
        fleet_pb2.ApplyRosterRequest(
            request_id=str(new_id()), document=resolved.document, seats=resolved.seats, briefing=resolved.briefing
        )
    )
    agent_id = await mesh.register_value("select agent_id from fleet.agent where name = $1", f"{word}-agent")
    run_id = new_id()
    await mesh.register_value(
        "insert into fleet.run (tenant_id, run_id, agent_id, started_at) "
        "select tenant_id, $2, agent_id, now() from fleet.agent where agent_id = $1 returning 1",
        agent_id,
        run_id,
    )
    side.callers["agent"] = (
        side.callers["host"][0],
        ((wire.AGENT_KEY, str(agent_id)), (wire.RUN_KEY, str(run_id))),
    )
    message_id = str(new_id())
    await mesh_stub(side, "MessageService").Send(
        messages_pb2.SendRequest(request_id=message_id, to=f"{word}-agent", body=f"leak-{word}")
    )
    card = backlog_pb2.CardDraft(id=f"{word}-card", content=backlog_pb2.CardContent(title=f"leak-{word}"))
    await mesh_stub(side, "BacklogService").Create(
        backlog_pb2.CreateCardsRequest(request_id=str(new_id()), cards=[card])
    )
    pairing = await write_peer(mesh, f"{word}-peer", tenant=word)
    names = {"peer": "peer", "address": "agent", "agent": "agent", "agents": "agent", "to": "agent", "holder": "agent"}
    side.things = {
        **{name: f"{word}-{what}" for name, what in names.items()},
        **dict.fromkeys(("card_id", "card_ids", "depends_on"), f"{word}-card"),
        **dict.fromkeys(("host", "name"), f"{word}-host"),
        "message_id": message_id,
        "id": message_id,
        "reason": "because",
        "runtime": "shell",
        "role": "viewer",
        "kind": "see",
        "selector": "*",
        "body": "words",
    }
    side.words = [f"leak-{word}".encode(), str(agent_id).encode(), host.identity_id.encode(), pairing.encode()]


STUBS = {
    "HostService": fleet_pb2_grpc.HostServiceStub,
    "FleetService": fleet_pb2_grpc.FleetServiceStub,
    "MessageService": messages_pb2_grpc.MessageServiceStub,
    "BacklogService": backlog_pb2_grpc.BacklogServiceStub,
}


def mesh_stub(side: Side, service: str) -> Any:
    """Return the calls of a service, as the admin of a side."""
    return STUBS[service](side.callers["admin"][0])


async def two_sides(mesh: Mesh, stack: AsyncExitStack, folder: Path) -> tuple[Side, Side]:
    assert mesh.operator is not None
    ours, theirs = Side("default"), Side("acme")
    await settle(mesh, ours, stack, folder, mesh.operator)
    tenants = people_pb2_grpc.TenantServiceStub(ours.callers["admin"][0])
    made = await tenants.Create(people_pb2.CreateTenantRequest(request_id=str(new_id()), name="acme", admin="alma"))
    alma = await asyncio.to_thread(enrolment.enrol, JoinToken.parse(made.token), folder / "alma")
    await settle(mesh, theirs, stack, folder, alma)
    return ours, theirs
