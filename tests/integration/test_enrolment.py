"""Enrolment end to end: real TLS on both listeners, a real register, and the client that users run."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from mosaic_controlplane.identity.bootstrap import open_cluster
from mosaic_controlplane.register import revocation, tenant
from mosaic_controlplane.register.database import Database
from mosaic_framework import pki, wire
from mosaic_framework.enrolment import KINDS, FalseIdentity, JoinToken, TurnedAway, enrol
from mosaic_framework.errors import (
    EXIT_DENIED,
    EXIT_UNREACHABLE,
    Denied,
    FleetError,
    InvalidInput,
    TokenExpired,
    TokenInvalid,
    TokenSpent,
    TokenWrongName,
    TooManyAttempts,
    Unreachable,
)
from mosaic_framework.identity_files import FILE, StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import enrolment_pb2, enrolment_pb2_grpc

from tests.support.listeners import Listeners, call, running

LIST = "mosaic.v1.FleetService/ListAgents"


@pytest.fixture
async def listeners(database: Database, tmp_path: Path) -> AsyncIterator[Listeners]:
    async with running(database, tmp_path) as made:
        yield made


def token_to(address: str) -> JoinToken:
    """Return a token of a cluster that is nowhere."""
    return JoinToken(
        kind="host",
        tenant="default",
        name="builder",
        trust_domain="a.mosaic",
        addresses=[address],
        authority_der=pki.certificate_to_der(pki.Authority.create("a.mosaic").certificate),
        secret="s",
    )


async def audit_outcomes(database: Database) -> list[str]:
    rows = await database.pool.fetch("select outcome from fleet.audit order by audit_id")
    return [row["outcome"] for row in rows]


async def ask(
    listeners: Listeners, token: JoinToken, key: object = None, *, csr: bytes = b""
) -> enrolment_pb2.EnrolReply:
    """One attempt on the wire with a key of our choice. Raises the FleetError that the server sent."""
    request = enrolment_pb2.EnrolRequest(
        secret=token.secret,
        kind=KINDS[token.kind],
        name=token.name,
        signing_request_der=csr or pki.signing_request(key or pki.new_key()),
    )
    credentials = grpc.ssl_channel_credentials(listeners.cluster.bundle_pem)
    async with grpc.aio.secure_channel(listeners.enrol_address, credentials, options=wire.client_options()) as channel:
        try:
            return await enrolment_pb2_grpc.EnrolmentServiceStub(channel).Enrol(request, timeout=10)
        except grpc.RpcError as error:
            raise wire.error_from_rpc(error) from error


async def test_a_host_joins_with_a_token_and_is_known_by_its_certificate(listeners: Listeners) -> None:
    identity = await listeners.enrolled("host", "builder")
    async with wire.aio_channel(identity, identity.fleet_addresses[0]) as channel:
        await call(channel, "mosaic.v1.HostLinkService/Link")
    ((_, caller),) = listeners.answered
    assert (caller.kind, caller.name, caller.tenant) == ("host", "builder", "default")
    assert str(caller.id) == str(caller.host_id) == identity.identity_id
    assert identity.spiffe_id == f"spiffe://{listeners.cluster.trust_domain}/tenant/default/host/builder"


async def test_an_operator_logs_in_with_the_role_of_the_token(listeners: Listeners) -> None:
    identity = await listeners.enrolled("operator", "ada", role="viewer")
    async with wire.aio_channel(identity, listeners.fleet_address) as channel:
        await call(channel, LIST)
    ((_, caller),) = listeners.answered
    assert (caller.kind, caller.name, caller.role) == ("operator", "ada", "viewer")
    assert caller.peer_address.startswith("127.0.0.1:")


async def test_the_blocking_channel_speaks_mtls_too(listeners: Listeners) -> None:
    identity = await listeners.enrolled("operator", "ada", role="viewer")

    def ask_health() -> bytes:
        with wire.channel(identity, listeners.fleet_address) as channel:
            return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)

    assert await asyncio.to_thread(ask_health) == b""


async def test_a_joined_identity_is_private_on_disk_and_whole(listeners: Listeners) -> None:
    identity = await listeners.enrolled("host", "builder")
    folder = listeners.folder / "builder"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert [path.name for path in folder.glob("pending-*")] == []
    assert StoredIdentity.load(folder) == identity


async def test_the_register_holds_neither_a_secret_nor_a_private_key(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    identity = await listeners.join(token)
    private = pki.key_from_pem(identity.key_pem).private_numbers().private_value.to_bytes(32, "big")
    authority = listeners.cluster.signer.key.private_numbers().private_value.to_bytes(32, "big")
    tables = await listeners.database.pool.fetch("select tablename from pg_tables where schemaname = 'fleet'")
    for row in tables:
        dump = (
            await listeners.database.pool.fetchval(f'select json_agg(t)::text from fleet."{row["tablename"]}" t') or ""
        )
        assert token.secret not in dump
        assert token.secret.encode().hex() not in dump
        assert private.hex() not in dump
        assert authority.hex() not in dump


async def test_a_token_tried_by_the_wrong_name_is_refused_and_stays_usable(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    with pytest.raises(TokenWrongName) as refused:
        await listeners.join(token, "elsewhere", name="other")
    assert refused.value.exit_code == EXIT_DENIED
    assert "builder" in refused.value.what
    assert "mosaic host token other" in refused.value.next_step
    assert not (listeners.folder / "elsewhere" / FILE).exists()
    assert (await listeners.join(token)).name == "builder"
    assert await audit_outcomes(listeners.database) == ["token-wrong-name", "done"]


async def test_a_refused_join_leaves_no_key_behind(listeners: Listeners) -> None:
    token, late = await listeners.token("host", "builder"), await listeners.token("host", "late")
    await listeners.join(token)
    await listeners.database.pool.execute("update fleet.join_token set expires_at = now() where name = 'late'")
    tried = [(token, "builder"), (late, "late"), (replace(late, secret="x" * 43), "late"), (token, "other")]
    for number, (refused, name) in enumerate(tried):
        with pytest.raises(Denied):
            await listeners.join(refused, f"refused-{number}", name=name)
        assert not list((listeners.folder / f"refused-{number}").glob("*.pem"))


async def test_a_host_token_does_not_make_an_operator(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    with pytest.raises(TokenWrongName):
        await ask(listeners, replace(token, kind="operator"))


async def test_a_token_used_twice_with_another_key_is_spent(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    await listeners.join(token)
    with pytest.raises(TokenSpent) as refused:
        await listeners.join(token, "thief")
    assert refused.value.exit_code == EXIT_DENIED
    assert "mosaic host token builder" in refused.value.next_step
    assert await audit_outcomes(listeners.database) == ["done", "token-spent"]


async def test_a_token_tried_late_has_expired_even_for_who_spent_it(listeners: Listeners) -> None:
    token, late = await listeners.token("host", "builder"), await listeners.token("host", "late")
    key = pki.new_key()
    await ask(listeners, token, key)
    await listeners.database.pool.execute("update fleet.join_token set expires_at = now()")
    for tried in (token, late):
        with pytest.raises(TokenExpired) as refused:
            await ask(listeners, tried, key)
        assert refused.value.exit_code == EXIT_DENIED
        assert f"mosaic host token {tried.name}" in refused.value.next_step


async def test_a_token_that_nobody_made_is_invalid(listeners: Listeners) -> None:
    token = replace(await listeners.token("host", "builder"), secret="guessed")
    with pytest.raises(TokenInvalid) as refused:
        await listeners.join(token)
    assert refused.value.exit_code == EXIT_DENIED
    assert await audit_outcomes(listeners.database) == ["token-invalid"]


async def test_a_joiner_whose_reply_was_lost_gets_the_same_certificate_again(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    key = pki.new_key()
    first = await ask(listeners, token, key)
    again = await ask(listeners, token, key)
    assert again.certificate_der == first.certificate_der
    assert (again.identity_id, again.identity_epoch) == (first.identity_id, 1)


async def test_a_join_cut_off_before_the_reply_succeeds_when_run_again(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await listeners.token("host", "builder")

    def cut(*_arguments: object) -> None:
        raise ConnectionError("the reply is lost")

    with monkeypatch.context() as lost:
        lost.setattr("mosaic_framework.enrolment._checked", cut)  # the server has answered; nothing of it arrives
        with pytest.raises(ConnectionError):
            await listeners.join(token)
    assert not (listeners.folder / "builder" / FILE).exists()
    identity = await listeners.join(token)
    assert identity.identity_epoch == 1
    async with wire.aio_channel(identity, listeners.fleet_address) as channel:
        await call(channel, "mosaic.v1.HostLinkService/Link")


async def test_a_join_cut_off_after_its_identity_was_saved_succeeds_when_run_again(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    first = await listeners.join(token)
    again = await listeners.join(token)
    assert (again.key_pem, again.certificate_pem) == (first.key_pem, first.certificate_pem)
    other = await listeners.join(await listeners.token("host", "other"), "another")
    with pytest.raises(TokenSpent):
        await listeners.join(token, "another")
    assert StoredIdentity.load(listeners.folder / "another") == other
    assert not list(listeners.folder.glob("*/pending-*"))


async def test_two_joiners_who_race_with_one_token_make_one_identity(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    outcomes = await asyncio.gather(*(ask(listeners, token) for _ in range(6)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["EnrolReply", *["TokenSpent"] * 5]
    assert await listeners.database.pool.fetchval("select identity_epoch from fleet.host") == 1


async def test_joining_again_under_a_known_name_keeps_the_id_and_shuts_out_older_certificates(
    listeners: Listeners,
) -> None:
    old = await listeners.enrolled("host", "builder")
    new = await listeners.enrolled("host", "builder")
    assert new.identity_id == old.identity_id
    assert (old.identity_epoch, new.identity_epoch) == (1, 2)
    async with wire.aio_channel(old, listeners.fleet_address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            await call(channel, "mosaic.v1.HostLinkService/Link")
    assert wire.error_from_rpc(refused.value).code == "identity-superseded"


async def test_an_operator_may_be_logged_in_on_two_machines(listeners: Listeners) -> None:
    for machine in ("laptop", "desk"):
        identity = await listeners.join(await listeners.token("operator", "ada", role="admin"), machine)
        assert identity.identity_epoch == 1


async def test_a_revoked_name_comes_back_only_by_a_token_made_after_that_and_as_a_new_identity(
    listeners: Listeners,
) -> None:
    for kind, name, role, revoke in (
        ("host", "builder", "", revocation.revoke_host),
        ("operator", "ada", "admin", revocation.revoke_operator),
    ):
        old = await listeners.enrolled(kind, name, role=role)
        before = await listeners.token(kind, name, role=role)
        async with listeners.database.transaction() as connection:
            found = await tenant.find_by_name(connection, "default")
            assert found is not None
            done = await revoke(connection, tenant_id=found.tenant_id, name=name, by="a test", reason="")
        assert done is not None
        assert (done.already, done.tokens) == (False, 1)
        with pytest.raises(TokenExpired):
            await listeners.join(before)
        new = await listeners.enrolled(kind, name, role=role)
        assert (new.identity_id, new.identity_epoch) == (old.identity_id, old.identity_epoch + 1)
        async with wire.aio_channel(old, listeners.fleet_address) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                await call(channel, "mosaic.v1.FleetService/ListAgents")
        assert wire.error_from_rpc(refused.value).code == "identity-superseded"


async def test_the_server_sets_the_name_whatever_the_signing_request_says(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    wanted = f"spiffe://{listeners.cluster.trust_domain}/tenant/default/operator/root"
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(wanted)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(pki.new_key(), hashes.SHA256())
    )
    reply = await ask(listeners, token, csr=greedy.public_bytes(serialization.Encoding.DER))
    leaf = x509.load_der_x509_certificate(reply.certificate_der)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [
        f"spiffe://{listeners.cluster.trust_domain}/tenant/default/host/builder"
    ]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "root" not in leaf.subject.rfc4514_string()


@pytest.mark.parametrize("csr", [b"rubbish", b"\x30" * 20_000, b""])
async def test_a_rubbish_signing_request_is_told_so_and_spends_nothing(listeners: Listeners, csr: bytes) -> None:
    token = await listeners.token("host", "builder")
    with pytest.raises(InvalidInput):
        await ask(listeners, token, csr=csr or b"\0")
    assert (
        await listeners.database.pool.fetchval("select count(*) from fleet.join_token where spent_at is not null") == 0
    )


@pytest.mark.parametrize("name", ["../x", "a;b", "x" * 300, "nul\0", ""])
async def test_a_hostile_name_is_refused_before_the_register_sees_it(listeners: Listeners, name: str) -> None:
    token = await listeners.token("host", "builder")
    with pytest.raises(FleetError) as refused:
        await ask(listeners, replace(token, name=name))
    assert isinstance(refused.value, InvalidInput)
    assert refused.value.code == ("malformed-request" if "\0" in name else "invalid-input")


async def test_a_flood_of_guesses_is_bounded(listeners: Listeners) -> None:
    token = replace(await listeners.token("host", "builder"), secret="guessed")
    outcomes = await asyncio.gather(*(ask(listeners, token, pki.new_key()) for _ in range(60)), return_exceptions=True)
    refused = [type(outcome) for outcome in outcomes]
    assert set(refused) == {TokenInvalid, TooManyAttempts}
    assert refused.count(TokenInvalid) <= 30


async def test_a_token_of_another_cluster_trusts_only_that_cluster(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    stranger = pki.Authority.create("stranger.mosaic")
    with pytest.raises(TokenInvalid) as refused:
        await listeners.join(replace(token, authority_der=pki.certificate_to_der(stranger.certificate)))
    assert "not of the cluster" in refused.value.what


async def test_a_reply_that_is_not_what_the_token_promised_is_not_saved(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    with pytest.raises(FalseIdentity):
        await listeners.join(replace(token, tenant="another"))
    assert not (listeners.folder / "builder" / FILE).exists()


async def test_nobody_at_the_address_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as failed:
        await asyncio.to_thread(enrol, token_to("127.0.0.1:1"), tmp_path / "host", timeout=3)
    assert "127.0.0.1:1" in failed.value.what


async def test_a_joiner_whose_clock_is_not_the_servers_is_told_so_and_not_that_nobody_is_there(tmp_path: Path) -> None:
    authority, key = pki.Authority.create("a.mosaic"), pki.new_key()
    ended = authority.issue(
        key.public_key(),
        pki.SpiffeId.parse(f"spiffe://a.mosaic/replica/{new_id()}"),
        identity_id=str(new_id()),
        identity_epoch=1,
        dns_names=[pki.SERVER_NAME],
        lifetime=timedelta(seconds=-1),
    )
    server = grpc.aio.server()
    shown = wire.enrol_server_credentials(pki.key_to_pem(key), pki.certificate_to_pem(ended))
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', shown)}"
    await server.start()
    token = replace(token_to(address), authority_der=pki.certificate_to_der(authority.certificate))
    try:
        with pytest.raises(wire.OutOfTime) as told:
            await asyncio.to_thread(enrol, token, tmp_path / "host", timeout=3)
    finally:
        await server.stop(None)
    assert "by this machine's clock" in told.value.what
    assert "clock" in told.value.next_step


async def test_a_joiner_goes_on_to_the_next_address_when_one_is_dead(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    identity = await listeners.join(replace(token, addresses=["127.0.0.1:1", *token.addresses]))
    assert identity.fleet_addresses == [listeners.fleet_address]


async def test_a_token_is_short_lived_unless_asked_otherwise_and_never_longer_than_a_day(listeners: Listeners) -> None:
    with pytest.raises(InvalidInput):
        await listeners.token("host", "builder", ttl=timedelta(days=2))
    with pytest.raises(InvalidInput):
        await listeners.token("host", "builder", ttl=timedelta(0))


async def test_the_enrolment_listener_serves_nothing_but_enrolment(listeners: Listeners) -> None:
    credentials = grpc.ssl_channel_credentials(listeners.cluster.bundle_pem)
    async with grpc.aio.secure_channel(listeners.enrol_address, credentials, options=wire.client_options()) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            await call(channel, LIST)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_register_down_is_told_as_unreachable_to_a_joiner(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    await listeners.database.close()
    with pytest.raises(FleetError) as failed:
        await ask(listeners, token)
    assert failed.value.code == "register-unreachable"


async def test_replicas_that_start_together_make_one_cluster(database: Database, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    clusters = await asyncio.gather(*(open_cluster(database, home, alias="one") for _ in range(4)))
    assert len({cluster.trust_domain for cluster in clusters}) == 1
    assert len({cluster.bundle_pem for cluster in clusters}) == 1
    assert stat.S_IMODE((home.pki / "authority.key").stat().st_mode) == 0o600


async def test_a_cluster_keeps_its_identity_over_a_restart_and_ignores_another_alias(
    database: Database, tmp_path: Path
) -> None:
    first = await open_cluster(database, Home(tmp_path), alias="one")
    again = await open_cluster(database, Home(tmp_path), alias="two")
    assert (again.trust_domain, again.alias, again.bundle_pem) == (first.trust_domain, "one", first.bundle_pem)


async def test_a_machine_without_the_key_file_is_told_to_copy_it_and_makes_no_other(
    database: Database, tmp_path: Path
) -> None:
    await open_cluster(database, Home(tmp_path / "a"), alias="one")
    with pytest.raises(FleetError) as missing:
        await open_cluster(database, Home(tmp_path / "b"), alias="one")
    assert missing.value.code == "authority-key-missing"
    assert not (tmp_path / "b" / "pki" / "authority.key").exists()
    (tmp_path / "a" / "pki" / "authority.key").write_text("00" * 32)
    with pytest.raises(FleetError) as wrong:
        await open_cluster(database, Home(tmp_path / "a"), alias="one")
    assert wrong.value.code == "authority-key-wrong"


async def test_connections_that_say_nothing_do_not_keep_a_joiner_out(listeners: Listeners) -> None:
    token = await listeners.token("host", "builder")
    host, _, port = listeners.enrol_address.partition(":")
    silent = await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(200)))
    try:
        async with asyncio.timeout(3):
            assert (await listeners.join(token)).name == "builder"
    finally:
        for _, writer in silent:
            writer.close()


async def test_who_finds_the_listener_taken_up_gets_in_when_those_who_say_nothing_are_let_go(
    database: Database, tmp_path: Path
) -> None:
    few = [("grpc.max_allowed_incoming_connections", 16), ("grpc.server_handshake_timeout_ms", 1_000)]
    async with running(database, tmp_path, options=few) as listeners:
        token = await listeners.token("host", "builder")
        host, _, port = listeners.enrol_address.partition(":")
        silent = await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(16)))
        told: list[str] = []
        try:
            identity = await asyncio.to_thread(enrol, token, tmp_path / "builder", tell=told.append)
        finally:
            for _, writer in silent:
                writer.close()
    assert identity.name == "builder"
    assert told == [f"{listeners.enrol_address} closes the connection at once; trying again"]


async def test_who_is_turned_away_for_long_is_told_why_and_what_to_do(tmp_path: Path) -> None:
    knocks = 0

    def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        knocks += 1
        writer.close()

    async with await asyncio.start_server(closes, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(TurnedAway) as failed:
            await asyncio.to_thread(enrol, token_to(address), tmp_path / "host", patience=1.0)
    assert knocks > 1
    assert address in failed.value.what
    assert "as many connections" in failed.value.why
    assert failed.value.exit_code == EXIT_UNREACHABLE
