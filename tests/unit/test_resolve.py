"""Resolving a roster: every seat carries what its host needs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog, DataUnreadable
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


def test_a_seat_carries_its_roles_contract_by_alias_with_its_digest_and_its_line(catalog: Catalog) -> None:
    _, coder, _ = resolved(catalog).seats
    assert coder.contract.startswith("# Code\n")
    assert coder.role_summary == "Takes one card to one branch and one pull request, green."
    assert "domain: engineering" not in coder.contract
    assert coder.contract_digest == hashlib.sha256(coder.contract.encode()).hexdigest()


def test_a_class_without_a_contract_is_a_warning_with_the_nearest(catalog: Catalog) -> None:
    found = resolved(catalog)
    assert found.warnings == ["agent odd: the class implementor has no contract; the nearest is implementer"]
    assert found.seats[2].contract == ""


def test_a_persons_own_contract_wins(catalog: Catalog) -> None:
    assert catalog.own is not None
    (catalog.own / "roles.local").mkdir()
    front = "---\nclass: code\ndomain: engineering\npersistent: true\nsummary: mine\n---\n"
    (catalog.own / "roles.local" / "code.md").write_text(f"{front}\nWrite haiku.\n")
    assert resolved(catalog).seats[1].contract.startswith("Write haiku.\n")


def test_the_shared_contract_and_a_persons_own_texts_go_along_once_for_all_seats(catalog: Catalog) -> None:
    assert catalog.own is not None
    (catalog.own / "USER.md").write_bytes(b"Anna, of few words.\r\n")
    (catalog.own / "MISSION.md").write_text("Ship it.\n")
    (catalog.own / "SOUL.md").write_text(" \n")
    found = {one.name: one for one in resolved(catalog).briefing.texts}
    assert list(found) == ["contract", "user", "mission"]
    assert found["contract"].text.startswith("# The contract every agent shares")
    assert found["user"].text == "Anna, of few words.\n"
    assert found["user"].digest == hashlib.sha256(found["user"].text.encode()).hexdigest()


def test_a_persons_own_shared_contract_and_notes_on_a_program_win(catalog: Catalog) -> None:
    assert catalog.own is not None
    for folder, name, text in (
        ("roles.local", "CONTRACT.md", "Be kind.\n"),
        ("runtimes.local", "pi.md", "Ours has a plugin.\n"),
    ):
        (catalog.own / folder).mkdir()
        (catalog.own / folder / name).write_text(text)
    found = resolved(catalog)
    assert found.briefing.texts[0].text == "Be kind.\n"
    assert found.seats[1].runtime_notes == "Ours has a plugin.\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"a\nb\x1b[31m", "USER.md:2 holds"), (b"\xff", "not text in UTF-8"), (b"x" * 70_000, "too long for an agent")],
)
def test_a_text_that_no_agent_could_be_given_is_refused_with_its_file(
    catalog: Catalog, content: bytes, told: str
) -> None:
    assert catalog.own is not None
    (catalog.own / "USER.md").write_bytes(content)
    with pytest.raises(DataUnreadable, match=told):
        resolved(catalog)


def test_the_document_is_the_normalised_roster(catalog: Catalog) -> None:
    found = resolved(catalog)
    assert resolved(catalog, found.document).document == found.document
    assert '"name":"lead"' in found.document
