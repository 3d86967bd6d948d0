"""The audit on a whole control plane: one row for every write, whoever makes it, when it is done and when it fails."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from mosaic_controlplane.api.auditing import audited
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import (
    backlog_pb2,
    common_pb2,
    fleet_pb2,
    host_life_pb2,
    identity_pb2,
    messages_pb2,
    peers_pb2,
    people_pb2,
    runtimes_pb2,
)

from tests.support.listeners import method_kinds
from tests.support.mesh import Mesh
from tests.support.tenants import Side, answer, mesh_stub, two_sides

ELSEWHERE = {
    "mosaic.v1.FleetService/ApplyRoster",  # made by `two_sides`
    "mosaic.v1.TerminalService/Attach",  # needs a seat: test_terminal_attach.py
    "mosaic.v1.PeerService/Join",  # needs another cluster: test_pairing.py
}


def writes(side: Side) -> list[tuple[str, Any]]:
    """Return a write of every kind that an admin of the first tenant can make, in an order in which all succeed."""
    word, message_id = side.tenant, str(new_id())
    card, other = f"{word}-card", "another"
    content = backlog_pb2.CardContent(title="a title")
    draft = backlog_pb2.CardDraft(id=other, content=content)
    seat, person = f"{word}-agent", common_pb2.PRINCIPAL_KIND_OPERATOR
    return [
        ("HostService/CreateToken", fleet_pb2.CreateHostTokenRequest(name="more")),
        ("HostLifeService/Drain", host_life_pb2.DrainHostRequest(name=f"{word}-host")),
        ("HostLifeService/Undrain", host_life_pb2.DrainHostRequest(name=f"{word}-host")),
        ("HostLifeService/SetLostPolicy", host_life_pb2.SetLostPolicyRequest(lost_after_ms=90_000)),
        ("HostLifeService/Remove", host_life_pb2.RemoveHostRequest(name="spare")),
        ("FleetService/ChangeSeats", fleet_pb2.ChangeSeatsRequest(action=fleet_pb2.SEAT_ACTION_STOP, agents=[seat])),
        ("RuntimeService/UpdateRuntime", runtimes_pb2.UpdateRuntimeRequest(host=f"{word}-host", runtime="pi")),
        ("MessageService/Send", messages_pb2.SendRequest(request_id=message_id, to=seat, body="a secret text")),
        ("MessageService/Cancel", messages_pb2.CancelMessageRequest(message_id=message_id)),
        ("BacklogService/Create", backlog_pb2.CreateCardsRequest(cards=[draft])),
        ("BacklogService/Update", backlog_pb2.UpdateCardRequest(card_id=card, content=content, fields=["title"])),
        ("BacklogService/Link", backlog_pb2.LinkRequest(card_id=card, depends_on=[other])),
        ("BacklogService/Unlink", backlog_pb2.LinkRequest(card_id=card, depends_on=[other])),
        ("BacklogService/Pause", backlog_pb2.PauseRequest(reason="because")),
        ("BacklogService/Resume", backlog_pb2.PauseRequest()),
        ("BacklogService/Reclaim", backlog_pb2.ReclaimRequest(card_ids=["held"], reason="because")),
        ("BacklogService/Unblock", backlog_pb2.UnblockRequest(card_id="blocked")),
        ("BacklogService/Cancel", backlog_pb2.CancelRequest(card_id=card)),
        ("OperatorService/CreateToken", people_pb2.CreateOperatorTokenRequest(name="vera", role="viewer")),
        ("OperatorService/ChangeRole", people_pb2.ChangeRoleRequest(name=f"{word}-viewer", role="operator")),
        ("IdentityService/Revoke", identity_pb2.RevokeRequest(kind=person, name=f"{word}-viewer")),
        ("PeerService/CreateToken", peers_pb2.CreatePeerTokenRequest(name="another")),
        ("PeerService/Grant", peers_pb2.GrantRequest(peer=f"{word}-peer", kind="see", selector="*")),
        ("PeerService/Ungrant", peers_pb2.UngrantRequest(peer=f"{word}-peer", kind="see")),
        ("PeerService/ChangeRole", peers_pb2.ChangePeerRoleRequest(peer=f"{word}-peer", role="operator")),
        ("PeerService/Revoke", peers_pb2.RevokePeerRequest(peer=f"{word}-peer", reason="because")),
        ("PeerService/Remove", peers_pb2.RemovePeerRequest(peer=f"{word}-peer")),
        ("TenantService/Create", people_pb2.CreateTenantRequest(name="third", admin="tom")),
        ("TenantService/Remove", people_pb2.RemoveTenantRequest(name="third")),
    ]  # fmt: skip


async def prepare(side: Side) -> None:
    """Make a card that is held, and one that is blocked."""
    backlog = mesh_stub(side, "BacklogService")
    content = backlog_pb2.CardContent(title="a title")
    drafts = [backlog_pb2.CardDraft(id=name, content=content) for name in ("held", "blocked")]
    await backlog.Create(backlog_pb2.CreateCardsRequest(request_id=str(new_id()), cards=drafts))
    for name in ("held", "blocked"):
        await backlog.Claim(backlog_pb2.ClaimRequest(request_id=str(new_id()), card_id=name))
    await backlog.Block(backlog_pb2.BlockRequest(request_id=str(new_id()), card_id="blocked", reason="because"))


async def test_every_write_is_one_row_with_who_from_where_what_and_how_it_ended(mesh: Mesh, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        side, _ = await two_sides(mesh, stack, tmp_path)
        await prepare(side)
        await mesh.register_value(
            "insert into fleet.host (tenant_id, host_id, name) "
            "select tenant_id, gen_random_uuid(), 'spare' from fleet.tenant where name = $1 returning 1",
            side.tenant,
        )
        for name, request in writes(side):
            if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
                request.request_id = str(new_id())
            before = await rows(mesh, name)
            outcome, _ = await answer(side.callers["admin"], f"mosaic.v1.{name}", request)
            assert outcome == "answered", (name, outcome)
            (row,) = (await rows(mesh, name))[len(before) :]
            assert (row["caller_kind"], row["caller_name"], row["caller_role"]) == ("operator", "anna", "admin"), row
            assert row["peer_address"].startswith("127.0.0.1:"), row
            assert (row["outcome"], row["tenant_id"]) == ("done", row["tenant_id"]), row
            assert row["target"] or name in ("BacklogService/Pause", "BacklogService/Resume"), row
            assert "a secret text" not in str(row)
            if name.partition("/")[0] in ("BacklogService", "FleetService", "RuntimeService"):
                await answer(side.callers["admin"], f"mosaic.v1.{name}", request)  # the same again is the same write
                again = [row["outcome"] for row in (await rows(mesh, name))[len(before) :]]
                assert again.count("done") == 1, (name, again)
    driven = {f"mosaic.v1.{name}" for name, _ in writes(side)} | {"mosaic.v1.BacklogService/Import"}
    by_peers = {name for name in audited() if name.startswith("mosaic.v1.FederationService/")}  # test_peers.py, …
    assert driven | ELSEWHERE == {name for name, where in audited().items() if where == "audit"} - by_peers


async def test_a_write_that_fails_is_one_row_with_the_errors_code_and_an_agents_says_its_host(
    mesh: Mesh, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        side, _ = await two_sides(mesh, stack, tmp_path)
        for kind, host in (("admin", ""), ("agent", "default-host")):
            for method in sorted(name for name, where in audited().items() if where == "audit"):
                if any(method_kinds(method)[:2]):
                    continue
                name = method.removeprefix("mosaic.v1.")
                before = await rows(mesh, name)
                outcome, _ = await answer(side.callers[kind], method, method_kinds(method)[2]())
                made = (await rows(mesh, name))[len(before) :]
                if outcome == "answered":
                    continue
                (row,) = made
                assert row["outcome"] == outcome.partition(":")[0]
                assert row["caller_kind"] == ("operator" if kind == "admin" else kind)
                assert row["caller_host"] == host


async def test_claims_and_renewals_leave_no_row_but_when_they_are_refused(mesh: Mesh, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        side, _ = await two_sides(mesh, stack, tmp_path)
        await prepare(side)
        count = "select count(*) from fleet.audit where method in ('BacklogService/Claim', 'BacklogService/Block')"
        assert await mesh.register_value(count) == 0
        viewer = side.callers["viewer"]
        await answer(viewer, "mosaic.v1.BacklogService/Claim", backlog_pb2.ClaimRequest(request_id=str(new_id())))
        assert await mesh.register_value(count) == 1


async def rows(mesh: Mesh, method: str) -> list[dict[str, Any]]:
    """Return the audit rows of a method, oldest first."""
    found = await mesh.register_value(
        "select coalesce(json_agg(a order by at, audit_id), '[]')::text from fleet.audit a where method = $1", method
    )
    parsed: list[dict[str, Any]] = json.loads(str(found))
    return parsed
