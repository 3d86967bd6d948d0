"""Promises of `mosaic persona` and `mosaic profile`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.paths import Home
from mosaic_framework.profile_model import TIMES
from mosaic_framework.roles import read_shipped_contract

from tests.support.cli import Mosaic

SHIPPED = Catalog(shipped_data())


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An editor that appends a line; a test may replace what it does."""
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\necho "- Mine." >> "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    monkeypatch.delenv("VISUAL", raising=False)
    return script


def own(home: Home, name: str = "code") -> Path:
    return home.fleet / "roles.local" / f"{name}.md"


def shipped_text(name: str = "code") -> str:
    found = read_shipped_contract(SHIPPED, name)
    assert found is not None
    return found.text


def test_the_library_is_listed_with_where_each_contract_comes_from(home: Home, mosaic: Mosaic) -> None:
    listed = mosaic("persona", "ls", "-o", "json").json
    assert listed["kind"] == "PersonaList"
    assert len(listed["items"]) == 54
    assert {item["source"] for item in listed["items"]} == {"shipped"}
    assert mosaic("persona", "ls", "--domain", "customer", "-o", "name").out.split() == [
        "customer-success-manager",
        "support-agent",
    ]


def test_a_contract_is_shown_by_class_and_by_alias(home: Home, mosaic: Mosaic) -> None:
    by_class = mosaic("persona", "show", "code")
    assert "## Mandate" in by_class.out
    assert mosaic("persona", "show", "implementer").out == by_class.out
    assert mosaic("persona", "show", "code", "-o", "json").json["text"] == shipped_text()


def test_an_unknown_class_ends_with_3_and_the_nearest(home: Home, mosaic: Mosaic) -> None:
    for verb in ("show", "edit", "reset", "diff", "validate"):
        done = mosaic("persona", verb, "orchestartor")
        assert (done.code, "the nearest: orchestrator" in done.err) == (3, True), verb


def test_an_edit_begins_from_the_shipped_contract_and_counts_from_then_on(
    home: Home, mosaic: Mosaic, editor: Path
) -> None:
    assert mosaic("persona", "edit", "code").code == 0
    assert own(home).read_text() == shipped_text() + "- Mine.\n"
    assert mosaic("persona", "show", "code", "-o", "json").json["source"] == "override"
    assert mosaic("persona", "show", "code", "--shipped", "-o", "json").json["text"] == shipped_text()
    assert mosaic("persona", "ls", "--own", "-o", "name").out == "code\n"
    diff = mosaic("persona", "diff", "code")
    assert [line for line in diff.out.splitlines() if line.startswith("+") and not line.startswith("+++")] == [
        "+- Mine."
    ]
    assert "is as it was when yours began" in diff.err


def test_an_editor_that_changes_nothing_makes_no_contract(home: Home, mosaic: Mosaic, editor: Path) -> None:
    editor.write_text("#!/bin/sh\n")
    done = mosaic("persona", "edit", "code")
    assert done.code == 0
    assert "nothing changed" in done.err
    assert not own(home).parent.exists()


def test_an_edit_that_is_no_contract_keeps_the_draft_and_leaves_what_counts(
    home: Home, mosaic: Mosaic, editor: Path
) -> None:
    editor.write_text('#!/bin/sh\necho "no front matter" > "$1"\n')
    done = mosaic("persona", "edit", "code")
    assert done.code == 1
    assert "contract-invalid" in done.err
    draft = Path(done.err.rpartition("--file ")[2].strip())
    assert draft.read_text() == "no front matter\n"
    assert not own(home).exists()


def test_an_editor_that_fails_or_is_not_there_is_told(
    home: Home, mosaic: Mosaic, editor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.write_text("#!/bin/sh\nexit 3\n")
    assert "ended with 3; nothing was changed" in mosaic("persona", "edit", "code").err
    monkeypatch.setenv("EDITOR", "/nonexistent/editor")
    assert "cannot be started" in mosaic("persona", "edit", "code").err
    monkeypatch.delenv("EDITOR")
    assert mosaic("persona", "edit", "code").code == 2
    assert not own(home).exists()


def test_a_contract_comes_from_a_file_or_from_standard_input(home: Home, mosaic: Mosaic, tmp_path: Path) -> None:
    file = tmp_path / "mine.md"
    file.write_text(shipped_text() + "- From a file.\n")
    assert mosaic("persona", "edit", "code", "--file", str(file)).code == 0
    assert own(home).read_text().endswith("- From a file.\n")
    text = shipped_text() + "- From standard input.\n"
    assert mosaic("persona", "edit", "code", "--file", "-", stdin=text).code == 0
    assert own(home).read_text() == text


def test_what_a_contract_lacks_is_warned_of_and_listed(home: Home, mosaic: Mosaic) -> None:
    text = shipped_text().replace("## Persona", "## Something")
    done = mosaic("persona", "edit", "code", "--file", "-", stdin=text)
    assert done.code == 0
    assert "Persona: there is no such section" in done.err
    listed = mosaic("persona", "validate", "code", "-o", "json")
    assert listed.code == 1
    assert [item["key"] for item in listed.json["items"]] == ["Persona"]


def test_diff_says_when_the_shipped_contract_changed_underneath_until_it_was_seen(
    home: Home, mosaic: Mosaic, editor: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert mosaic("persona", "edit", "code").code == 0
    newer = tmp_path / "data"
    for kind in ("roles", "runtimes", "schema", "profiles", "presets"):
        shutil.copytree(SHIPPED.folder(kind), newer / kind)
    role = newer / "roles" / "code.md"
    role.write_text(role.read_text() + "\nNewer wisdom.\n")
    monkeypatch.setattr("mosaic_framework.catalog.shipped_data", lambda: newer)
    done = mosaic("persona", "diff")
    assert "the shipped contract has changed since yours began" in done.err
    assert "+Newer wisdom." in done.out
    assert mosaic("persona", "ls", "--own", "-o", "json").json["items"][0]["underneath"] == "changed"
    assert mosaic("persona", "diff", "code", "--seen").code == 0
    assert "is as it was when yours began" in mosaic("persona", "diff", "code").err


def test_a_reset_asks_and_gives_the_shipped_contract_back(home: Home, mosaic: Mosaic, editor: Path) -> None:
    assert mosaic("persona", "edit", "reviewer").code == 0
    assert mosaic("persona", "reset", "review").code == 2
    assert mosaic("persona", "reset", "review", "--dry-run").code == 0
    assert own(home, "review").exists()
    assert mosaic("persona", "reset", "reviewer", "--yes").code == 0
    assert list(own(home).parent.iterdir()) == []
    assert "nothing to do" in mosaic("persona", "reset", "review").err


def test_the_whole_shipped_library_is_valid(home: Home, mosaic: Mosaic) -> None:
    assert mosaic("persona", "validate").code == 0
    assert mosaic("profile", "validate").code == 0


def test_profiles_are_listed_and_drawn_as_a_tree(home: Home, mosaic: Mosaic) -> None:
    listed = mosaic("profile", "ls", "-o", "json").json["items"]
    assert {item["id"]: item["seats"] for item in listed} == {
        "business": 10,
        "marketing": 8,
        "personal-assistant": 5,
        "research": 8,
        "software-delivery": 15,
    }
    shown = mosaic("profile", "show", "personal-assistant").out
    assert (
        "personal-assistant (lead, floor)\n"
        "├── executive-assistant\n"
        "│   └── scheduler\n"
        "├── inbox-manager\n"
        "└── researcher\n"
    ) in shown
    assert mosaic("profile", "show", "resaerch").code == 3


OWN_PROFILE = """\
id: studio
title: Studio
description: Pictures and words.
lead: editor
floor: [editor]
roster:
  - {class: editor}
  - {class: video-producer, reports_to: editor}
  - {class: graphic-designer, reports_to: editor, multiplicity: 2}
"""


def test_a_profile_dropped_into_the_own_folder_works_with_no_code_change(home: Home, mosaic: Mosaic) -> None:
    folder = home.fleet / "profiles.local"
    folder.mkdir(parents=True)
    (folder / "studio.yaml").write_text(OWN_PROFILE)
    assert f"graphic-designer {TIMES}2" in mosaic("profile", "show", "studio").out
    assert mosaic("profile", "validate", "studio").code == 0
    made = mosaic("fleet", "provision", "--profile", "studio", "--full", "-o", "json").json
    assert [agent["name"] for agent in made["roster"]["agents"]] == [
        "editor",
        "video-producer",
        "graphic-designer0",
        "graphic-designer1",
    ]


def test_a_cycle_an_unknown_class_and_a_missing_lead_are_all_listed(home: Home, mosaic: Mosaic, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "id: broken\ntitle: B\ndescription: B.\nlead: ceo\nfloor: [editor]\nroster:\n"
        "  - {class: editor, reports_to: copywriter}\n  - {class: copywriter, reports_to: editor}\n  - {class: edtor}\n"
    )
    done = mosaic("profile", "validate", "--file", str(broken), "-o", "json")
    assert done.code == 1
    told = {item["line"]: item["message"] for item in done.json["items"]}
    assert "ceo is not in the roster" in told[4]
    assert "in a circle" in told[7]
    assert "there is no contract for this class; the nearest: editor" in told[9]
