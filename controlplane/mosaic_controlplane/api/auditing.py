"""Audit of calls that failed: refusals of everybody, and what came of a write that was allowed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import structlog
from mosaic_framework.errors import Denied, FleetError
from ruamel.yaml import YAML

from mosaic_controlplane.identity.auditing import with_originator
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.pace import PerPeer
from mosaic_controlplane.register import audit
from mosaic_controlplane.register.database import Database

AUDIT, HISTORY, ITSELF = "audit", "history", "itself"

_TARGETS = (
    "to",
    "peer",
    "address",
    "agent",
    "agents",
    "card_id",
    "card_ids",
    "message_id",
    "host",
    "runtime",
    "name",
    "id",
)
"""Fields of requests that name a row. `host` and `runtime` are told together."""

_LIMIT = 200

log = structlog.get_logger(__name__)


@cache
def audited() -> Mapping[str, str]:
    """Return where each call that writes is told: method → audit, history or itself."""
    text = resources.files(__package__).joinpath("audited.yaml").read_text(encoding="utf-8")
    return dict(YAML(typ="safe", pure=True).load(text))


def target_of(request: Any) -> str:
    """Return what a request names, for the audit of one that failed; '' when it names nothing, or is a stream."""
    fields = getattr(getattr(request, "DESCRIPTOR", None), "fields_by_name", {})
    found = []
    for name in _TARGETS:
        value = getattr(request, name) if name in fields else ""
        if not isinstance(value, str):
            value = ",".join(str(part) for part in value)
        if value:
            found.append(value)
    return clean("/".join(found))


def clean(text: str) -> str:
    """Return what a stranger chose, as the register can take it: no NUL, and not too long."""
    return text[:_LIMIT].replace("\0", "").encode("utf-8", "replace").decode()


class Auditor:
    """Writes the rows of failed calls. What comes too fast to be read is counted, and told by the next row."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # A pace for each caller, strangers by address: one who floods does not hide what the others do.
        self._paces = PerPeer(rate=1, burst=50)
        self._together = PerPeer(rate=10, burst=200)
        self._left_out = 0

    async def failed(
        self,
        error: FleetError,
        *,
        caller: Caller | None,
        method: str,
        request: Any,
        request_id: str,
        peer_address: str,
        claimed: str,
    ) -> None:
        """Log and record a failed call, if it is one to record. Raises nothing: the caller hears of its own failure."""
        if isinstance(error, Denied):
            who = caller.key if caller else "unknown"
            log.warning("call refused", method=method, code=error.code, caller=who, request_id=request_id)
        elif audited().get(method) != AUDIT or caller is None:
            return
        pace = caller.key if caller else peer_address.rpartition(":")[0]
        if not self._paces.take(pace) or not self._together.take(""):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        detail = {"claimed": clean(claimed)} if caller is None else {}
        if left_out:
            detail["left_out"] = str(left_out)
        try:
            async with self._database.connection() as connection:
                await audit.record(
                    connection,
                    tenant_id=caller.tenant_id if caller and caller.tenant else None,
                    caller_kind=caller.kind if caller else "unknown",
                    caller_id=str(caller.id) if caller else "",
                    caller_name=caller.name if caller else "",
                    caller_role=caller.role if caller else "",
                    caller_host=caller.host if caller else "",
                    peer_address=peer_address,
                    method=method,
                    target=target_of(request),
                    request_id=request_id,
                    outcome=error.code,
                    detail=with_originator(caller, detail) if caller else detail,
                )
        except FleetError as failure:
            self._left_out += left_out + 1
            log.error("a failed call was not audited", method=method, code=failure.code, request_id=request_id)
