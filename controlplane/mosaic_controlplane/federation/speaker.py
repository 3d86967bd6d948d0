"""For whom a peer says that it calls, as a name in this cluster: it proves nothing, and is only shown."""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError
from mosaic_framework.names import NAME_LIMIT
from mosaic_proto.v1 import federation_pb2 as pb

from mosaic_controlplane.identity.caller import Caller

_STRANGE = re.compile(r"[^A-Za-z0-9_.-]")


def speaker(caller: Caller, on_behalf_of: bytes) -> str:
    """Return cluster/name, of an agent cluster/host/name, which can be answered to; the cluster alone for nobody.

    The cluster is what it is called here. `on_behalf_of`: a mosaic.v1.OriginatingIdentity, as it came.
    """
    try:
        said = pb.OriginatingIdentity.FromString(on_behalf_of).principal
    except DecodeError:
        return caller.name
    parts = [_STRANGE.sub("_", part[:NAME_LIMIT]) for part in (said.host, said.name) if part]
    return "/".join([caller.name, *parts])
