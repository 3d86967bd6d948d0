"""One connection to a control plane: stubs over mTLS, a request id on every write, errors that tell what to run."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
from mosaic_framework import wire
from mosaic_framework.errors import FleetError, LimitReached, NotLoggedIn, Unreachable
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.pane import Pane
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1.fleet_pb2_grpc import FleetServiceStub, HostServiceStub
from mosaic_proto.v1.messages_pb2_grpc import MessageServiceStub
from mosaic_proto.v1.seeding_pb2_grpc import SeedingServiceStub
from mosaic_proto.v1.signals_pb2_grpc import SignalServiceStub
from mosaic_proto.v1.terminal_pb2_grpc import TerminalServiceStub

from mosaic_cli import context as contexts
from mosaic_cli import interrupts, output
from mosaic_cli.context import Context, Contexts
from mosaic_cli.dialling import first_that_serves
from mosaic_cli.failures import UsageError
from mosaic_cli.leaf_keeper import LeafKeeper, Open

ANSWER_WITHIN = 4.0
"""Seconds an ordinary call may take: with the start of the program a control plane that is down is told within 5 s."""

ELSEWHERE_WITHIN = 16.0
"""Seconds of a call that the control plane makes at another cluster: it must find out, and tell, that it is away."""

WAIT_AT_MOST = 8.0
"""Seconds, over all of its attempts, that a call without a deadline of its own waits for a limit before it is told."""
TELL_FROM = 1.0
"""Seconds from which on a wait is told."""

_PAGE = 2_000
"""Agents asked for at once."""

Reply = TypeVar("Reply")


def answer_within(address: str) -> float:
    """Return how many seconds a call about an agent may take: of another cluster (cluster/host/agent) more."""
    return ELSEWHERE_WITHIN if address.count("/") == 2 else ANSWER_WITHIN


class ConnectionLost(Unreachable):
    """The connection broke during the call, which may or may not have had its effect."""

    code = "connection-lost"


class NoAnswer(Unreachable):
    """The control plane took the call and did not answer in time."""

    code = "no-answer"


class Patience:
    """Waits out the limits of one call: what a limit refused had no effect, and may be tried again when it says.

    `until`, on time.monotonic(), is the call's own deadline: then it waits as long as that allows.
    """

    def __init__(self, *, until: float | None = None) -> None:
        self._until = math.inf if until is None else until
        self._left = WAIT_AT_MOST if until is None else math.inf

    def wait(self, told: FleetError) -> bool:
        """Wait as long as `told` says, and return True; False, at once, when it says nothing or too long."""
        seconds = told.retry_after if isinstance(told, LimitReached) else None
        if seconds is None or seconds > self._left or time.monotonic() + seconds >= self._until:
            return False
        if seconds >= TELL_FROM:
            sys.stderr.write(f"{told.what} ({type(told).code}); trying again in {seconds:.1f} s\n")
        self._left -= seconds
        time.sleep(seconds)
        return True


class Connection:
    """Calls to one cluster as one operator. `tenant` is what to put into requests."""

    def __init__(
        self, context: Context, identity: StoredIdentity | None, *, tenant: str = "", folder: Path | None = None
    ) -> None:
        self.context = context
        self._identity = identity
        self.tenant = tenant or context.tenant
        self._folder = folder
        self._open()
        self._keeper: LeafKeeper | None = None
        if identity is not None and folder is not None:
            self._keeper = LeafKeeper(folder, identity, opened=lambda: self._opened, took=self._take)
            self._keeper.start()

    def _take(self, identity: StoredIdentity) -> None:
        """Use a renewed identity from the next dial on."""
        self._identity = identity

    def _open(self) -> None:
        self._channel = self._channel_to_control_plane()
        self.fleet: Any = FleetServiceStub(self._channel)
        self.hosts: Any = HostServiceStub(self._channel)
        self.messages: Any = MessageServiceStub(self._channel)
        self.signals: Any = SignalServiceStub(self._channel)
        self.seeding: Any = SeedingServiceStub(self._channel)
        self.terminals: Any = TerminalServiceStub(self._channel)

    def _channel_to_control_plane(self) -> grpc.Channel:
        assert self._identity is not None
        identity = self._identity
        channel = first_that_serves(identity, self.addresses, within=ANSWER_WITHIN / 2)
        self._opened = Open(channel, identity.certificate_pem)
        return channel

    @property
    def addresses(self) -> list[str]:
        """The replicas' addresses: the context's, then those that the newest certificate came with."""
        told = [] if self._identity is None or self.is_local else self._identity.fleet_addresses
        return list(dict.fromkeys([*self.context.addresses, *told]))

    @property
    def trust_domain(self) -> str:
        """The cluster's trust domain."""
        assert self._identity is not None
        return self._identity.trust_domain

    @property
    def cluster(self) -> str:
        """The cluster's alias."""
        assert self._identity is not None
        return self._identity.cluster

    @property
    def identities(self) -> Any:
        """The calls about identities."""
        from mosaic_proto.v1.identity_pb2_grpc import IdentityServiceStub

        return IdentityServiceStub(self._channel)

    @property
    def runtimes(self) -> Any:
        """The calls about runtimes, which few commands make."""
        from mosaic_proto.v1.runtimes_pb2_grpc import RuntimeServiceStub

        return RuntimeServiceStub(self._channel)

    @property
    def host_life(self) -> Any:
        """The calls about hosts that come and go, which few commands make."""
        from mosaic_proto.v1.host_life_pb2_grpc import HostLifeServiceStub

        return HostLifeServiceStub(self._channel)

    @property
    def operators(self) -> Any:
        """The calls about people."""
        from mosaic_proto.v1.people_pb2_grpc import OperatorServiceStub

        return OperatorServiceStub(self._channel)

    @property
    def peers(self) -> Any:
        """The calls about other clusters."""
        from mosaic_proto.v1.peers_pb2_grpc import PeerServiceStub

        return PeerServiceStub(self._channel)

    @property
    def tenants(self) -> Any:
        """The calls about tenants."""
        from mosaic_proto.v1.people_pb2_grpc import TenantServiceStub

        return TenantServiceStub(self._channel)

    @property
    def audits(self) -> Any:
        """The calls about what was done."""
        from mosaic_proto.v1.people_pb2_grpc import AuditServiceStub

        return AuditServiceStub(self._channel)

    @property
    def backlog(self) -> Any:
        """The backlog's stub; imported only by the commands that need it."""
        from mosaic_proto.v1.backlog_pb2_grpc import BacklogServiceStub

        return BacklogServiceStub(self._channel)

    def reconnect(self) -> None:
        """Dial again, whichever replica answers first; stubs taken before are dead."""
        self._channel.close()
        self._open()

    def call(self, method: Callable[..., Reply], request: Any, *, timeout: float = ANSWER_WITHIN) -> Reply:
        """Make one call. A write without a request id gets one. Raises FleetError that says what to run next."""
        request_id = _identify(request)
        patience = Patience()
        unary: Any = method  # a stub's, which has more than the type of a plain function says
        while True:
            try:
                reply, call = unary.with_call(request, timeout=timeout)
            except grpc.RpcError as error:
                told = self.failure(error, request_id)
                if not patience.wait(told):
                    raise told from error
            else:
                self._learn_of_replicas(call)
                return cast("Reply", reply)

    def _learn_of_replicas(self, call: grpc.Call) -> None:
        """Keep the addresses of replicas that were started since this login got its certificate."""
        if self._identity is None or self._folder is None or self.is_local:
            return
        trailers: dict[str, Any] = dict(call.trailing_metadata() or ())
        told = [address for address in trailers.get(wire.REPLICAS_KEY, "").split(",") if address]
        if set(told) <= set(self._identity.fleet_addresses):
            return
        from mosaic_cli import known_replicas

        known = known_replicas.with_told(self._identity.fleet_addresses, told)
        self._identity = replace(self._identity, fleet_addresses=known)
        try:
            known_replicas.keep(self._folder, self._identity)
        except (OSError, FleetError) as error:
            output.say(f"the addresses of the cluster's replicas cannot be kept: {error}")

    def list_agents(self, cluster: str = "", *, timeout: float = ANSWER_WITHIN) -> Any:
        """Return every agent and host of the tenant, a page at a time: a large fleet is more than one reply holds.

        `cluster`: as in ListAgentsRequest; empty: this one.

        What changes between two pages may be in neither, or in both as it was. Raises as `call` does.
        """
        found: Any = None
        request = pb.ListAgentsRequest(tenant=self.tenant, cluster=cluster, page_size=_PAGE)
        while True:
            reply: Any = self.call(self.fleet.ListAgents, request, timeout=timeout)
            if found is None:
                found = reply
            else:
                found.agents.extend(reply.agents)
                found.hosts.extend(reply.hosts)
                found.peers.extend(reply.peers)
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token

    def stream(self, method: Callable[..., Any], request: Any, *, until: float | None = None) -> Iterator[Any]:
        """Yield the replies of a streaming call; `until` is a deadline on time.monotonic(). Raises as `call` does."""
        patience, begun = Patience(until=until), False
        while True:
            timeout = None if until is None else max(until - time.monotonic(), 0.001)
            with interrupts.held_back():  # a call interrupted while gRPC makes it leaves a channel that never closes
                replies = method(request, timeout=timeout)
            try:
                for reply in replies:
                    begun = True
                    yield reply
            except grpc.RpcError as error:
                told = self.failure(error, "")
                if begun or not patience.wait(told):
                    raise told from error
            else:
                return
            finally:
                replies.cancel()

    def failure(self, error: grpc.RpcError, request_id: str) -> FleetError:
        """Return what a failed call means here: what to run next depends on whose control plane it is."""
        told = wire.error_from_rpc(error)
        told.details.setdefault("request_id", request_id)
        status = error.code()
        # We never cancel a call whose end we look at: a cancelled one was ended by a server that went away.
        if type(told) is Unreachable or status is grpc.StatusCode.CANCELLED:
            return self.unreachable(told, status)
        # What another cluster refuses is nothing that a new login here would mend.
        if isinstance(told, NotLoggedIn) and self.is_local and "peer" not in told.details:
            told.next_step = "mosaic up (renews the login of this machine)"
        return told

    def unreachable(self, told: FleetError, status: grpc.StatusCode) -> Unreachable:
        """Return the error for a control plane that is down or silent, with the command that helps."""
        kind: type[Unreachable] = Unreachable
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            kind = NoAnswer
        elif not told.why.lower().startswith("failed to connect"):
            kind = ConnectionLost
        where = ", ".join(self.addresses)
        return kind(
            f"the control plane of context {self.context.name!r} cannot be reached",
            why=f"{where}: {_reason(told.why)}",
            next_step="mosaic status, then: mosaic up" if self.is_local else "mosaic doctor",
            details=told.details,
        )

    @property
    def is_local(self) -> bool:
        """Whether this machine's own `mosaic up` runs the control plane."""
        return self.context.name == contexts.LOCAL

    def close(self) -> None:
        """Close the channel."""
        if self._keeper is not None:
            self._keeper.stop()
        self._channel.close()


class LoginExpired(NotLoggedIn):
    """The login has expired."""

    code = "login-expired"


class OneSelf(UsageError):
    """Inside a pane a command acts as the pane's agent, and as nobody else."""

    code = "one-self"


@contextmanager
def connect(context_name: str = "", *, tenant: str = "", home: Home | None = None) -> Iterator[Connection]:
    """Open a connection: inside a pane through its host-agent, else to the context named or the current one.

    Raises NotLoggedIn, NotFound, Unreachable, or OneSelf for a context named inside a pane.
    """
    connection = _connection(context_name, tenant=tenant, home=home or Home.from_environment())
    try:
        yield connection
    finally:
        connection.close()


def _connection(context_name: str, *, tenant: str, home: Home) -> Connection:
    seat = Pane.from_environment(os.environ)
    if seat is not None:
        if context_name:
            raise OneSelf(
                f"no context can be chosen in the pane of agent {seat.agent}",
                why="what is called there is called as that agent, through its host",
                next_step="leave --context away, or run it outside of the pane",
            )
        from mosaic_cli.pane import PaneConnection

        return PaneConnection(seat, tenant=tenant)
    known = contexts.load(home)
    context = known.chosen(context_name)
    if tenant and not context_name:
        context = _login_of(known, context, tenant, home)
    hint = "mosaic up" if context.name == contexts.LOCAL else "mosaic login"
    folder = context.identity_folder(home)
    identity = StoredIdentity.load(folder, hint=hint)
    if identity.expired():
        raise LoginExpired(
            f"the login of {identity.name} has expired",
            why=f"it was good until {identity.not_after.astimezone():%Y-%m-%d %H:%M}, and is renewed only while in use",
            next_step="mosaic up (renews the login of this machine)"
            if context.name == contexts.LOCAL
            else wire.how_to_come_back(identity),
        )
    return Connection(context, identity, tenant=tenant, folder=folder)


def _login_of(known: Contexts, chosen: Context, tenant: str, home: Home) -> Context:
    """Return our login in `tenant` of the chosen context's cluster, for a login is of one tenant; else `chosen`."""
    if chosen.tenant == tenant:
        return chosen
    for item in known.items:
        if item.tenant == tenant and _trust_domain(item, home) == _trust_domain(chosen, home):
            return item
    return chosen  # the cluster says what it thinks of that


def _trust_domain(item: Context, home: Home) -> str:
    return StoredIdentity.load(item.identity_folder(home)).trust_domain


def _identify(request: Any) -> str:
    """Give a write its request id, and return it; empty for a read."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name:
        return ""
    if not request.request_id:
        request.request_id = str(new_id())
    return str(request.request_id)


def _reason(text: str) -> str:
    """Return the last and most telling part of what gRPC says."""
    for known, plain in (
        ("Connection refused", "nothing listens there"),
        ("CANCELLED", "the connection was closed there"),
        ("Socket closed", "the connection was closed there"),
        ("Deadline Exceeded", f"no answer within {ANSWER_WITHIN:.0f} s"),
        ("No route to host", "there is no route to it"),
        ("Name or service not known", "its name is not known"),
    ):
        if known.lower() in text.lower():
            return plain
    return text.rpartition("last error: ")[2] or "no answer"
