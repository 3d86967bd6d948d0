"""The JSON of persona, profile, fleet init|provision|diff and update only ever gains fields; a golden file holds them.

GOLDEN_FILES=write writes it anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.paths import Home

from tests.fakes.control_plane import FakeControlPlane
from tests.support.cli import Mosaic, runner

GOLDEN = Path(__file__).parent / "golden" / "fleet-file-fields.json"


@pytest.fixture
def mosaic(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Mosaic]:
    """A home with a roster applied to a control plane, and a contract of the person's own."""
    for name in ("MOSAIC_CONTEXT", "MOSAIC_TENANT", "MOSAIC_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOSAIC_HOME", str(tmp_path / "home"))
    plane = FakeControlPlane(tmp_path)
    plane.start()
    plane.write_context(Home(tmp_path / "home"))
    mosaic = runner(capsys, monkeypatch)
    assert mosaic("fleet", "init", "--preset", "minimal").code == 0
    assert mosaic("fleet", "apply", "--detach").code == 0
    text = mosaic("persona", "show", "code", "-o", "json").json["text"]
    assert mosaic("persona", "edit", "code", "--file", "-", stdin=text.replace("## Persona", "## Other")).code == 0
    yield mosaic
    plane.stop()


def test_no_field_goes_away(mosaic: Mosaic, tmp_path: Path) -> None:
    roster = tmp_path / "home" / "fleet" / "roster.yaml"
    found: dict[str, list[str]] = {}

    def look(*arguments: str) -> None:
        document = mosaic(*arguments, "-o", "json").json
        assert document["apiVersion"] == "mosaic.v1"
        found[document["kind"]] = sorted(set(fields(document)))

    look("persona", "ls")
    look("persona", "show", "code")
    look("persona", "diff")
    look("persona", "validate", "code")
    look("profile", "ls")
    look("profile", "show", "research")
    look("fleet", "init", "--preset", "minimal")
    look("fleet", "provision", "--profile", "research")
    look("fleet", "add", "second", "--runtime", "shell", "--detach")
    look("fleet", "diff", "--pull", "--yes")
    roster.write_text(roster.read_text() + "  - {name: third, runtime: shell}\n")
    look("fleet", "diff")
    (tmp_path / "home" / "fleet" / "schema" / "roster.schema.json").unlink()
    look("update", "--no-upgrade")
    if os.environ.get("GOLDEN_FILES") == "write":
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    agreed = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert sorted(found) == sorted(agreed)
    assert {kind: sorted(set(agreed[kind]) - set(found[kind])) for kind in agreed} == {kind: [] for kind in agreed}


def fields(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every field, lists left out: `items.class`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}{key}"
            yield from fields(inner, f"{path}{key}.")
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner, path)
