"""Names and addresses: what may be called what, and how a short form finds its one match."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from mosaic_framework.errors import InvalidInput

AGENT_NAME = re.compile(r"[A-Za-z0-9_.-]+")
NAME_LIMIT = 64
# tmux replaces "." and ":" in session names, and "=name:" is the only exact target, so a session carries a mapped name.
_RESERVED = {".", ".."}


def check_name(name: str, *, what: str) -> str:
    """Return `name`, or raise InvalidInput that says which rule it breaks. `what` is the noun for the message."""
    shown = name if len(name) <= 80 else f"{name[:40]}… ({len(name)} characters)"
    if not name:
        raise InvalidInput(f"the {what} has no name", why="a name has 1 to 64 characters")
    if len(name) > NAME_LIMIT:
        raise InvalidInput(f"{what} name {shown!r} is too long", why=f"a name has at most {NAME_LIMIT} characters")
    if name in _RESERVED or name.startswith(("-", ".")) or not AGENT_NAME.fullmatch(name):
        raise InvalidInput(
            f"{what} name {shown!r} is not allowed",
            why="a name has letters, digits, '_', '.' and '-' only, and does not start with '-' or '.'",
        )
    return name


def nearest(word: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """Return up to `limit` of `known`, most alike first."""
    return difflib.get_close_matches(word, list(known), n=limit, cutoff=0.5)


def split_cluster(address: str) -> tuple[str, str]:
    """Return (cluster, the rest) of an address of three parts, cluster/host/agent; of any other ('', the address)."""
    cluster, _, rest = address.partition("/")
    return (cluster, rest) if rest.count("/") == 1 else ("", address)


def match_address(address: str, known: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the (host, agent) pairs of `known` that `address` (agent or host/agent) names, matched from the right."""
    parts = address.split("/")
    if len(parts) == 1:
        return [pair for pair in known if pair[1] == parts[0]]
    if len(parts) == 2:
        return [pair for pair in known if pair == (parts[0], parts[1])]
    return []
