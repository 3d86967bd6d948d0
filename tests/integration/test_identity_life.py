"""The life of an identity at a real listener: renewed, shown where the older leaf is in use, ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from mosaic_cli.context import LOCAL, Context, Contexts, save
from mosaic_cli.keep_login import is_due, keep_login
from mosaic_controlplane.identity.authenticate import Authenticator
from mosaic_controlplane.identity.renewal import renew
from mosaic_controlplane.register.database import Database
from mosaic_framework import pki, renewal, wire
from mosaic_framework.errors import FleetError, IdentityRevoked
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home
from mosaic_framework.renewal import Renewal
from mosaic_proto.v1 import common_pb2, identity_pb2, identity_pb2_grpc

from tests.integration.test_callers import launched, seat
from tests.support.listeners import Listeners, call, running

WATCH = "mosaic.v1.FleetService/Watch"


async def forever(_method: str, _context: Any) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def serving(database: Database, folder: Path, **more: Any) -> AsyncIterator[Listeners]:
    async with running(database, folder, identities=True, **more) as listeners:
        yield listeners


def stub(channel: grpc.aio.Channel) -> identity_pb2_grpc.IdentityServiceAsyncStub:
    return identity_pb2_grpc.IdentityServiceStub(channel)


async def renewed(listeners: Listeners, identity: StoredIdentity) -> StoredIdentity:
    made = Renewal.of(identity)
    async with wire.aio_channel(identity, listeners.fleet_address) as channel:
        return made.taken(await stub(channel).Renew(made.request()))


def brief(listeners: Listeners, identity: StoredIdentity, seconds: float) -> StoredIdentity:
    """The same identity under a leaf that ends soon."""
    key = pki.new_key()
    leaf = listeners.cluster.signer.issue(
        key.public_key(),
        pki.SpiffeId.parse(identity.spiffe_id),
        identity_id=identity.identity_id,
        identity_epoch=identity.identity_epoch,
        lifetime=timedelta(seconds=seconds),
    )
    return replace(
        identity,
        key_pem=pki.key_to_pem(key),
        certificate_pem=pki.certificate_to_pem(leaf),
        not_after=leaf.not_valid_after_utc.astimezone(UTC),
    )


async def end_of(running_call: asyncio.Task[Any]) -> FleetError:
    with pytest.raises(grpc.RpcError) as ended:
        await asyncio.wait_for(running_call, 20)
    return wire.error_from_rpc(ended.value)


async def test_a_renewal_brings_a_day_more_for_the_same_identity_under_a_new_key(
    database: Database, tmp_path: Path
) -> None:
    async with serving(database, tmp_path) as listeners:
        for kind, role in (("host", ""), ("operator", "viewer")):
            old = await listeners.enrolled(kind, "ada", role=role)
            new = await renewed(listeners, old)
            assert (new.identity_id, new.identity_epoch, new.spiffe_id) == (old.identity_id, 1, old.spiffe_id)
            assert new.key_pem != old.key_pem
            assert timedelta(hours=23) < new.not_after - datetime.now(UTC) <= timedelta(hours=24)
            assert new.renew_at is not None
            assert timedelta(hours=10) < new.renew_at - datetime.now(UTC) < timedelta(hours=14)
            assert await renewed(listeners, new), "and it is good for the next one"
        rows = await database.pool.fetch(
            "select replaced_at is not null as replaced from fleet.leaf order by issued_at"
        )
        assert [row["replaced"] for row in rows] == [True, True, False] * 2


async def test_a_renewal_with_the_key_in_use_is_refused(database: Database, tmp_path: Path) -> None:
    async with serving(database, tmp_path) as listeners:
        ada = await listeners.enrolled("operator", "ada", role="viewer")
        same = Renewal(ada, pki.key_from_pem(ada.key_pem))
        async with wire.aio_channel(ada, listeners.fleet_address) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                await stub(channel).Renew(same.request())
    assert wire.error_from_rpc(refused.value).code == "invalid-input"


@pytest.mark.parametrize("kind", ["host", "operator"])
async def test_a_renewal_that_was_let_in_a_moment_before_a_revocation_is_refused(
    database: Database, tmp_path: Path, kind: str
) -> None:
    async with serving(database, tmp_path) as listeners:
        old = await listeners.enrolled(kind, "ada", role="viewer" if kind == "operator" else "")
        found = await Authenticator(database, listeners.cluster).authenticate(old.certificate_pem)
        await database.pool.execute("update fleet.operator set revoked_at = now()")
        await database.pool.execute("update fleet.host set state = 'revoked', revoked_at = now()")
        with pytest.raises(IdentityRevoked):
            await renew(
                database,
                listeners.cluster,
                found.caller,
                leaf_pem=old.certificate_pem,
                key=pki.new_key().public_key(),
                fleet_addresses=[],
            )
    assert await database.pool.fetchval("select count(*) from fleet.leaf") == 1


async def test_a_stream_goes_on_past_its_leafs_end_when_a_newer_one_was_shown_and_ends_when_not(
    database: Database, tmp_path: Path
) -> None:
    async with serving(database, tmp_path, behaviour=forever) as listeners:
        ada = await listeners.enrolled("operator", "ada", role="viewer")
        old = brief(listeners, ada, 4)
        async with (
            wire.aio_channel(old, listeners.fleet_address) as shown,
            wire.aio_channel(old, listeners.fleet_address) as silent,
        ):
            kept = asyncio.create_task(call(shown, WATCH))
            dropped = asyncio.create_task(call(silent, WATCH))
            new = await renewed(listeners, old)
            reply = await stub(shown).Present(renewal.presentation(old.certificate_pem, new))
            assert reply.not_after.ToDatetime(tzinfo=UTC) == new.not_after
            ended = await end_of(dropped)
            assert (ended.code, "expired" in ended.what) == ("not-authenticated", True)
            await asyncio.sleep(max(0.0, (old.not_after - datetime.now(UTC)).total_seconds()) + 0.5)
            assert not kept.done()
            await stub(shown).List(identity_pb2.ListIdentitiesRequest())  # a new call on it is the newer leaf's too
            newest = await renewed(listeners, new)
            await stub(shown).Present(renewal.presentation(old.certificate_pem, newest))
            await database.pool.execute("update fleet.operator set revoked_at = now()")
            assert (await end_of(kept)).code == "identity-revoked"


async def test_only_a_leaf_of_the_same_identity_whose_key_signs_for_this_connection_is_taken(
    database: Database, tmp_path: Path
) -> None:
    async with serving(database, tmp_path) as listeners:
        ada = await listeners.enrolled("operator", "ada", role="viewer")
        ben = await listeners.enrolled("operator", "ben", role="viewer")
        ada_later = await renewed(listeners, ada)
        replayed = renewal.presentation(ada.certificate_pem, ada_later)
        forged = identity_pb2.PresentRequest(certificate_der=replayed.certificate_der, signature=b"x" * 70)
        async with (
            wire.aio_channel(ada, listeners.fleet_address) as adas,
            wire.aio_channel(ben, listeners.fleet_address) as bens,
        ):
            for channel, request in (
                (bens, renewal.presentation(ben.certificate_pem, ada_later)),
                (bens, replayed),
                (adas, forged),
                (adas, identity_pb2.PresentRequest(certificate_der=b"rubbish")),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    await stub(channel).Present(request)
                assert wire.error_from_rpc(refused.value).code == "not-a-renewal"
            await stub(adas).Present(replayed)


async def test_a_replica_that_has_been_without_the_register_for_five_seconds_refuses_calls_at_once(
    database: Database, tmp_path: Path
) -> None:
    away = [0.0]
    async with running(database, tmp_path, register_away=lambda: away[0]) as listeners:
        ada = await listeners.enrolled("operator", "ada", role="viewer")
        async with wire.aio_channel(ada, listeners.fleet_address) as channel:
            await call(channel, WATCH)
            away[0] = 5.0
            with pytest.raises(grpc.RpcError) as refused:
                await call(channel, WATCH)
    assert wire.error_from_rpc(refused.value).code == "register-unreachable"


async def test_a_revocation_whose_word_was_lost_is_found_by_looking(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path, behaviour=forever, recheck_seconds=0.2) as listeners:
        ada = await listeners.enrolled("operator", "ada", role="viewer")
        async with wire.aio_channel(ada, listeners.fleet_address) as channel:
            watching = asyncio.create_task(call(channel, WATCH))
            await asyncio.wait_for(listeners.reached.wait(), 10)
            await database.pool.execute("alter table fleet.operator disable trigger operator_standing_changed")
            await database.pool.execute("update fleet.operator set revoked_at = now()")
            assert (await end_of(watching)).code == "identity-revoked"


async def test_a_stream_of_an_agent_ends_soon_after_its_run_of_which_nobody_tells(
    database: Database, tmp_path: Path
) -> None:
    async with running(database, tmp_path, behaviour=forever, recheck_seconds=0.2) as listeners:
        host = await listeners.enrolled("host", "web1")
        agent = await seat(database, host, "engineer")
        run = await launched(database, agent)
        async with wire.aio_channel(host, listeners.fleet_address) as channel:
            as_agent = {wire.AGENT_KEY: str(agent), wire.RUN_KEY: str(run)}
            watching = asyncio.create_task(call(channel, WATCH, metadata=as_agent))
            await asyncio.wait_for(listeners.reached.wait(), 10)
            await database.pool.execute("update fleet.run set ended_at = now()")
            assert (await end_of(watching)).code == "session-over"


async def test_a_stream_that_a_lower_role_may_not_have_ends_with_the_role(database: Database, tmp_path: Path) -> None:
    method = "mosaic.v1.TerminalService/Attach"
    async with running(database, tmp_path, behaviour=forever) as listeners:
        ada = await listeners.enrolled("operator", "ada", role="operator")
        async with wire.aio_channel(ada, listeners.fleet_address) as channel:
            attached = asyncio.create_task(call(channel, method))
            await asyncio.wait_for(listeners.reached.wait(), 10)
            await database.pool.execute("update fleet.operator set role = 'viewer'")
            assert (await end_of(attached)).code == "denied"


async def test_two_commands_that_find_a_login_due_at_once_renew_it_once(database: Database, tmp_path: Path) -> None:
    async with serving(database, tmp_path) as listeners:
        folder = tmp_path / "ada"
        ada = replace(await listeners.enrolled("operator", "ada", role="viewer"), renew_at=None)
        ada.save(folder)
        with wire.channel(ada, listeners.fleet_address) as channel:
            blocking: Any = identity_pb2_grpc.IdentityServiceStub(channel)
            with ThreadPoolExecutor(4) as pool:
                loop = asyncio.get_running_loop()
                asks = [loop.run_in_executor(pool, renewal.renewed, folder, ada, blocking.Renew) for _ in range(4)]
                found = await asyncio.gather(*asks)
    assert {one.certificate_pem for one in found} == {StoredIdentity.load(folder).certificate_pem}
    assert await database.pool.fetchval("select count(*) from fleet.leaf") == 2, "the login's, and one renewal's"


async def test_identities_are_listed_with_what_became_of_them_and_a_revocation_says_why(
    database: Database, tmp_path: Path
) -> None:
    async with serving(database, tmp_path) as listeners:
        admin = await listeners.enrolled("operator", "ada", role="admin")
        await listeners.enrolled("host", "web1")
        async with wire.aio_channel(admin, listeners.fleet_address) as channel:
            asked = identity_pb2.RevokeRequest(kind=common_pb2.PRINCIPAL_KIND_HOST, name="web1", reason="it was sold")
            await stub(channel).Revoke(asked)
            listed = (await stub(channel).List(identity_pb2.ListIdentitiesRequest())).identities
            asked.name = "web2"
            with pytest.raises(grpc.RpcError) as unknown:
                await stub(channel).Revoke(asked)
            shown = await stub(channel).List(identity_pb2.ListIdentitiesRequest(name="ada"))
    assert [(one.name, one.state, one.revoked_by, one.revoked_reason) for one in listed] == [
        ("web1", "revoked", "ada", "it was sold"),
        ("ada", "good", "", ""),
    ]
    assert "web1" in wire.error_from_rpc(unknown.value).why
    leaf = x509.load_pem_x509_certificate(admin.certificate_pem)
    assert [one.serial for one in shown.identities[0].leaves] == [pki.serial_of(leaf)]


async def test_the_machines_own_login_is_renewed_while_nobody_uses_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "person")
    folder = home.root / "pki/operators/local"
    async with serving(database, tmp_path) as listeners:
        ada = replace(await listeners.enrolled("operator", "ada", role="viewer"), renew_at=None)
        ada.save(folder)
        item = Context(LOCAL, (listeners.fleet_address,), "pki/operators/local")
        save(home, Contexts().put(item, make_current=True))
        monkeypatch.setenv("MOSAIC_HOME", str(home.root))
        assert is_due(home)
        keeping = asyncio.create_task(keep_login(home))
        async with asyncio.timeout(60):
            while is_due(home):
                await asyncio.sleep(0.05)
        keeping.cancel()
        await asyncio.wait({keeping})  # it ends the renewal that it started
    assert StoredIdentity.load(folder).key_pem != ada.key_pem
