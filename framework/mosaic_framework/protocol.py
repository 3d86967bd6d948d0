"""The protocol of the link between a host-agent and the control plane: which versions are spoken, and how two agree.

Either end speaks its own version and the one before, so that hosts and replicas are updated one by one in any order.
What only some ends can do is named in `capabilities`, in hello and welcome; nothing is asked of an end that does not
name it. A version rises when an older end could misunderstand something; most changes are a capability.
"""

from __future__ import annotations

from mosaic_framework.errors import FleetError

VERSION = 2
OLDEST = 1

PACE = "pace"
"""A host that takes another beat interval while it is linked; a control plane that sends one."""


class ProtocolMismatch(FleetError):
    """The two ends of a link speak no protocol in common."""

    code = "protocol-mismatch"


def agree(theirs: int, their_oldest: int, *, them: str, us: str) -> int:
    """Return the version that both ends speak. `their_oldest` 0: only `theirs`, as ends of version 1 do not say.

    A newer end that says nothing of its oldest is taken at its word that it speaks ours. Raises ProtocolMismatch, which
    names the end to update: `them` or `us`, as a person calls them.
    """
    if theirs < OLDEST:
        raise ProtocolMismatch(
            f"{them} speaks protocol {theirs}, which is too old",
            why=f"{us} speaks {OLDEST} to {VERSION}",
            next_step=f"update {them}: mosaic update",
        )
    if their_oldest > VERSION:
        raise ProtocolMismatch(
            f"{them} speaks protocol {their_oldest} to {theirs}, which is too new",
            why=f"{us} speaks {OLDEST} to {VERSION}",
            next_step=f"update {us}: mosaic update",
        )
    return min(theirs, VERSION)
