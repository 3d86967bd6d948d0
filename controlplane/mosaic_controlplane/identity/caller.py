"""Who makes a call, as proven by certificate and register."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from mosaic_framework.errors import NotAuthenticated

from mosaic_controlplane.register.tenant import DEFAULT as FIRST_TENANT

KINDS = ("host", "operator", "agent", "replica", "peer")
ROLES = ("admin", "operator", "viewer")
PEER_ROLES = ("viewer", "operator")
"""What the people of another cluster may count as here: none of them administers this one."""

NO_TENANT = UUID(int=0)
"""The tenant of a replica, which belongs to none."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller. An agent calls through its host: `host_id`, `host` are that one's, `id`, `name` its own.

    `kind`: one of KINDS. `role`: an operator's role, an agent's class or empty. `identity_epoch`: the certificate's.
    """

    kind: str
    tenant_id: UUID
    tenant: str
    id: UUID
    name: str
    role: str
    identity_epoch: int
    peer_address: str
    host_id: UUID | None = None
    host: str = ""
    run_id: UUID | None = None
    """the run of an agent in which it calls; what it claims and writes refers to it"""
    on_behalf_of: str = ""
    """whom a peer says that it calls for, as people read it; only written down"""

    @property
    def key(self) -> str:
        """Return "<kind>:<id>": what a write's idempotency is scoped to."""
        return f"{self.kind}:{self.id}"

    @property
    def administers_cluster(self) -> bool:
        """Whether this is an admin of the first tenant, who makes and removes tenants."""
        return self.kind == "operator" and self.role == "admin" and self.tenant == FIRST_TENANT


_CALLER: ContextVar[Caller] = ContextVar("mosaic_caller")


def current_caller() -> Caller:
    """Return the caller of the call that runs now. Raises NotAuthenticated outside of an authenticated call."""
    try:
        return _CALLER.get()
    except LookupError:
        raise NotAuthenticated("this call has no verified caller") from None


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Make `caller` the current one inside the block."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)
