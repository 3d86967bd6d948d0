"""A tenant is removed when nobody is left who would not be told."""

from __future__ import annotations

import grpc.aio
import pytest
from mosaic_framework import wire
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import people_pb2, people_pb2_grpc

from tests.support.mesh import Mesh


async def removed(mesh: Mesh, name: str) -> FleetError | None:
    """Ask for a tenant to be removed; return why it is not."""
    tenants: people_pb2_grpc.TenantServiceAsyncStub = people_pb2_grpc.TenantServiceStub(mesh.channel)
    try:
        await tenants.Remove(people_pb2.RemoveTenantRequest(request_id=str(new_id()), name=name))
    except grpc.aio.AioRpcError as error:
        return wire.error_from_rpc(error)
    return None


@pytest.mark.parametrize(
    ("made", "ended", "named", "step"),
    [
        (
            "insert into fleet.host (tenant_id, host_id, name, state) "
            "select tenant_id, gen_random_uuid(), 'alpha', 'live' from fleet.tenant where name = $1 returning 1",
            "update fleet.host set state = 'lost' where name = 'alpha' returning 1",
            {"hosts": "alpha"},
            "mosaic down",
        ),
        (
            "insert into fleet.peer (tenant_id, peer_id, name, trust_domain, cluster, their_tenant, bundle, paired_by) "
            "select tenant_id, gen_random_uuid(), 'west', 'w.example', 'west', 'default', '', 'anna' "
            "from fleet.tenant where name = $1 returning 1",
            "update fleet.peer set revoked_at = now(), revoked_by = 'us' where name = 'west' returning 1",
            {"peers": "west"},
            "mosaic peer revoke west",
        ),
    ],
    ids=["a linked host", "a peer"],
)
async def test_a_tenant_in_use_is_not_removed_and_is_when_its_use_has_ended(
    mesh: Mesh, made: str, ended: str, named: dict[str, str], step: str
) -> None:
    tenants: people_pb2_grpc.TenantServiceAsyncStub = people_pb2_grpc.TenantServiceStub(mesh.channel)
    await tenants.Create(people_pb2.CreateTenantRequest(request_id=str(new_id()), name="acme", admin="alma"))
    await mesh.register_value(made, "acme")
    refused = await removed(mesh, "acme")
    assert refused is not None
    assert refused.code == "tenant-in-use"
    assert named.items() <= refused.details.items()
    assert step in refused.next_step
    await mesh.register_value(ended)
    assert await removed(mesh, "acme") is None
    assert await mesh.register_value("select count(*) from fleet.tenant where name = 'acme'") == 0
