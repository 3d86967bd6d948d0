"""Settings of the control plane: `$MOSAIC_HOME/controlplane.yaml`, then `MOSAIC_*` on top."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal

from mosaic_framework.errors import InvalidInput
from mosaic_framework.names import nearest
from mosaic_framework.paths import Home
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

VARIABLES = {
    "database_url": "MOSAIC_DATABASE_URL",
    "listen": "MOSAIC_LISTEN",
    "enrol_port": "MOSAIC_ENROL_PORT",
    "fleet_port": "MOSAIC_FLEET_PORT",
    "peer_port": "MOSAIC_PEER_PORT",
    "advertise": "MOSAIC_ADVERTISE",
    "cluster": "MOSAIC_CLUSTER",
    "metrics_port": "MOSAIC_METRICS_PORT",
    "log_level": "MOSAIC_LOG_LEVEL",
    "limit_calls_per_second": "MOSAIC_LIMIT_CALLS_PER_SECOND",
    "limit_calls_burst": "MOSAIC_LIMIT_CALLS_BURST",
    "limit_calls_at_once": "MOSAIC_LIMIT_CALLS_AT_ONCE",
    "limit_calls_together": "MOSAIC_LIMIT_CALLS_TOGETHER",
    "limit_streams": "MOSAIC_LIMIT_STREAMS",
    "limit_queue": "MOSAIC_LIMIT_QUEUE",
    "limit_connections": "MOSAIC_LIMIT_CONNECTIONS",
    "limit_enrolments_per_second": "MOSAIC_LIMIT_ENROLMENTS_PER_SECOND",
    "limit_enrolments_per_address": "MOSAIC_LIMIT_ENROLMENTS_PER_ADDRESS",
    "leaf_lifetime": "MOSAIC_LEAF_LIFETIME",
}
"""setting → the variable that sets it as well"""


class Settings(BaseModel):
    """Everything that can be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    database_url: str = Field(default="", description="a PostgreSQL ≥ 15; empty: the embedded one")
    listen: str = Field(default="127.0.0.1", description="the address that all listeners bind")
    enrol_port: int = Field(default=7440, ge=0, le=65535, description="0 takes a free one")
    fleet_port: int = Field(default=7443, ge=0, le=65535, description="0 takes a free one")
    peer_port: Annotated[int, Field(ge=0, le=65535)] | Literal["off"] | None = Field(
        default=None,
        description="other clusters; unset: the one after fleet_port (7444); 0 takes a free one; off: none",
    )
    advertise: str = Field(default="", description="the name or address that hosts dial; empty: what is bound")
    cluster: str = Field(
        default="local", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", description="the cluster's alias"
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | Literal["off"] = Field(
        default=0, description="metrics and health over HTTP on 127.0.0.1; 0 takes a free one; off: none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info")
    limit_calls_per_second: float = Field(default=200, gt=0, description="calls of one identity, on and on")
    limit_calls_burst: int = Field(default=2_000, ge=1, description="calls of one identity, at once")
    limit_calls_at_once: int = Field(default=256, ge=1, description="calls of one identity that wait for an answer")
    limit_calls_together: int = Field(default=4_000, ge=1, description="the same, of all identities together")
    limit_streams: int = Field(default=512, ge=1, description="streams of one identity")
    limit_queue: int = Field(default=1_000, ge=1, description="messages that wait to be typed into one agent")
    limit_connections: int = Field(default=20_000, ge=16, description="connections to the fleet listener")
    limit_enrolments_per_second: float = Field(default=50, gt=0, description="attempts to join, of all addresses")
    limit_enrolments_per_address: float = Field(
        default=10, gt=0, description="attempts to join a second, of one address; twice as many at once"
    )
    leaf_lifetime: int = Field(
        default=86_400,
        ge=2,
        le=30 * 86_400,
        description="seconds that a certificate is good for; renewed at half of it",
    )

    @property
    def peer_port_wanted(self) -> int | None:
        """The port to take calls of other clusters at; 0: a free one; None: none are taken."""
        if self.peer_port == "off":
            return None
        if self.peer_port is None:
            return self.fleet_port + 1 if 0 < self.fleet_port < 65535 else 0
        return self.peer_port


def load(home: Home, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings. Raises InvalidInput that names the file or variable, the key and the nearest known one."""
    file = home.root / "controlplane.yaml"
    values: dict[str, object] = {}
    if file.exists():
        try:
            found = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, YAMLError) as error:
            raise InvalidInput(f"{file} cannot be read", why=str(error).splitlines()[0]) from error
        if found is not None and not isinstance(found, dict):
            raise InvalidInput(f"{file} holds no settings", why="it must be keys and values")
        values = {str(key): value for key, value in (found or {}).items()}
    environment = os.environ if environment is None else environment
    sources = dict.fromkeys(values, str(file))
    for key, variable in VARIABLES.items():
        if variable in environment:
            values[key] = environment[variable]
            sources[key] = variable
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        close = nearest(key, Settings.model_fields) if first["type"] == "extra_forbidden" else []
        raise InvalidInput(
            f"{sources.get(key, str(file))}: {key}: {first['msg'].lower()}",
            why=f"did you mean {close[0]!r}?" if close else f"the value is {first.get('input')!r}"[:200],
            next_step=f"correct {sources.get(key, str(file))}",
        ) from error
