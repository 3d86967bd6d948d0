"""What is taken of the answer of a cluster whose token was used: nothing but what the token promised."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from mosaic_controlplane.federation.errors import BadPairing
from mosaic_controlplane.federation.joining import _taken
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.caller import Caller
from mosaic_framework import pki
from mosaic_framework.enrolment import PEER, JoinToken
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import federation_pb2 as pb

WEST, OTHER, OURS = (pki.Authority.create(f"{name}.mosaic").certificate for name in ("west", "other", "ours"))
NEXT = pki.Authority.create("west.mosaic").certificate


def der(*roots: Any) -> list[bytes]:
    return [pki.certificate_to_der(root) for root in roots]


def taken(**told: Any) -> Any:
    token = JoinToken(PEER, "default", "east", "west.mosaic", ["127.0.0.1:9"], der(WEST)[0], "secret", cluster="west")
    said: dict[str, Any] = {
        "peer_id": str(new_id()),
        "trust_domain": "west.mosaic",
        "cluster": "west",
        "tenant": "default",
        "authority_der": der(WEST, NEXT),
        "addresses": ["127.0.0.1:7444"],
    }
    reply = pb.PairReply(**{**said, **told})
    caller = Caller("operator", new_id(), "default", new_id(), "anna", "admin", 1, "")
    ours = cast("ClusterIdentity", SimpleNamespace(roots=[OURS]))
    return _taken(token, reply, caller, name="hq", role="viewer", ours=ours)


def test_an_answer_as_the_token_promised_is_taken_under_the_name_that_was_chosen_here() -> None:
    new = taken()
    assert (new.name, new.trust_domain, new.cluster, new.role) == ("hq", "west.mosaic", "west", "viewer")
    assert new.bundle == pki.certificate_to_pem(WEST) + pki.certificate_to_pem(NEXT)


@pytest.mark.parametrize(
    "told",
    [
        {"trust_domain": "other.mosaic", "authority_der": der(WEST, OTHER)},
        {"authority_der": der(NEXT)},
        {"authority_der": der(WEST, OTHER)},
        {"authority_der": der(WEST, OURS)},
        {"authority_der": [*der(WEST), b"no certificate"]},
        {"authority_der": []},
        {"peer_id": "no id"},
        {"cluster": "a/b"},
        {"tenant": ""},
        {"addresses": ["nowhere"]},
    ],
    ids=lambda told: " and ".join(told),
)
def test_an_answer_that_is_not_as_the_token_promised_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(BadPairing):
        taken(**told)


def test_a_trust_domain_that_the_token_does_not_name_is_refused_whatever_roots_it_shows() -> None:
    with pytest.raises(BadPairing, match="not what the token promised"):
        taken(trust_domain="other.mosaic", authority_der=der(OTHER, WEST))
