"""Who may call what, read from policy.yaml. Deny by default."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import mosaic_proto.v1
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mosaic_controlplane.identity.caller import ROLES, Caller

ANONYMOUS = "anonymous"
ANY = "any"
CLUSTER_ADMIN = "cluster:admin"
_WORDS = {
    ANONYMOUS,
    ANY,
    CLUSTER_ADMIN,
    "host",
    "agent",
    "replica",
    "peer",
    "peer:operator",
    *(f"operator:{role}" for role in ROLES),
}
_AGENT_CLASS = re.compile(r"agent:[a-z][a-z0-9-]*")


class PolicyError(Exception):
    """policy.yaml is wrong: a mistake of ours, found when it is read and never at a user's call."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Method ("mosaic.v1.FleetService/Watch") → words for who may call it."""

    rules: Mapping[str, frozenset[str]]

    def allows(self, method: str, caller: Caller) -> bool:
        """Say whether an authenticated caller may call this method."""
        words = self.rules.get(method, frozenset())
        return ANY in words or not words.isdisjoint(_words_for(caller))

    def allows_anonymous(self, method: str) -> bool:
        """Say whether this method is for those who have no certificate yet."""
        return ANONYMOUS in self.rules.get(method, frozenset())

    def who(self, method: str) -> list[str]:
        """Return the words for who may call this method, sorted; for messages."""
        return sorted(self.rules.get(method, frozenset()))


def load_policy() -> Policy:
    """Return the policy that is shipped. Raises PolicyError when it is malformed or names what does not exist."""
    return parse_policy(resources.files(__package__).joinpath("policy.yaml").read_text(encoding="utf-8"))


def parse_policy(text: str) -> Policy:
    """Return the policy that `text` spells, every method and word of it checked. Raises PolicyError."""
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise PolicyError(f"policy.yaml is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise PolicyError("policy.yaml is not a mapping of methods")
    known = all_methods()
    rules: dict[str, frozenset[str]] = {}
    for method, words in content.items():
        if method not in known:
            raise PolicyError(f"policy.yaml: there is no method {method!r}")
        if not isinstance(words, list) or not words:
            raise PolicyError(f"policy.yaml: {method} has no list of callers")
        for word in words:
            if not isinstance(word, str) or not (word in _WORDS or _AGENT_CLASS.fullmatch(word)):
                raise PolicyError(f"policy.yaml: {method}: there is no caller {word!r}")
        if ANONYMOUS in words and len(words) > 1:
            raise PolicyError(f"policy.yaml: {method}: anonymous stands alone: its listener authenticates nobody")
        rules[method] = frozenset(words)
    return Policy(rules)


@cache
def all_methods() -> frozenset[str]:
    """Return every method of mosaic.v1 and of gRPC's health service, as policy.yaml names them."""
    return frozenset(
        f"{service.full_name}/{method.name}"
        for file in _files()
        for service in file.services_by_name.values()
        for method in service.methods
    )


def _files() -> Iterator[FileDescriptor]:
    for module in pkgutil.iter_modules(mosaic_proto.v1.__path__):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(f"mosaic_proto.v1.{module.name}").DESCRIPTOR
    yield health_pb2.DESCRIPTOR


def _words_for(caller: Caller) -> set[str]:
    if caller.kind == "operator":
        words = {f"operator:{caller.role}"}
        return words | {CLUSTER_ADMIN} if caller.administers_cluster else words
    if caller.kind == "agent":
        return {"agent", f"agent:{caller.role}"}
    if caller.kind == "peer":
        return {"peer", f"peer:{caller.role}"}
    return {caller.kind}
