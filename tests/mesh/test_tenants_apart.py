"""Two tenants on a whole control plane: every call, by people, agents and hosts of each, about what is the other's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

from mosaic_controlplane.api.policy import load_policy
from mosaic_framework.ids import new_id

from tests.support.listeners import method_kinds
from tests.support.mesh import Mesh
from tests.support.tenants import ask_all, speaks_of, two_sides

CHANGES_NOTHING_OF_OTHERS = ("audit", "change", "request")  # what is written of the callers' own doings


async def rows_of(mesh: Mesh, tenant: str) -> dict[str, object]:
    """Return a digest of all rows of a tenant, table by table."""
    tenant_id = await mesh.register_value("select tenant_id from fleet.tenant where name = $1", tenant)
    tables = await mesh.register_value(
        "select array_agg(table_name::text order by 1) from information_schema.columns "
        "where table_schema = 'fleet' and column_name = 'tenant_id'"
    )
    assert isinstance(tables, list)
    assert isinstance(tenant_id, UUID)
    return {
        table: await mesh.register_value(
            f"select md5(string_agg(t::text, '|' order by t::text)) from fleet.{table} t where tenant_id = $1",
            tenant_id,
        )
        for table in tables
        if table not in CHANGES_NOTHING_OF_OTHERS
    }


# What a link and a view bring a host is its own rows, by its id: no request of theirs names anybody.
LEFT_OUT = {"mosaic.v1.HostLinkService/Link", "mosaic.v1.HostTerminalService/Serve"}
# What the policy does not allow them is tried, and refused, in test_callers.py.
WORDS = {
    "admin": {"operator:admin"},
    "operator": {"operator:operator"},
    "viewer": {"operator:viewer"},
    "agent": {"agent", "agent:orchestrator"},
    "host": {"host"},
}


async def test_nobody_sees_names_or_changes_what_is_another_tenant_s(mesh: Mesh, tmp_path: Path) -> None:
    rules = load_policy().rules
    wrong = []
    async with AsyncExitStack() as stack:
        ours, theirs = await two_sides(mesh, stack, tmp_path)
        ours.callers = {"admin": ours.callers["admin"]}  # who administers the cluster sees no more than anybody
        for side, other in ((theirs, ours), (ours, theirs)):
            before = await rows_of(mesh, other.tenant)
            nobody = {
                name: str(new_id()) if name in ("message_id", "id") else value.replace(other.tenant, "nobody")
                for name, value in other.things.items()
            }
            for kind, caller in side.callers.items():
                who = f"{kind} of {side.tenant}"
                methods = sorted(name for name in rules if rules[name] & WORDS[kind] and name not in LEFT_OUT)
                plain = await ask_all(caller, {}, methods)
                named = await ask_all(caller, other.things, methods)
                strange = await ask_all(caller, nobody, methods)
                for method in methods:
                    for _, seen in (plain[method], named[method]):
                        wrong += [f"{who}: {method} shows {word!r}" for word in other.words if word in seen]
                    told = [
                        _without(answers[method][0], values)
                        for answers, values in ((named, other.things), (strange, nobody))
                    ]
                    if told[0] != told[1]:
                        wrong.append(f"{who}: {method} tells what is there from what is not: {told}")
                asking = [name for name in methods if speaks_of(method_kinds(name)[2].DESCRIPTOR, "tenant")]
                there = await ask_all(caller, {**other.things, "tenant": other.tenant}, asking)
                nowhere = await ask_all(caller, {**other.things, "tenant": "nobody"}, asking)
                for method in asking:
                    told = [
                        answers[method][0].replace(name, "…")
                        for answers, name in ((there, other.tenant), (nowhere, "nobody"))
                    ]
                    if told[0] != told[1] or told[0] == "answered":
                        wrong.append(f"{who}: {method} in tenant {other.tenant}: {told}")
            after = await rows_of(mesh, other.tenant)
            wrong += [
                f"{side.tenant} changed {table} of {other.tenant}" for table in before if before[table] != after[table]
            ]
    assert wrong == [], "\n".join(wrong)


def _without(text: str, values: Mapping[str, str]) -> str:
    for value in sorted(values.values(), key=len, reverse=True):
        if len(value) > 8:
            text = text.replace(value, "…")
    return text
