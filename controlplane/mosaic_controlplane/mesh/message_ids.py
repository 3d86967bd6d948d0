"""Ids of messages as people give them: whole, or a beginning that fits one."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from mosaic_framework.errors import Ambiguous, NotFound


def id_range(prefix: str) -> tuple[UUID, UUID]:
    """Return the first and the last id that begin with `prefix`. Raises NotFound for what is no id."""
    digits = prefix.replace("-", "").lower()
    try:
        if not digits:
            raise ValueError
        return UUID(hex=digits.ljust(32, "0")), UUID(hex=digits.ljust(32, "f"))
    except ValueError:
        raise NotFound(f"{prefix[:80]!r} is no message id", next_step="mosaic message ls") from None


def one_of(prefix: str, ids: Sequence[UUID]) -> UUID:
    """Return the one id that was found for a prefix. Raises NotFound or Ambiguous."""
    if not ids:
        raise NotFound(f"there is no message {prefix!r}", next_step="mosaic message ls")
    if len(ids) > 1:
        candidates = [str(found) for found in ids[:5]]
        raise Ambiguous(
            f"{prefix!r} fits more than one message",
            why=", ".join(candidates),
            details={"candidates": " ".join(candidates)},
        )
    return ids[0]
