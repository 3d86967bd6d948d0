"""A register filled with hosts and agents, and a leaf for each host, as if all of them had joined and a roster had
been applied.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, open_cluster
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.migrate import migrate
from mosaic_framework import pki
from mosaic_framework.catalog import Catalog
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_framework.resolve import resolve_roster
from mosaic_framework.roster_file import parse_roster

AGENTS_A_HOST = 8
_AT_ONCE = 500  # hosts a statement: their agents' specs are some KiB each


@dataclass(frozen=True)
class Card:
    """Who somebody is to the control plane."""

    name: str
    id: str
    key_pem: str
    certificate_pem: str
    agents: list[str]


async def fill(url: str, home: Path, folder: Path, *, hosts: int) -> None:
    """Make the cluster, its hosts, agents and an operator; write `hosts.jsonl`, `operator.json` and `bundle.pem` into
    `folder`.
    """
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()
    database = await Database.connect(url)
    try:
        cluster = await open_cluster(database, Home(home), alias="bench")
    finally:
        await database.close()
    connection = await asyncpg.connect(url)
    try:
        tenant_id = await connection.fetchval("select tenant_id from fleet.tenant where name = 'default'")
        operator = _card(cluster, "operator", "anna", [])
        await connection.execute(
            "insert into fleet.operator (tenant_id, operator_id, name, role) values ($1, $2, 'anna', 'admin')",
            tenant_id,
            operator.id,
        )
        spec, digest = _spec()
        with (folder / "hosts.jsonl").open("w") as file:
            for first in range(0, hosts, _AT_ONCE):
                cards = [
                    _card(cluster, "host", f"h{number:05}", [str(new_id()) for _ in range(AGENTS_A_HOST)])
                    for number in range(first, min(hosts, first + _AT_ONCE))
                ]
                await _insert(connection, tenant_id, cards, spec, digest)
                file.writelines(json.dumps(vars(card)) + "\n" for card in cards)
        await connection.execute("vacuum analyze fleet.host, fleet.agent")
    finally:
        await connection.close()
    (folder / "operator.json").write_text(json.dumps(vars(operator)))
    (folder / "bundle.pem").write_bytes(cluster.bundle_pem)


def _card(cluster: ClusterIdentity, kind: str, name: str, agents: list[str]) -> Card:
    key, identity_id = pki.new_key(), str(new_id())
    leaf = cluster.signer.issue(
        key.public_key(),
        pki.SpiffeId(cluster.trust_domain, kind, name, tenant="default"),
        identity_id=identity_id,
        identity_epoch=1,
    )
    return Card(name, identity_id, pki.key_to_pem(key).decode(), pki.certificate_to_pem(leaf).decode(), agents)


def _spec() -> tuple[bytes, bytes]:
    """What a shell's seat is told, manifest and contract included."""
    roster = json.dumps({"version": 1, "transport": "tmux", "agents": [{"name": "a", "runtime": "shell", "host": "h"}]})
    catalog = Catalog.open()
    seat = resolve_roster(parse_roster(roster, source="roster.json", catalog=catalog).roster, catalog=catalog).seats[0]
    return seat.SerializeToString(), b"digest"


async def _insert(
    connection: asyncpg.Connection[asyncpg.Record], tenant_id: object, cards: list[Card], spec: bytes, digest: bytes
) -> None:
    await connection.executemany(
        "insert into fleet.host (tenant_id, host_id, name, generation) values ($1, $2, $3, 1)",
        [(tenant_id, card.id, card.name) for card in cards],
    )
    await connection.execute(
        "insert into fleet.agent (tenant_id, agent_id, host_id, name, class, runtime, spec, spec_digest)"
        " select $1, t.agent_id, t.host_id, t.name, 'code', 'shell', $5, $6"
        " from unnest($2::uuid[], $3::uuid[], $4::text[]) as t (agent_id, host_id, name)",
        tenant_id,
        [agent for card in cards for agent in card.agents],
        [card.id for card in cards for _ in card.agents],
        [f"{card.name}-{number}" for card in cards for number, _ in enumerate(card.agents)],
        spec,
        digest,
    )
