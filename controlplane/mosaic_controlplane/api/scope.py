"""Which tenant a call is about."""

from __future__ import annotations

from uuid import UUID

from mosaic_framework.errors import Denied

from mosaic_controlplane.identity.caller import Caller


def tenant_of(caller: Caller, requested: str) -> UUID:
    """Return the id of the tenant asked for: the caller's own. Raises Denied for any other, existing or not."""
    if requested in ("", caller.tenant):
        return caller.tenant_id
    raise Denied(
        f"you have no rights in tenant {requested[:64]!r}",
        why=f"your login is of tenant {caller.tenant!r}",
        next_step="log in there: mosaic login, with a code that an admin of that tenant makes",
    )
