"""Marks in a manifest's arguments, variables and files, and what stands for them at a launch (pure).

`{folder}` is the seat's working directory with links resolved, `{session}` the private folder of its session; with
`_json` or `_toml` behind the name (`{folder_toml}`) the same as a string of that language, quotes included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TypeVar

from pydantic import JsonValue

Value = TypeVar("Value", bound=JsonValue)


def fill(template: str, marks: Mapping[str, str]) -> str:
    """Replace each mark (its name without braces) once over: a mark inside of what is put in stays as it is."""
    if not marks:
        return template
    pattern = "|".join(re.escape(f"{{{name}}}") for name in marks)
    return re.sub(pattern, lambda match: marks[match.group()[1:-1]], template)


def fill_json(value: JsonValue, marks: Mapping[str, str]) -> JsonValue:
    """Return a JSON value with the marks of every text in it replaced, keys included."""
    if isinstance(value, str):
        return fill(value, marks)
    if isinstance(value, list):
        return [fill_json(one, marks) for one in value]
    if isinstance(value, dict):
        return {fill(key, marks): fill_json(one, marks) for key, one in value.items()}
    return value


def with_forms(marks: Mapping[str, str]) -> dict[str, str]:
    """Return the marks, each also as a JSON and as a TOML string."""
    return {
        form: text
        for name, value in marks.items()
        for form, text in ((name, value), (f"{name}_json", json.dumps(value)), (f"{name}_toml", toml_string(value)))
    }


def toml_string(text: str) -> str:
    """Return `text` as a TOML basic string: JSON's escapes are TOML's, except that TOML wants DEL escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def merge(below: JsonValue, above: JsonValue) -> JsonValue:
    """Return two JSON values as one: objects key by key, lists joined, else `above`."""
    if isinstance(below, dict) and isinstance(above, dict):
        mixed = {key: merge(below[key], above[key]) for key in above if key in below}
        return {**below, **above, **mixed}
    if isinstance(below, list) and isinstance(above, list):
        return [*below, *(one for one in above if one not in below)]
    return above
