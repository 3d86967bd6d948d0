"""Every RPC by every kind of caller, over real mTLS: exactly what this table says, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import grpc
import grpc.aio
import pytest
from mosaic_controlplane.api.auditing import audited
from mosaic_controlplane.api.policy import all_methods, load_policy
from mosaic_controlplane.identity.authenticate import Authenticator
from mosaic_controlplane.register.database import Database
from mosaic_framework import pki, wire
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id

from tests.support.listeners import Listeners, call, method_kinds, running

WRITERS = {"admin", "operator"}
PEOPLE = WRITERS | {"viewer"}
CLASSES = ("engineer", "decomposition", "operator", "orchestrator")
"""Every agent class that the policy names, and one that it does not."""
AGENTS = {f"agent:{name}" for name in CLASSES}
PEERS = {"peer:viewer", "peer:operator"}
"""Other clusters, by what their people count as here; tried in test_peer_callers.py."""
EVERYONE = PEOPLE | AGENTS | PEERS | {"host", "replica"}
PLANNERS = {"agent:orchestrator", "agent:decomposition"}

# Written by hand, not read from policy.yaml: a change there has to be made here too, by somebody who means it.
MAY = {
    "mosaic.v1.EnrolmentService/Enrol": set(),
    "mosaic.v1.PairingService/Pair": set(),
    "mosaic.v1.PairingService/Standing": set(),
    "mosaic.v1.PeerService/CreateToken": {"admin"},
    "mosaic.v1.PeerService/Join": {"admin"},
    "mosaic.v1.PeerService/List": PEOPLE | AGENTS,
    "mosaic.v1.PeerService/Grant": {"admin"},
    "mosaic.v1.PeerService/Ungrant": {"admin"},
    "mosaic.v1.PeerService/ChangeRole": {"admin"},
    "mosaic.v1.PeerService/Revoke": {"admin"},
    "mosaic.v1.PeerService/Remove": {"admin"},
    "mosaic.v1.FederationService/Exchange": PEERS,
    "mosaic.v1.FederationService/Part": PEERS,
    "mosaic.v1.FederationService/Follow": PEERS,
    "mosaic.v1.FederationService/WatchTerminal": PEERS,
    "mosaic.v1.FederationService/Send": {"peer:operator"},
    "mosaic.v1.FederationService/CancelMessage": {"peer:operator"},
    "mosaic.v1.FederationService/Claim": {"peer:operator"},
    "mosaic.v1.FederationService/Renew": {"peer:operator"},
    "mosaic.v1.FederationService/Propose": {"peer:operator"},
    "mosaic.v1.FederationService/Complete": {"peer:operator"},
    "mosaic.v1.FederationService/Release": {"peer:operator"},
    "mosaic.v1.FederationService/Block": {"peer:operator"},
    "mosaic.v1.HostLinkService/Link": {"host"},
    "mosaic.v1.HostTerminalService/Serve": {"host"},
    "mosaic.v1.TerminalService/Watch": PEOPLE | AGENTS,
    "mosaic.v1.TerminalService/Attach": WRITERS,
    "mosaic.v1.FleetService/ApplyRoster": WRITERS | {"agent:orchestrator"},
    "mosaic.v1.FleetService/ChangeSeats": WRITERS | {"agent:orchestrator"},
    "mosaic.v1.FleetService/PreviewRoster": PEOPLE | AGENTS,
    "mosaic.v1.FleetService/GetRoster": PEOPLE | AGENTS,
    "mosaic.v1.FleetService/ListAgents": PEOPLE | AGENTS,
    "mosaic.v1.FleetService/Watch": PEOPLE | AGENTS,
    "mosaic.v1.FleetService/Tail": PEOPLE | AGENTS,
    "mosaic.v1.FleetService/GetCluster": PEOPLE | AGENTS | {"host"},  # its doctor compares clocks and versions
    "mosaic.v1.SignalService/Explain": PEOPLE | AGENTS,
    "mosaic.v1.SeedingService/GetSeed": PEOPLE | AGENTS,
    "mosaic.v1.HostService/CreateToken": {"admin"},
    "mosaic.v1.HostService/List": PEOPLE | AGENTS,
    "mosaic.v1.HostLifeService/Drain": WRITERS,
    "mosaic.v1.HostLifeService/Undrain": WRITERS,
    "mosaic.v1.HostLifeService/Remove": {"admin"},
    "mosaic.v1.HostLifeService/GetLostPolicy": PEOPLE,
    "mosaic.v1.HostLifeService/SetLostPolicy": {"admin"},
    "mosaic.v1.MessageService/Send": WRITERS | AGENTS,
    "mosaic.v1.MessageService/Follow": PEOPLE | AGENTS,
    "mosaic.v1.MessageService/Show": PEOPLE | AGENTS,
    "mosaic.v1.MessageService/List": PEOPLE | AGENTS,
    "mosaic.v1.MessageService/Watch": PEOPLE | AGENTS,
    "mosaic.v1.MessageService/Cancel": WRITERS | AGENTS,
    "mosaic.v1.IdentityService/Renew": PEOPLE | {"host"},
    "mosaic.v1.IdentityService/Present": PEOPLE | {"host"},
    "mosaic.v1.IdentityService/List": PEOPLE,
    "mosaic.v1.IdentityService/Revoke": {"admin"},
    "mosaic.v1.RuntimeService/PlanUpdates": WRITERS,
    "mosaic.v1.RuntimeService/UpdateRuntime": WRITERS,
    "mosaic.v1.RuntimeService/FollowUpdate": WRITERS,
    "mosaic.v1.BacklogService/Create": WRITERS | PLANNERS,
    "mosaic.v1.BacklogService/Update": WRITERS | PLANNERS,
    "mosaic.v1.BacklogService/Link": WRITERS | PLANNERS,
    "mosaic.v1.BacklogService/Unlink": WRITERS | PLANNERS,
    "mosaic.v1.BacklogService/Cancel": WRITERS | PLANNERS,
    "mosaic.v1.BacklogService/Claim": WRITERS | AGENTS,
    "mosaic.v1.BacklogService/Work": WRITERS | AGENTS,
    "mosaic.v1.BacklogService/Renew": WRITERS | AGENTS,
    "mosaic.v1.BacklogService/Propose": WRITERS | AGENTS,
    "mosaic.v1.BacklogService/Complete": WRITERS | AGENTS,
    "mosaic.v1.BacklogService/Release": WRITERS | AGENTS,
    "mosaic.v1.BacklogService/Block": WRITERS | AGENTS,
    "mosaic.v1.BacklogService/Unblock": WRITERS | PLANNERS | {"agent:operator"},
    "mosaic.v1.BacklogService/Reclaim": WRITERS | {"agent:orchestrator", "agent:operator"},
    "mosaic.v1.BacklogService/Pause": WRITERS | {"agent:operator"},
    "mosaic.v1.BacklogService/Resume": WRITERS | {"agent:operator"},
    "mosaic.v1.BacklogService/List": PEOPLE | AGENTS,
    "mosaic.v1.BacklogService/Show": PEOPLE | AGENTS,
    "mosaic.v1.BacklogService/Stats": PEOPLE | AGENTS,
    "mosaic.v1.BacklogService/Verify": PEOPLE | AGENTS,
    "mosaic.v1.BacklogService/Export": PEOPLE,
    "mosaic.v1.BacklogService/Import": {"admin"},
    "mosaic.v1.OperatorService/CreateToken": {"admin"},
    "mosaic.v1.OperatorService/List": PEOPLE,
    "mosaic.v1.OperatorService/ChangeRole": {"admin"},
    "mosaic.v1.TenantService/Create": {"cluster:admin"},
    "mosaic.v1.TenantService/List": PEOPLE,
    "mosaic.v1.TenantService/Remove": {"cluster:admin"},
    "mosaic.v1.AuditService/List": {"admin"},
    "grpc.health.v1.Health/Check": EVERYONE,
    "grpc.health.v1.Health/List": EVERYONE,
    "grpc.health.v1.Health/Watch": EVERYONE,
}


@dataclass
class Door:
    """One caller: a channel, what it says of itself in metadata, and `words`, by which MAY speaks of it.

    `expected`: how every call of it is refused; empty for one whom the policy is asked about.
    """

    channel: grpc.aio.Channel
    metadata: dict[str, str]
    expected: str = ""
    words: frozenset[str] = frozenset()


def forged(
    identity: StoredIdentity, authority: pki.Authority, *, spiffe_id: str = "", identity_id: str = "", days: float = 1
) -> StoredIdentity:
    """Return `identity` as `authority` would issue it anew: same name, id and epoch unless said, a key of its own.

    `days` until it ends; below 0, it has ended.
    """
    key = pki.new_key()
    certificate = authority.issue(
        key.public_key(),
        pki.SpiffeId.parse(spiffe_id or identity.spiffe_id),
        identity_id=identity_id or identity.identity_id,
        identity_epoch=identity.identity_epoch,
        lifetime=timedelta(days=days),
    )
    return replace(identity, key_pem=pki.key_to_pem(key), certificate_pem=pki.certificate_to_pem(certificate))


async def seat(database: Database, host: StoredIdentity, agent_class: str) -> UUID:
    """Put an agent of that class on a host."""
    agent_id = new_id()
    await database.pool.execute(
        "insert into fleet.agent (tenant_id, agent_id, host_id, name, class, runtime, spec, spec_digest) "
        "select tenant_id, $2, host_id, $3, $3, 'shell', '', '' from fleet.host where host_id = $1",
        UUID(host.identity_id),
        agent_id,
        agent_class,
    )
    return agent_id


async def launched(database: Database, agent_id: UUID, *, over: bool = False) -> UUID:
    """Launch a seat: a run that lives, or is over."""
    run_id = new_id()
    await database.pool.execute(
        "insert into fleet.run (tenant_id, run_id, agent_id, started_at, ended_at) "
        "select tenant_id, $2, agent_id, now(), case when $3 then now() end from fleet.agent where agent_id = $1",
        agent_id,
        run_id,
        over,
    )
    return run_id


async def enter_replica(listeners: Listeners) -> StoredIdentity:
    """Return an identity of a replica that the register knows."""
    replica_id = new_id()
    leaf = listeners.cluster.issue_replica_leaf(replica_id)
    await listeners.database.pool.execute(
        "insert into fleet.replica (replica_id, address, version) values ($1, '', '')", replica_id
    )
    host = await listeners.enrolled("host", "any")
    return replace(
        host,
        name=str(replica_id),
        identity_id=str(replica_id),
        key_pem=leaf.key_pem,
        certificate_pem=leaf.certificate_pem,
    )


def certless_channel(listeners: Listeners) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(listeners.cluster.bundle_pem)
    return grpc.aio.secure_channel(listeners.fleet_address, credentials, options=wire.client_options())


@pytest.fixture(scope="module")
def peer() -> pki.Authority:
    """Another cluster's authority, whose root is in our TLS bundle as a peer's would be."""
    return pki.Authority.create("peer.mosaic")


@pytest.fixture
async def listeners(database: Database, tmp_path: Path, peer: pki.Authority) -> AsyncIterator[Listeners]:
    async with running(database, tmp_path, also_trusted=pki.certificate_to_pem(peer.certificate)) as made:
        yield made


async def tenant_s_doors(listeners: Listeners, door: Callable[..., Awaitable[Door]], tenant: str) -> dict[str, Door]:
    """Return everybody of one tenant whom the policy is asked about, by what MAY calls them."""
    host = await listeners.enrolled("host", "builder", tenant_name=tenant)
    made = {"host": await door(host, words={"host"})}
    for role in sorted(PEOPLE):
        words = {role, "cluster:admin"} if (role, tenant) == ("admin", "default") else {role}
        made[role] = await door(await listeners.enrolled("operator", role, role=role, tenant_name=tenant), words=words)
    for name in CLASSES:
        agent = await seat(listeners.database, host, name)
        run = await launched(listeners.database, agent)
        made[f"agent:{name}"] = await door(host, agent=agent, run=run, words={f"agent:{name}"})
    return {f"{name} of {tenant}": made[name] for name in made}


async def doors(listeners: Listeners, stack: AsyncExitStack, peer: pki.Authority) -> dict[str, Door]:
    """Return every kind of caller there is: of two tenants, and all who must be refused whatever they call."""

    async def door(
        identity: StoredIdentity,
        expected: str = "",
        agent: object = None,
        run: object = None,
        words: Iterable[str] = (),
    ) -> Door:
        channel = await stack.enter_async_context(wire.aio_channel(identity, listeners.fleet_address))
        spoken_for = {wire.AGENT_KEY: agent, wire.RUN_KEY: run}
        metadata = {key: str(value) for key, value in spoken_for.items() if value is not None}
        return Door(channel, metadata, expected, frozenset(words))

    ours = await tenant_s_doors(listeners, door, "default")
    theirs = await tenant_s_doors(listeners, door, "acme")
    host = await listeners.enrolled("host", "host")
    other = await listeners.enrolled("host", "other")
    their_host = await listeners.enrolled("host", "other", tenant_name="acme")
    admin = await listeners.enrolled("operator", "ada", role="admin")
    gone = await listeners.enrolled("operator", "gone", role="admin")
    gone_host = await listeners.enrolled("host", "gone-host")
    left_host = await listeners.enrolled("host", "left-host")
    older = await listeners.enrolled("host", "twice")
    await listeners.enrolled("host", "twice")
    deleted = await listeners.enrolled("operator", "deleted", role="admin")
    removed_tenant = await listeners.enrolled("operator", "ada", role="admin", tenant_name="removed")
    pool = listeners.database.pool
    await pool.execute("update fleet.operator set revoked_at = now() where name = 'gone'")
    await pool.execute("update fleet.host set state = 'revoked', revoked_at = now() where name = 'gone-host'")
    await pool.execute("update fleet.host set state = 'left' where name = 'left-host'")
    await pool.execute("delete from fleet.leaf where identity_id = $1", UUID(deleted.identity_id))
    await pool.execute("delete from fleet.operator where name = 'deleted'")
    await pool.fetch("select fleet.remove_tenant(tenant_id) from fleet.tenant where name = 'removed'")
    engineer = await seat(listeners.database, host, "engineer")
    orchestrator = await seat(listeners.database, host, "orchestrator")
    elsewhere = await seat(listeners.database, other, "engineer")
    their_agent = await seat(listeners.database, their_host, "engineer")
    removed = await seat(listeners.database, host, "removed")
    await pool.execute("update fleet.agent set removed_at = now() where agent_id = $1", removed)
    engineers, orchestrators, elsewheres, removeds, theirs_run = [
        await launched(listeners.database, one) for one in (engineer, orchestrator, elsewhere, removed, their_agent)
    ]
    over = await launched(listeners.database, engineer, over=True)
    stranger = pki.Authority.create(listeners.cluster.trust_domain)
    signer = listeners.cluster.signer
    replica = await enter_replica(listeners)
    domain = listeners.cluster.trust_domain
    return {
        **ours,
        **theirs,
        "replica": await door(replica, words={"replica"}),
        "no certificate": Door(
            await stack.enter_async_context(certless_channel(listeners)), {}, expected="unreachable"
        ),
        "forged by a stranger": await door(forged(admin, stranger), "unreachable"),
        "host forged by a stranger": await door(forged(host, stranger), "unreachable"),
        "forged by a peer": await door(forged(admin, peer), "not-authenticated"),
        "host forged by a peer": await door(forged(host, peer), "not-authenticated"),
        "replica forged by a peer": await door(
            forged(replica, peer, spiffe_id=_replica_id(domain, replica)), "not-authenticated"
        ),
        "peer": await door(forged(replica, peer, spiffe_id=_replica_id("peer.mosaic", replica)), "not-authenticated"),
        "admin of a peer": await door(
            forged(admin, peer, spiffe_id="spiffe://peer.mosaic/tenant/default/operator/ada"), "not-authenticated"
        ),
        "expired operator": await door(forged(admin, signer, days=-1 / 24 / 60), "unreachable"),
        "expired host": await door(forged(host, signer, days=-1 / 24 / 60), "unreachable"),
        "revoked operator": await door(gone, "identity-revoked"),
        "revoked host": await door(gone_host, "identity-revoked"),
        "host that left": await door(left_host, "not-authenticated"),
        "deleted operator": await door(deleted, "not-authenticated"),
        "admin of a removed tenant": await door(removed_tenant, "not-authenticated"),
        "unknown replica": await door(
            forged(replica, signer, spiffe_id=f"spiffe://{domain}/replica/{new_id()}", identity_id=str(new_id())),
            "not-authenticated",
        ),
        "admin of the name in another tenant": await door(
            forged(admin, signer, spiffe_id=f"spiffe://{domain}/tenant/acme/operator/ada"), "not-authenticated"
        ),
        "old epoch": await door(older, "identity-superseded"),
        "agent of another host": await door(host, "denied", agent=elsewhere, run=elsewheres),
        "agent of another tenant": await door(host, "denied", agent=their_agent, run=theirs_run),
        "their host for our agent": await door(their_host, "denied", agent=engineer, run=engineers),
        "agent of a revoked host": await door(gone_host, "identity-revoked", agent=engineer, run=engineers),
        "removed agent": await door(host, "denied", agent=removed, run=removeds),
        "no such agent": await door(host, "denied", agent="../x"),
        "no run": await door(host, "denied", agent=engineer),
        "run that is over": await door(host, "session-over", agent=engineer, run=over),
        "run of another agent": await door(host, "session-over", agent=engineer, run=orchestrators),
        "run without an agent": await door(host, "denied", run=engineers),
        "operator as an agent": await door(admin, "denied", agent=engineer, run=engineers),
        "replica as an agent": await door(replica, "denied", agent=engineer, run=engineers),
    }


def _replica_id(trust_domain: str, replica: StoredIdentity) -> str:
    return f"spiffe://{trust_domain}/replica/{replica.name}"


def test_this_table_speaks_of_every_rpc() -> None:
    assert set(MAY) == all_methods()


def test_agents_of_every_class_that_the_policy_names_are_tried() -> None:
    named = {word.partition(":")[2] for words in load_policy().rules.values() for word in words if "agent:" in word}
    assert named < set(CLASSES)


def test_every_call_that_carries_a_request_id_says_where_it_is_audited() -> None:
    assert set(audited()) <= all_methods()
    assert set(audited().values()) <= {"audit", "history", "itself", "read"}
    writes = {name for name in all_methods() if "request_id" in method_kinds(name)[2].DESCRIPTOR.fields_by_name}
    assert writes - set(audited()) == set()


async def test_the_enrolment_listener_answers_enrolment_alone(listeners: Listeners) -> None:
    credentials = grpc.ssl_channel_credentials(listeners.cluster.bundle_pem)
    async with grpc.aio.secure_channel(listeners.enrol_address, credentials, options=wire.client_options()) as channel:
        for method in sorted(all_methods() - {"mosaic.v1.EnrolmentService/Enrol"}):
            with pytest.raises(grpc.RpcError) as refused:
                await call(channel, method)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED, method


async def test_every_rpc_answers_exactly_those_the_policy_names(listeners: Listeners, peer: pki.Authority) -> None:
    wrong = []
    async with AsyncExitStack() as stack:
        for name, door in (await doors(listeners, stack, peer)).items():
            for method, may in MAY.items():
                listeners.answered.clear()
                expected = door.expected or ("answered" if door.words & may else "denied")
                found = "answered"
                try:
                    await call(door.channel, method, metadata=door.metadata)
                except grpc.RpcError as error:
                    found = wire.error_from_rpc(error).code
                if found != expected or bool(listeners.answered) != (expected == "answered"):
                    wrong.append(f"{name} calling {method}: {found}, not {expected}")
    assert wrong == []


async def test_a_refusal_says_who_may_and_leaves_an_audit_row(listeners: Listeners) -> None:
    viewer = await listeners.enrolled("operator", "eve", role="viewer")
    async with wire.aio_channel(viewer, listeners.fleet_address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            await call(channel, "mosaic.v1.MessageService/Send")
    told = wire.error_from_rpc(refused.value)
    assert (told.code, told.exit_code) == ("denied", 4)
    assert "eve (viewer)" in told.what
    assert "operator:admin" in told.why
    row = await listeners.database.pool.fetchrow("select * from fleet.audit where outcome = 'denied'")
    assert row is not None
    assert (row["caller_kind"], row["caller_name"], row["method"]) == (
        "operator",
        "eve",
        "MessageService/Send",
    )
    assert (row["caller_role"], row["caller_host"]) == ("viewer", "")
    assert row["request_id"] == told.details["request_id"]
    assert row["tenant_id"] is not None


async def test_who_cannot_be_authenticated_leaves_an_audit_row_too(listeners: Listeners, peer: pki.Authority) -> None:
    admin = await listeners.enrolled("operator", "ada", role="admin")
    async with wire.aio_channel(forged(admin, peer), listeners.fleet_address) as channel:
        with pytest.raises(grpc.RpcError):
            await call(channel, "mosaic.v1.FleetService/ListAgents")
    row = await listeners.database.pool.fetchrow("select * from fleet.audit where outcome = 'not-authenticated'")
    assert row is not None
    assert (row["tenant_id"], row["caller_kind"]) == (None, "unknown")
    assert admin.spiffe_id in row["detail"]


async def test_a_change_in_the_register_counts_within_a_second(listeners: Listeners) -> None:
    now = [1000.0]
    authenticator = Authenticator(listeners.database, listeners.cluster, clock=lambda: now[0])
    ada = await listeners.enrolled("operator", "ada", role="operator")
    assert (await authenticator.authenticate(ada.certificate_pem)).caller.role == "operator"
    await listeners.database.pool.execute("update fleet.operator set role = 'viewer'")
    now[0] += 0.9
    assert (await authenticator.authenticate(ada.certificate_pem)).caller.role == "operator"
    now[0] += 0.1
    assert (await authenticator.authenticate(ada.certificate_pem)).caller.role == "viewer"
