"""A control plane for tests of the CLI: the real wire and mTLS, in-process, with a script instead of a register."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_cli.apply import difference
from mosaic_cli.context import Context, Contexts, save
from mosaic_framework import pki, renewal, wire
from mosaic_framework.errors import Conflict, FleetError, NotFound
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_framework.resolve import Resolved
from mosaic_proto.v1 import (
    common_pb2,
    fleet_pb2,
    fleet_pb2_grpc,
    messages_pb2,
    messages_pb2_grpc,
    runtimes_pb2,
    runtimes_pb2_grpc,
    seeding_pb2,
    seeding_pb2_grpc,
)

TRUST_DOMAIN = "abcdefgh23456777.mosaic"
AT = 1_800_000_000
"""The database's time in listings, so that ages in golden files stand still."""

STEP = messages_pb2.MessageStep


def at(seconds: float) -> Timestamp:
    """Return the moment so many seconds before AT."""
    moment = Timestamp()
    moment.FromMilliseconds(int((AT - seconds) * 1000))
    return moment


class FakeControlPlane(
    fleet_pb2_grpc.FleetServiceServicer,
    fleet_pb2_grpc.HostServiceServicer,
    messages_pb2_grpc.MessageServiceServicer,
    runtimes_pb2_grpc.RuntimeServiceServicer,
    seeding_pb2_grpc.SeedingServiceServicer,
):
    """What a test sets is what is served. `before[method]` may raise a FleetError, or abort the call, each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agents: dict[str, fleet_pb2.Agent] = {}
        self.hosts: dict[str, fleet_pb2.Host] = {}
        self.sent: list[messages_pb2.SendRequest] = []
        self.messages: dict[str, messages_pb2.Receipt] = {}
        self.script: list[int] = [STEP.MESSAGE_STEP_DISPATCHED, STEP.MESSAGE_STEP_TYPED, STEP.MESSAGE_STEP_SUBMITTED]
        self.strongest_is_submitted = True
        self.at_once: dict[str, list[int]] = {}
        """recipient → the steps that its message makes while it is sent"""
        self.rises_when_listed = False
        """whether each listing finds every message that is only queued submitted meanwhile"""
        self.before: dict[str, Callable[[grpc.ServicerContext], None]] = {}
        self.calls: list[str] = []
        self.follow_breaks_after: list[int] = []
        self.roster = fleet_pb2.GetRosterReply()
        self.applied: list[fleet_pb2.ApplyRosterRequest] = []
        self.changed: list[fleet_pb2.ChangeSeatsRequest] = []
        self.change_reply = fleet_pb2.ChangeSeatsReply()
        self.briefing_changes: list[str] = []
        self.seeds: dict[str, seeding_pb2.GetSeedReply] = {}
        self.watches: list[fleet_pb2.WatchRequest] = []
        self.events: list[list[fleet_pb2.WatchEvent]] = []
        self.after_apply: Callable[[], None] = lambda: None
        self.planned: list[runtimes_pb2.PlannedUpdate] = []
        self.updates_asked: list[runtimes_pb2.UpdateRuntimeRequest] = []
        self.update_script: dict[str, list[runtimes_pb2.RuntimeUpdate]] = {}
        """by host/runtime: what is told of an update, one after another"""
        self.stopping = threading.Event()
        self.port = 0
        self._authority = pki.Authority.create(TRUST_DOMAIN)
        self._server: grpc.Server | None = None

    # -- as a process ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve; again on the port it had before."""
        key = pki.new_key()
        certificate = self._authority.issue(
            key.public_key(),
            pki.SpiffeId(TRUST_DOMAIN, "replica", str(new_id())),
            identity_id=str(new_id()),
            identity_epoch=1,
            dns_names=[wire.SERVER_NAME],
        )
        bundle = pki.certificate_to_pem(self._authority.certificate)
        credentials = wire.fleet_server_credentials(pki.key_to_pem(key), pki.certificate_to_pem(certificate), bundle)
        self.stopping.clear()
        server = grpc.server(ThreadPoolExecutor(8), options=wire.SERVER_OPTIONS)
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(self, server)
        fleet_pb2_grpc.add_HostServiceServicer_to_server(self, server)
        messages_pb2_grpc.add_MessageServiceServicer_to_server(self, server)
        runtimes_pb2_grpc.add_RuntimeServiceServicer_to_server(self, server)
        seeding_pb2_grpc.add_SeedingServiceServicer_to_server(self, server)
        self.port = self._bind(server, credentials)
        server.start()
        self._server = server

    def _bind(self, server: grpc.Server, credentials: grpc.ServerCredentials) -> int:
        """Bind the port of before; the listener of a stopped server lets go of it a moment later."""
        for attempt in range(100):
            try:
                return server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
            except RuntimeError:
                if attempt == 99:
                    raise
                time.sleep(0.05)
        raise AssertionError

    def stop(self) -> None:
        """Go away at once, with every call."""
        self.stopping.set()
        if self._server is not None:
            self._server.stop(0).wait()

    @property
    def address(self) -> str:
        """Where it serves."""
        return f"127.0.0.1:{self.port}"

    def identity(self, *, kind: str = "operator", name: str = "anna") -> StoredIdentity:
        """Return a fresh identity that this control plane accepts."""
        key = pki.new_key()
        spiffe_id = pki.SpiffeId(TRUST_DOMAIN, kind, name, tenant="default")
        identity_id = str(new_id())
        certificate = self._authority.issue(key.public_key(), spiffe_id, identity_id=identity_id, identity_epoch=1)
        return StoredIdentity(
            kind=kind,
            name=name,
            tenant="default",
            identity_id=identity_id,
            identity_epoch=1,
            spiffe_id=str(spiffe_id),
            trust_domain=TRUST_DOMAIN,
            cluster="test",
            fleet_addresses=[self.address],
            not_after=certificate.not_valid_after_utc.astimezone(UTC),
            key_pem=pki.key_to_pem(key),
            certificate_pem=pki.certificate_to_pem(certificate),
            bundle_pem=pki.certificate_to_pem(self._authority.certificate),
            renew_at=renewal.renew_at(certificate),
        )

    def write_context(self, home: Home, *, name: str = "test", addresses: tuple[str, ...] = ()) -> None:
        """Make `home` one from which `mosaic` reaches this control plane."""
        folder = f"pki/operators/{name}"
        self.identity().save(home.root / folder)
        item = Context(name, addresses or (self.address,), folder, default_host="build1")
        save(home, Contexts().put(item, make_current=True))

    # -- what a test puts in -----------------------------------------------------------------------------------------

    def add_host(self, name: str, state: str = "LIVE", *, beat: float = 2.0, **more: Any) -> fleet_pb2.Host:
        """Add a host whose last beat was `beat` seconds ago."""
        host = fleet_pb2.Host(
            id=f"01900000-0000-7000-8000-0000000000{len(self.hosts):02x}",
            tenant="default",
            name=name,
            state=fleet_pb2.HostState.Value(f"HOST_STATE_{state}"),
            last_beat_at=at(beat),
            joined_at=at(3600),
            link_epoch=1,
            identity_epoch=1,
            generation=4,
            observed_generation=4,
            version="0.1.0",
            machine=name,
            **more,
        )
        self.hosts[name] = host
        return host

    def add_agent(self, name: str, state: str = "AVAILABLE", *, host: str = "build1", **more: Any) -> fleet_pb2.Agent:
        """Add a seat that is as it should be, but for `more`."""
        fields: dict[str, Any] = {
            "id": f"01900000-0000-7000-8000-0000000001{len(self.agents):02x}",
            "tenant": "default",
            "host": host,
            "name": name,
            "class": "code",
            "runtime": "shell",
            "desired_running": True,
            "state": fleet_pb2.AgentState.Value(f"AGENT_STATE_{state}"),
            "state_source": "screen",
            "state_detail": "the prompt is at the bottom",
            "state_since": at(75),
            "reported_at": at(12),
            "run_id": "01900000-0000-7000-8000-000000000200",
            "pid": 4000 + len(self.agents),
            "command": "bash",
            "generation": 1,
            "observed_generation": 1,
            "working_directory": "/srv/src",
        }
        agent = fleet_pb2.Agent(**(fields | more))
        self.agents[agent.id] = agent
        return agent

    def fail(self, method: str, *errors: FleetError | tuple[grpc.StatusCode, str]) -> None:
        """Let the next calls of `method` fail, one for each error; the ones after that go through."""
        waiting = list(errors)

        def before(context: grpc.ServicerContext) -> None:
            if not waiting:
                return
            error = waiting.pop(0)
            if isinstance(error, FleetError):
                raise error
            context.abort(*error)

        self.before[method] = before

    # -- services ----------------------------------------------------------------------------------------------------

    def _enter(self, method: str, context: grpc.ServicerContext) -> None:
        self.calls.append(method)
        try:
            self.before.get(method, lambda _context: None)(context)
        except FleetError as error:
            status, content = wire.error_to_status(error, "request-1")
            context.set_trailing_metadata(((wire.ERROR_KEY, content),))
            context.abort(status, error.what)

    def GetCluster(self, request: Any, context: grpc.ServicerContext) -> fleet_pb2.GetClusterReply:  # noqa: N802
        self._enter("GetCluster", context)
        now = Timestamp()
        now.GetCurrentTime()
        caller = common_pb2.Principal(kind=common_pb2.PRINCIPAL_KIND_OPERATOR, name="anna", tenant="default")
        return fleet_pb2.GetClusterReply(
            trust_domain=TRUST_DOMAIN,
            cluster="test",
            version="0.1.0",
            replica_id="r1",
            replicas=1,
            at=now,
            caller=caller,
        )

    def ListAgents(self, request: Any, context: grpc.ServicerContext) -> fleet_pb2.ListAgentsReply:  # noqa: N802
        self._enter("ListAgents", context)
        found = [
            agent for agent in self.agents.values() if request.address in ("", agent.name, f"{agent.host}/{agent.name}")
        ]
        if request.address and not found:
            self._refuse(
                context, NotFound(f"there is no agent {request.address!r}", why="the nearest names are coder0")
            )
        return fleet_pb2.ListAgentsReply(agents=found, hosts=self.hosts.values(), at=at(0))

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        if isinstance(request, messages_pb2.ListMessagesRequest):
            for receipt in self.messages.values() if self.rises_when_listed else ():
                if receipt.step == STEP.MESSAGE_STEP_QUEUED:
                    self._rise(receipt, STEP.MESSAGE_STEP_SUBMITTED, "screen")
            return messages_pb2.ListMessagesReply(receipts=reversed(self.messages.values()))
        self._enter("List", context)
        return fleet_pb2.ListHostsReply(hosts=self.hosts.values(), at=at(0))

    def CreateToken(self, request: Any, context: grpc.ServicerContext) -> fleet_pb2.CreateHostTokenReply:  # noqa: N802
        self._enter("CreateToken", context)
        return fleet_pb2.CreateHostTokenReply(token=f"mosaic1.{request.name}.secret", expires_at=at(-600))

    def Watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[fleet_pb2.WatchEvent]:  # noqa: N802
        self.watches.append(request)
        self._enter("Watch", context)
        if self.events:
            yield from self.events.pop(0)
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        for host in list(self.hosts.values()):
            yield fleet_pb2.WatchEvent(host=host, cursor="1")
        for agent in list(self.agents.values()):
            yield fleet_pb2.WatchEvent(agent=agent, cursor="2")
        yield fleet_pb2.WatchEvent(bookmark=fleet_pb2.Bookmark(snapshot_complete=True), cursor="3")
        self._until_cancelled(context)

    def GetSeed(self, request: Any, context: grpc.ServicerContext) -> seeding_pb2.GetSeedReply:  # noqa: N802
        self._enter("GetSeed", context)
        if request.address not in self.seeds:
            self._refuse(
                context, NotFound(f"there is no agent {request.address!r}", why="the nearest names are coder0")
            )
        return self.seeds[request.address]

    def GetRoster(self, request: Any, context: grpc.ServicerContext) -> fleet_pb2.GetRosterReply:  # noqa: N802
        return self.roster

    def PreviewRoster(self, request: Any, context: grpc.ServicerContext) -> fleet_pb2.ApplyRosterReply:  # noqa: N802
        self._enter("PreviewRoster", context)
        changes = difference(self.roster.document, Resolved([], request.document, []), request.default_host)
        return fleet_pb2.ApplyRosterReply(
            version=self.roster.version,
            changes=[fleet_pb2.SeatChange(name=one.name, host=one.host, change=one.change) for one in changes],
            briefing_changes=self.briefing_changes,
        )

    def ApplyRoster(self, request: Any, context: grpc.ServicerContext) -> fleet_pb2.ApplyRosterReply:  # noqa: N802
        self._enter("ApplyRoster", context)
        if request.base_version != self.roster.version:
            self._refuse(context, Conflict("another roster has been applied"))
        self.applied.append(request)
        self.roster = fleet_pb2.GetRosterReply(
            version=self.roster.version + 1, document=request.document, applied_by="anna"
        )
        self.after_apply()
        return fleet_pb2.ApplyRosterReply(
            version=self.roster.version,
            changes=[fleet_pb2.SeatChange(name=s.name, host=s.host, change="added") for s in request.seats],
            generations=[fleet_pb2.HostGeneration(host=name, generation=4) for name in self.hosts],
            briefing_changes=self.briefing_changes,
        )

    def ChangeSeats(self, request: Any, context: grpc.ServicerContext) -> fleet_pb2.ChangeSeatsReply:  # noqa: N802
        self._enter("ChangeSeats", context)
        self.changed.append(request)
        return self.change_reply

    def Tail(self, request: Any, context: grpc.ServicerContext) -> fleet_pb2.TailReply:  # noqa: N802
        self._enter("Tail", context)
        return fleet_pb2.TailReply(text="$ echo hi\nhi\x1b[31m\n", agent=next(iter(self.agents.values())))

    def Send(self, request: Any, context: grpc.ServicerContext) -> messages_pb2.SendReply:  # noqa: N802
        self.sent.append(request)
        receipt = self.messages.get(request.request_id)
        if receipt is None:
            receipt = messages_pb2.Receipt(
                message_id=request.request_id,
                sender=common_pb2.Principal(kind=common_pb2.PRINCIPAL_KIND_OPERATOR, name="anna"),
                recipient=common_pb2.Principal(kind=common_pb2.PRINCIPAL_KIND_AGENT, name=request.to, host="build1"),
                created_at=at(30),
                deadline_at=at(-86400),
                strongest_step_is_submitted=self.strongest_is_submitted,
            )
            self._rise(receipt, STEP.MESSAGE_STEP_QUEUED, "register")
            for step in self.at_once.get(request.to, []):
                self._rise(receipt, step, "screen")
            self.messages[request.request_id] = receipt
        self._enter("Send", context)
        return messages_pb2.SendReply(receipt=receipt)

    def Follow(self, request: Any, context: grpc.ServicerContext) -> Iterator[messages_pb2.Receipt]:  # noqa: N802
        self._enter("Follow", context)
        receipt = self.messages[request.message_id]
        yield receipt
        steps = self.follow_breaks_after.pop(0) if self.follow_breaks_after else len(self.script)
        for _ in range(steps):
            if not self.script:
                break
            self._rise(receipt, self.script.pop(0), "screen")
            yield receipt
        if self.script:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        if receipt.step < request.until:
            self._until_cancelled(context)

    def Show(self, request: Any, context: grpc.ServicerContext) -> messages_pb2.ShowMessageReply:  # noqa: N802
        self._enter("Show", context)
        found = [receipt for key, receipt in self.messages.items() if key.startswith(request.message_id)]
        body = next(sent.body for sent in self.sent if sent.request_id == found[0].message_id)
        return messages_pb2.ShowMessageReply(receipt=found[0], body=body)

    def PlanUpdates(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._enter("PlanUpdates", context)
        found = [one for one in self.planned if request.host in ("", one.host) and request.runtime in ("", one.runtime)]
        return runtimes_pb2.PlanUpdatesReply(updates=found)

    def UpdateRuntime(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.updates_asked.append(request)
        self._enter("UpdateRuntime", context)
        update = runtimes_pb2.RuntimeUpdate(
            id=f"{request.host}/{request.runtime}",
            host=request.host,
            runtime=request.runtime,
            relaunch=request.relaunch,
            state=runtimes_pb2.UPDATE_STATE_WANTED,
        )
        return runtimes_pb2.UpdateRuntimeReply(update=update)

    def FollowUpdate(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        self._enter("FollowUpdate", context)
        host, _, runtime = request.id.partition("/")
        for told in self.update_script[request.id]:
            told.id, told.host, told.runtime = request.id, host, runtime
            yield told

    def _rise(self, receipt: messages_pb2.Receipt, step: int, source: str) -> None:
        receipt.step = step  # type: ignore[assignment]
        receipt.steps.add(
            step=step,  # type: ignore[arg-type]
            at=at(30 - 0.25 * len(receipt.steps)),
            evidence=messages_pb2.Evidence(source=source, detail=f"evidence {len(receipt.steps)}"),
        )

    def _refuse(self, context: grpc.ServicerContext, error: FleetError) -> None:
        status, content = wire.error_to_status(error, "request-1")
        context.set_trailing_metadata(((wire.ERROR_KEY, content),))
        context.abort(status, error.what)

    def _until_cancelled(self, context: grpc.ServicerContext) -> None:
        while context.is_active() and not self.stopping.wait(0.02):
            time.sleep(0)
