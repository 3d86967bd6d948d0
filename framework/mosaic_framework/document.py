"""From the bytes of a YAML or JSON file to a pydantic model, with every problem at its line.

Both snake_case and camelCase keys are read. Order of work: text, tree (marked), keys against the model, values against
the model. Each step adds to the same list of problems, so that a person sees them all at once.
"""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from mosaic_framework import marked
from mosaic_framework.errors import InvalidInput, NotFound
from mosaic_framework.marked import ListNode, MapNode, Node, Position, Problems, ScalarNode, join, shorten
from mosaic_framework.marked_json import read_json
from mosaic_framework.marked_yaml import read_yaml
from mosaic_framework.names import nearest

Model = TypeVar("Model", bound=BaseModel)
START = Position(1, 1)


class FileUnreadable(InvalidInput):
    """The file cannot be read."""

    code = "file-unreadable"


def read_bytes(path: Path, *, noun: str) -> bytes:
    """Return what `path` holds, at most one byte over the size limit. Raises NotFound or FileUnreadable."""
    try:
        with path.open("rb") as file:
            return file.read(marked.SIZE_LIMIT + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {noun} at {path}") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileUnreadable(f"the {noun} {shorten(str(path), 200)} cannot be read", why=why) from error


def read_tree(content: bytes | str, problems: Problems) -> Node | None:
    """Return the tree of a YAML or JSON text; None and a problem where there is none."""
    text = _text(content, problems)
    if text is None:
        return None
    if problems.source.endswith(".json"):
        node = read_json(text, problems)
    elif text.lstrip(" \t\r\n").startswith("{") and (tried := _quiet_json(text)) is not None:
        node = tried  # JSON with tabs, or with characters by surrogate pairs, is no YAML
    else:
        node = read_yaml(text, problems)
    if node is None and not problems:
        problems.add(START, "the file is empty")
    return node


def validate(node: Node, model: type[Model], problems: Problems) -> Model | None:
    """Return the model of the tree, or None; what is wrong goes to `problems`."""
    if not isinstance(node, MapNode):
        problems.add(node.at, "the document must be keys and values")
        return None
    before = len(problems)
    data = _fit_map(node, model, problems, "")
    try:
        made = model.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            _place(detail, node, problems)
        return None
    return made if len(problems) == before else None


def entry_of(node: Node | None, key: str) -> marked.Entry | None:
    """Return the entry of a model's field, written in snake_case or camelCase."""
    return marked.field_of(node, key, to_camel(key))


def _text(content: bytes | str, problems: Problems) -> str | None:
    if len(content) > marked.SIZE_LIMIT:
        problems.add(START, f"the file is too large; at most {marked.SIZE_LIMIT // 1024} KiB are read")
        return None
    if isinstance(content, str):
        return content.removeprefix("\ufeff")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        at = Position(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        problems.add(at, f"this is not text in UTF-8 (byte 0x{content[error.start]:02x})")
        return None


def _quiet_json(text: str) -> Node | None:
    tried = Problems("")
    node = read_json(text, tried)
    return node if not tried else None


def _fit(node: Node, annotation: object, problems: Problems, path: str) -> object:
    """Return plain data with the model's own keys; unknown keys are noted and left out."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, ListNode):
        inner = _argument(annotation, list)
        return [_fit(item, inner, problems, join(path, index)) for index, item in enumerate(node.items)]
    model = _model(annotation)
    if model is not None:
        return _fit_map(node, model, problems, path)
    inner = _argument(annotation, dict)
    return {key: _fit(entry.node, inner, problems, join(path, key)) for key, entry in node.entries.items()}


def _fit_map(node: MapNode, model: type[BaseModel], problems: Problems, path: str) -> dict[str, object]:
    known = {(field.alias or name): field.annotation for name, field in model.model_fields.items()}
    by_spelling = {spelling: key for key in known for spelling in (key, to_camel(key))}
    data: dict[str, object] = {}
    for written, entry in node.entries.items():
        where = join(path, written)
        key = by_spelling.get(written)
        if key is None:
            near = nearest(written, by_spelling, limit=1)
            message = "merge keys are not read here; write the keys out" if written == "<<" else "unknown key"
            problems.add(entry.at, message, key=where, nearest=by_spelling[near[0]] if near else "")
        elif key in data:
            problems.add(entry.at, f"the key stands twice, as {key} and {to_camel(key)}", key=where, nearest=key)
        else:
            data[key] = _fit(entry.node, known[key], problems, where)
    return data


def _members(annotation: object) -> tuple[object, ...]:
    """Return the members of a union, or the one type itself, without what Annotated adds."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(member for one in typing.get_args(annotation) for member in _members(one))
    return (annotation,)


def _model(annotation: object) -> type[BaseModel] | None:
    models = [one for one in _members(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    return models[0] if models else None


def _argument(annotation: object, container: type) -> object:
    """Return what `list[...]` or `dict[str, ...]` holds; `object` where it is something else."""
    for one in _members(annotation):
        if typing.get_origin(one) is container:
            return typing.get_args(one)[-1]
    return object


def _place(detail: ErrorDetails, root: MapNode, problems: Problems) -> None:
    """Note what pydantic says at the line of the nearest node that the text has."""
    node: Node = root
    at, path = root.at, ""
    for part in detail["loc"]:
        if isinstance(part, int) and isinstance(node, ListNode) and part < len(node.items):
            node = node.items[part]
            at, path = node.at, join(path, part)
            continue
        entry = entry_of(node, str(part)) if isinstance(node, MapNode) else None
        if entry is None:
            break
        node, path = entry.node, join(path, entry.key)
        at = entry.at
    if detail["type"] == "missing":
        problems.add(at, "a required key is missing", key=join(path, str(detail["loc"][-1])))
        return
    problems.add(at, _sentence(detail, node), key=path, nearest=_nearest_choice(detail, node))


def _sentence(detail: ErrorDetails, node: Node) -> str:
    """Return pydantic's finding in our words. Values are not repeated: one may be a secret in the wrong place."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "string_type":
            return f"must be text{_found(node)}"
        case "bool_type":
            return "must be true or false"
        case "int_type" | "int_from_float":
            return "must be a whole number"
        case "list_type":
            return "must be a list, such as [one, two]"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must hold keys and values"
        case "literal_error":
            return f"must be {context.get('expected')}"
        case "too_short":
            return "must not be empty"
        case "too_long":
            return f"must hold at most {context.get('max_length')}"
        case "string_too_long":
            return f"must have at most {context.get('max_length')} characters"
        case "string_too_short":
            return "must not be empty"
        case "value_error":
            return str(context.get("error", detail["msg"]))
        case _:
            return detail["msg"]


def _found(node: Node) -> str:
    """Say what stands there in place of text."""
    if not isinstance(node, ScalarNode):
        return ""
    return ", and is empty" if node.value is None else "; put a number, true or false in quotes"


def _nearest_choice(detail: ErrorDetails, node: Node) -> str:
    """Return the allowed word that is most like the one written; empty where there is none."""
    if detail["type"] != "literal_error" or not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return ""
    choices = re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))
    return next(iter(nearest(node.value, choices, limit=1)), "")
