"""Settings: `$MOSAIC_HOME/hostagent.yaml`, and MOSAIC_HOSTAGENT_* variables, which win over it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from mosaic_framework.document import read_bytes, read_tree, validate
from mosaic_framework.errors import InvalidInput, NotFound
from mosaic_framework.fields import StrictModel
from mosaic_framework.marked import DocumentInvalid, Problems
from mosaic_framework.names import nearest
from pydantic import AfterValidator, Field, ValidationError

PREFIX = "MOSAIC_HOSTAGENT_"
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


class ConfigInvalid(DocumentInvalid):
    """The host-agent's settings are not valid."""

    code = "config-invalid"


class VariableInvalid(InvalidInput):
    """A setting in the environment is not valid."""

    code = "config-invalid"


def is_address(value: object) -> bool:
    """Say whether this is a host:port that can be dialled."""
    return isinstance(value, str) and bool(_ADDRESS.fullmatch(value)) and 0 < int(value.rpartition(":")[2]) < 65_536


def _address(value: str) -> str:
    if not is_address(value):
        raise ValueError("must be host:port")
    return value


class Config(StrictModel):
    """What may be set for one host-agent."""

    addresses: list[Annotated[str, AfterValidator(_address)]] = Field(default_factory=list)
    """fleet listeners of the control plane, host:port; empty: those it tells of, and the identity's"""
    stop_grace_seconds: Annotated[float, Field(ge=0.1, le=300, strict=False)] = 5.0
    """how long a stopped seat's processes may take to end before they are killed"""
    metrics_port: Annotated[int, Field(ge=0, le=65_535, strict=False)] | Literal["off"] = 0
    """health and metrics over HTTP on 127.0.0.1; 0 takes a free one; off: none"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load(path: Path, environment: Mapping[str, str]) -> Config:
    """Return the settings. Raises ConfigInvalid with file, line and key, or VariableInvalid."""
    return _with_variables(_read(path), environment)


def _read(path: Path) -> Config:
    try:
        content = read_bytes(path, noun="settings file")
    except NotFound:
        return Config()
    if not content.strip():
        return Config()
    problems = Problems(str(path))
    tree = read_tree(content, problems)
    config = validate(tree, Config, problems) if tree is not None else None
    if config is None:
        raise ConfigInvalid(str(path), problems.sorted(), noun="settings file")
    return config


def _with_variables(config: Config, environment: Mapping[str, str]) -> Config:
    values: dict[str, object] = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX):
            continue
        key = name.removeprefix(PREFIX).lower()
        if key not in Config.model_fields:
            near = nearest(key, Config.model_fields, limit=1)
            raise VariableInvalid(
                f"there is no setting for {name}",
                next_step=f"did you mean {PREFIX}{near[0].upper()}?" if near else f"unset {name}",
            )
        values[key] = [part.strip() for part in text.split(",") if part.strip()] if key == "addresses" else text
    try:
        return Config.model_validate({**config.model_dump(), **values})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = f"{PREFIX}{str(first['loc'][0]).upper()}"
        raise VariableInvalid(f"{name} is not valid", why=first["msg"], next_step=f"correct or unset {name}") from None
