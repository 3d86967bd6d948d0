"""The JSON schemas of what people write, generated from the models: `python -m mosaic_framework.schema` rewrites them.

They describe the written form, snake_case. Rules over several fields (unique names, known runtimes, no secrets) are not
theirs to check.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel

from mosaic_framework.catalog import shipped_data
from mosaic_framework.manifest import Manifest
from mosaic_framework.roster_model import Roster

MODELS: dict[str, type[BaseModel]] = {"roster.schema.json": Roster, "runtime.schema.json": Manifest}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text(model: type[BaseModel]) -> str:
    """Return the schema of a model as it is checked in."""
    schema: dict[str, Any] = {"$schema": _DIALECT} | model.model_json_schema(by_alias=True, mode="validation")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas() -> None:
    """Rewrite `framework/schema/` of this checkout."""
    for name, model in MODELS.items():
        path = shipped_data() / "schema" / name
        path.write_text(schema_text(model), encoding="utf-8")
        sys.stderr.write(f"{path}\n")


if __name__ == "__main__":
    write_schemas()
