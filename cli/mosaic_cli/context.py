"""Contexts: which cluster, with which identity, in which tenant. Kept in $MOSAIC_HOME/config.yaml."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mosaic_framework.errors import InvalidInput, NotFound, NotLoggedIn
from mosaic_framework.names import nearest
from mosaic_framework.paths import Home, write_private

LOCAL = "local"
FIRST_TENANT = "default"
"""The tenant that every cluster has from its start."""


class ConfigInvalid(InvalidInput):
    """The configuration file cannot be read."""

    code = "config-invalid"


@dataclass(frozen=True, slots=True)
class Context:
    """One way to a cluster.

    `identity` is the folder of the operator's key and certificate, relative to the Mosaic home unless absolute;
    `default_host` takes the seats of a roster that names no host.
    """

    name: str
    addresses: tuple[str, ...]
    identity: str
    tenant: str = FIRST_TENANT
    default_host: str = ""

    def identity_folder(self, home: Home) -> Path:
        """Return where the identity lies."""
        return home.root / self.identity


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts of one home, and which is current."""

    current: str = ""
    items: tuple[Context, ...] = field(default=())

    @property
    def names(self) -> list[str]:
        """The names, in the order of the file."""
        return [item.name for item in self.items]

    def get(self, name: str) -> Context:
        """Return one by name, else NotFound with the nearest names."""
        for item in self.items:
            if item.name == name:
                return item
        close = nearest(name, self.names) or self.names
        raise NotFound(
            f"there is no context {name!r}",
            why=f"known: {', '.join(close)}" if close else "no context is set up yet",
            next_step="mosaic context ls",
        )

    def chosen(self, name: str = "") -> Context:
        """Return the one named, else the current one; NotLoggedIn when there is none."""
        if name or self.current:
            return self.get(name or self.current)
        raise NotLoggedIn(
            "no cluster is set up for this user",
            why="there is no context yet",
            next_step="mosaic up (this machine becomes a cluster), or: mosaic login (join an existing one)",
        )

    def put(self, item: Context, *, make_current: bool) -> Contexts:
        """Return these with `item` added or replaced."""
        others = tuple(other for other in self.items if other.name != item.name)
        return replace(
            self, items=(*others, item), current=item.name if make_current or not self.current else self.current
        )


def load(home: Home) -> Contexts:
    """Return the contexts of `home`; none when there is no file. Raises ConfigInvalid."""
    if not home.config.exists():
        return Contexts()
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(home.config.read_text("utf-8")) or {}
    except (YAMLError, UnicodeDecodeError) as error:
        raise _invalid(home, str(error).splitlines()[0]) from error
    if not isinstance(found, dict) or not isinstance(found.get("contexts", []), list):
        raise _invalid(home, "it is not a mapping with a list `contexts`")
    return Contexts(
        current=str(found.get("current") or ""),
        items=tuple(_decode(home, item) for item in found.get("contexts") or []),
    )


def save(home: Home, contexts: Contexts) -> None:
    """Write the contexts; comments and keys that others put into the file stay."""
    from ruamel.yaml import YAML

    yaml = YAML()
    document: Any = yaml.load(home.config.read_text("utf-8")) if home.config.exists() else None
    document = document if isinstance(document, dict) else {}
    document["current"] = contexts.current
    document["contexts"] = [_encode(item) for item in contexts.items]
    out = io.BytesIO()
    yaml.dump(document, out)
    write_private(home.config, out.getvalue())


def _decode(home: Home, item: Any) -> Context:
    if not isinstance(item, dict):
        raise _invalid(home, f"a context is not a mapping: {item!r}")
    name, addresses, identity = item.get("name"), item.get("addresses"), item.get("identity")
    if not isinstance(name, str) or not isinstance(identity, str) or not _texts(addresses):
        raise _invalid(home, "a context needs `name`, `addresses` (a list) and `identity`")
    return Context(
        name=name,
        addresses=tuple(addresses or ()),
        identity=identity,
        tenant=str(item.get("tenant") or FIRST_TENANT),
        default_host=str(item.get("default_host") or ""),
    )


def _encode(item: Context) -> dict[str, Any]:
    return {
        "name": item.name,
        "addresses": list(item.addresses),
        "identity": item.identity,
        "tenant": item.tenant,
        "default_host": item.default_host,
    }


def _texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(text, str) for text in value)


def _invalid(home: Home, why: str) -> ConfigInvalid:
    return ConfigInvalid(f"{home.config} cannot be read", why=why, next_step=f"repair or remove it: {home.config}")
