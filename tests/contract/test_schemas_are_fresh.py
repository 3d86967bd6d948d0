"""The JSON schemas that are checked in are those of the models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mosaic_framework.catalog import shipped_data
from mosaic_framework.schema import MODELS, schema_text


@pytest.mark.parametrize("name", MODELS)
def test_a_schema_equals_its_model(name: str) -> None:
    checked_in = (shipped_data() / "schema" / name).read_text(encoding="utf-8")
    assert checked_in == schema_text(MODELS[name]), "run: python -m mosaic_framework.schema"


def test_every_schema_that_is_shipped_belongs_to_a_model() -> None:
    folder: Path = shipped_data() / "schema"
    assert {path.name for path in folder.iterdir()} == set(MODELS)


def test_the_rosters_schema_speaks_of_every_field_in_the_written_style() -> None:
    schema = json.loads((shipped_data() / "schema" / "roster.schema.json").read_text(encoding="utf-8"))
    fields = schema["$defs"]["Agent"]["properties"]
    assert {"name", "class", "working_directory", "reset_between_tasks", "reports_to"} <= set(fields)
    assert all(name == name.lower() and "description" in rule for name, rule in fields.items())
    assert schema["$defs"]["Agent"]["additionalProperties"] is False
