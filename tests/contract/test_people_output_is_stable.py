"""The forms of `-o` for people, tenants and the audit, held by golden files (GOLDEN_FILES=write writes them)."""

from __future__ import annotations

import pytest
from mosaic_cli.audit_view import audit_listing
from mosaic_cli.output import Format
from mosaic_cli.people_view import operator_listing, tenant_listing
from mosaic_proto.v1 import people_pb2 as pb

from tests.contract.test_cli_output_is_stable import compare, shown
from tests.fakes.control_plane import at

ALL = list(Format)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def audit() -> pb.ListAuditReply:
    """An operator's write, an agent's failed one, and a stranger's attempt."""
    reply = pb.ListAuditReply(next_cursor="WyJhdWRpdCJd")
    reply.entries.add(
        id="01900000-0000-7000-8000-000000000001",
        at=at(3),
        caller_kind="unknown",
        peer_address="203.0.113.9:40312",
        method="FleetService/ListAgents",
        outcome="not-authenticated",
        detail={"claimed": "spiffe://x.mosaic/tenant/default/operator/ada", "left_out": "212"},
    )
    reply.entries.add(
        id="01900000-0000-7000-8000-000000000002",
        at=at(60),
        tenant="default",
        caller_kind="agent",
        caller_id="01900000-0000-7000-8000-0000000000a1",
        caller_name="coder0",
        caller_role="engineer",
        caller_host="build1",
        peer_address="192.0.2.7:51100",
        method="MessageService/Send",
        target="coder9",
        request_id="01900000-0000-7000-8000-0000000000f1",
        outcome="not-found",
    )
    reply.entries.add(
        id="01900000-0000-7000-8000-000000000003",
        at=at(7200),
        tenant="default",
        caller_kind="operator",
        caller_id="01900000-0000-7000-8000-0000000000b1",
        caller_name="anna",
        caller_role="admin",
        peer_address="192.0.2.3:50000",
        method="OperatorService/ChangeRole",
        target="vera",
        request_id="01900000-0000-7000-8000-0000000000f2",
        outcome="done",
        detail={"from": "viewer", "to": "operator"},
    )
    return reply


@pytest.mark.parametrize("form", ALL)
def test_the_audit_is_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    compare(f"audit.{form.value}", shown(audit_listing(audit()), form, capsys))


@pytest.mark.parametrize("form", [Format.TABLE, Format.WIDE, Format.JSON])
def test_operators_are_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    operators = [
        pb.Operator(
            id="01900000-0000-7000-8000-0000000000b1", name="anna", role="admin", tenant="acme", made_at=at(7200)
        ),
        pb.Operator(id="01900000-0000-7000-8000-0000000000b2", name="ben", role="viewer", tenant="acme", revoked=True),
    ]
    compare(f"operators.{form.value}", shown(operator_listing(operators), form, capsys))


@pytest.mark.parametrize("form", [Format.TABLE, Format.WIDE, Format.JSON])
def test_tenants_are_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    tenants = [
        pb.Tenant(id="01900000-0000-7000-8000-0000000000c1", name="acme", made_at=at(60), operators=2, hosts=1),
        pb.Tenant(id="01900000-0000-7000-8000-0000000000c2", name="default", made_at=at(7200), operators=1, first=True),
    ]
    compare(f"tenants.{form.value}", shown(tenant_listing(tenants), form, capsys))
