"""Where a call comes from: all that is needed to authenticate it, here and again at another replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import DecodeError
from mosaic_framework.errors import InvalidInput, NotAuthenticated, Unreachable
from mosaic_proto.v1 import forwarding_pb2 as pb

FORWARDED_KEY = "mosaic-forwarded-bin"
"""Metadata that carries a mosaic.v1.ForwardedCall."""

REQUEST_KEY = "mosaic-request-id"
"""Metadata with the id under which a call is logged and told."""

PAIRING_KEY = "mosaic-pairing"
"""Metadata of a call of another cluster: the id of the pairing that it is of."""

AUDIENCE_KEY = "mosaic-audience"
"""Metadata of such a call: the trust domain that it is meant for, so that nobody hands it on as their own."""

ON_BEHALF_KEY = "mosaic-originating-identity-bin"
"""Metadata of such a call: a mosaic.v1.OriginatingIdentity."""

MOST_HOPS = 1


class ForwardedTooFar(Unreachable):
    """This call has come from one replica to another already, and goes no further."""

    code = "forwarded-too-far"
    hint = "try again in a moment: the host's link has moved meanwhile"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a call shows of its caller. `forwarded_by`: the replica that handed it on, None for a call made here."""

    leaf_pem: bytes
    agent_id: str = ""
    run_id: str = ""
    peer_address: str = ""
    request_id: str = ""
    forwarded_by: UUID | None = None
    pairing: str = ""
    """of a call of another cluster: which pairing it says to be of,"""
    audience: str = ""
    """for which trust domain it is meant,"""
    on_behalf_of: bytes = b""
    """and for whom there (mosaic.v1.OriginatingIdentity), as it says"""

    def onward(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the metadata with which another replica takes the call. Raises ForwardedTooFar for one handed on."""
        if self.forwarded_by is not None:
            raise ForwardedTooFar(why=f"it came here through replica {self.forwarded_by}")
        call = pb.ForwardedCall(
            hops=MOST_HOPS,
            certificate=self.leaf_pem,
            agent_id=self.agent_id,
            run_id=self.run_id,
            peer_address=self.peer_address,
            pairing=self.pairing,
            audience=self.audience,
            on_behalf_of=self.on_behalf_of,
        )
        return ((FORWARDED_KEY, call.SerializeToString()), (REQUEST_KEY, self.request_id))

    @classmethod
    def forwarded(cls, content: bytes, *, by: UUID, request_id: str) -> Origin:
        """Return the origin of a call that replica `by` handed on. Raises InvalidInput or ForwardedTooFar."""
        try:
            call = pb.ForwardedCall.FromString(content)
        except DecodeError as error:
            raise InvalidInput("what came with the forwarded call cannot be read") from error
        if call.hops != MOST_HOPS:
            raise ForwardedTooFar(why=f"it says that it came through {call.hops} replicas")
        return cls(
            leaf_pem=call.certificate,
            agent_id=call.agent_id,
            run_id=call.run_id,
            peer_address=call.peer_address,
            request_id=request_id,
            forwarded_by=by,
            pairing=call.pairing,
            audience=call.audience,
            on_behalf_of=call.on_behalf_of,
        )


_ORIGIN: ContextVar[Origin] = ContextVar("mosaic_origin")


def current_origin() -> Origin:
    """Return the origin of the call that runs now. Raises NotAuthenticated outside of an authenticated call."""
    try:
        return _ORIGIN.get()
    except LookupError:
        raise NotAuthenticated("this call has no verified origin") from None


@contextmanager
def coming_from(origin: Origin) -> Iterator[None]:
    """Make `origin` that of the calls inside the block."""
    token = _ORIGIN.set(origin)
    try:
        yield
    finally:
        _ORIGIN.reset(token)
