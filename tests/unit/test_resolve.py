"""Resolving a roster: every seat carries what its host needs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest
from mosaic_framework.resolve import Resolved, resolve_roster
from mosaic_framework.roster_file import parse_roster

ROSTER = """
version: 1
transport: tmux
tmux: {socket_name: mosaic-fleet}
defaults: {working_directory: ~/work}
runtimes: {pi: {reset_command: /fresh}}
agents:
  - {name: lead, runtime: claude, class: orchestrator, persistent_persona: true, host: oak}
  - {name: coder0, runtime: pi, class: implementer, model_hint: x/y, workingDirectory: /srv, socket: aside, env: {A: b}}
  - {name: odd, runtime: shell, class: implementor, lifecycle: on-demand, command: [cat, -u]}
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(Catalog.open().shipped, tmp_path)


def resolved(catalog: Catalog, text: str = ROSTER) -> Resolved:
    return resolve_roster(
        parse_roster(text, source="r.yaml", catalog=catalog).roster, catalog=catalog, default_host="elm"
    )


def test_a_seat_carries_its_fields_and_the_rosters_defaults(catalog: Catalog) -> None:
    lead, coder, odd = resolved(catalog).seats
    assert (lead.host, coder.host, odd.host) == ("oak", "elm", "elm")
    assert (lead.working_directory, coder.working_directory) == ("~/work", "/srv")
    assert (lead.tmux_socket_name, coder.tmux_socket_name) == ("mosaic-fleet", "aside")
    assert (lead.persistent_persona, coder.persistent_persona) == ("true", "")
    assert (coder.model, dict(coder.env)) == ("x/y", {"A": "b"})
    assert (odd.lifecycle, list(odd.command)) == ("on-demand", ["cat", "-u"])
    assert [getattr(seat, "class") for seat in (lead, coder, odd)] == ["orchestrator", "implementer", "implementor"]


def test_a_seat_carries_the_manifest_with_the_rosters_reset_command(catalog: Catalog) -> None:
    lead, coder, _ = resolved(catalog).seats
    assert Manifest.from_json(lead.manifest_json).reset_command == "/clear"
    assert Manifest.from_json(coder.manifest_json).reset_command == "/fresh"


def test_a_seat_carries_its_roles_contract_by_alias_the_shared_one_and_their_digest(catalog: Catalog) -> None:
    _, coder, _ = resolved(catalog).seats
    assert "# Code" in coder.contract
    assert "# The contract every agent shares" in coder.contract
    assert "domain: engineering" not in coder.contract
    assert coder.contract_digest == hashlib.sha256(coder.contract.encode()).hexdigest()


def test_a_class_without_a_contract_is_a_warning_with_the_nearest(catalog: Catalog) -> None:
    found = resolved(catalog)
    assert found.warnings == ["agent odd: the class implementor has no contract; the nearest is implementer"]
    assert found.seats[2].contract.startswith("# The contract every agent shares")


def test_a_persons_own_contract_wins(catalog: Catalog) -> None:
    assert catalog.own is not None
    (catalog.own / "roles.local").mkdir()
    front = "---\nclass: code\ndomain: engineering\npersistent: true\nsummary: mine\n---\n"
    (catalog.own / "roles.local" / "code.md").write_text(f"{front}\nWrite haiku.\n")
    assert resolved(catalog).seats[1].contract.startswith("Write haiku.\n")


def test_the_document_is_the_normalised_roster(catalog: Catalog) -> None:
    found = resolved(catalog)
    assert resolved(catalog, found.document).document == found.document
    assert '"name":"lead"' in found.document
