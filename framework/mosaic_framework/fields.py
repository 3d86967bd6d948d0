"""Field types of rosters and manifests: text that can safely become an argument, a path or a line on a screen."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mosaic_framework.errors import InvalidInput
from mosaic_framework.marked import shorten
from mosaic_framework.names import NAME_LIMIT, check_name

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Control characters, lone surrogates, and the line ends that only some programs take for one.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_LINE_BREAKS = "\n\t"


class StrictModel(BaseModel):
    """A model that takes no unknown key and turns no value into another type."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)


def _text(value: str) -> str:
    for character in value:
        if character not in _LINE_BREAKS and unprintable(character):
            raise ValueError(f"holds a character that is no text: U+{ord(character):04X}")
    return value


def _line(value: str) -> str:
    if "\n" in value or "\t" in value:
        raise ValueError("must be one line, without tabs")
    return _text(value)


def unprintable(character: str) -> bool:
    """Return whether a text may not hold this character."""
    return unicodedata.category(character) in _UNPRINTABLE or ord(character) & 0xFFFE == 0xFFFE


def _name(value: str) -> str:
    try:
        return check_name(value, what="thing")
    except InvalidInput as error:
        raise ValueError(f"{shorten(value, 40)!r} is not allowed: {error.why}") from error


def _no_option(value: str) -> str:
    if value.startswith("-"):
        raise ValueError("must not start with '-': a program would take it for an option")
    return value


def _folder(value: str) -> str:
    if not value.startswith(("/", "~")):
        raise ValueError("must start with '/' or '~': a host has no other place to count from")
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError("is no name for an environment variable")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return value


def _shown(**rules: str | int) -> Any:
    """Add to the JSON schema what the validator beside it enforces, so that an editor knows it too."""
    return Field(json_schema_extra=dict(rules))


Name = Annotated[
    str, AfterValidator(_name), _shown(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$", minLength=1, maxLength=NAME_LIMIT)
]
Line = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_line)]
Argument = Annotated[str, Field(max_length=32_768), AfterValidator(_text)]
Text = Annotated[str, Field(min_length=1, max_length=65_536), AfterValidator(_text)]
Word = Annotated[
    str, Field(min_length=1, max_length=256), AfterValidator(_line), AfterValidator(_no_option), _shown(pattern="^[^-]")
]
Folder = Annotated[
    str, Field(min_length=1, max_length=1024), AfterValidator(_line), AfterValidator(_folder), _shown(pattern="^[/~]")
]
Variable = Annotated[str, Field(max_length=256), AfterValidator(_variable), _shown(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Pattern = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_pattern)]
