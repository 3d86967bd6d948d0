"""What may be wrong between two clusters."""

from __future__ import annotations

from mosaic_framework.errors import Conflict, Denied, IdentityRevoked, NotAuthenticated, NotFound, Unreachable


class UnknownPeer(NotAuthenticated):
    """No cluster is paired with this one under that id."""

    code = "unknown-peer"
    hint = "pair the two again: mosaic peer token NAME on one side, mosaic peer join on the other"


class PeerRevoked(IdentityRevoked):
    """The pairing has been ended."""

    code = "peer-revoked"
    hint = "pair the two again: mosaic peer token NAME on one side, mosaic peer join on the other"


class WrongAudience(NotAuthenticated):
    """This call is meant for another cluster."""

    code = "wrong-audience"
    hint = "nobody may hand on what was said to somebody else"


class PeerUnreachable(Unreachable):
    """The other cluster cannot be reached."""

    code = "peer-unreachable"
    hint = "mosaic peer ls shows when it was last heard of"


class NoSuchPeer(NotFound):
    """No cluster of that name is paired with this one."""

    code = "no-such-peer"
    hint = "mosaic peer ls"


class NotGranted(Denied):
    """The other cluster has not granted this."""

    code = "not-granted"


class AlreadyPaired(Conflict):
    """The two clusters are paired already."""

    code = "already-paired"


class BadPairing(Denied):
    """What the other cluster says of itself does not fit together."""

    code = "bad-pairing"
    hint = "do not use this token; ask whoever gave it to you"


class OwnCluster(Conflict):
    """A cluster cannot be paired with itself."""

    code = "own-cluster"
    hint = "use the token on the other cluster"


class TakesNoPeers(Conflict):
    """This cluster takes no calls of other clusters."""

    code = "takes-no-peers"
    hint = "set peer_port in controlplane.yaml to a port, and restart the control plane"
