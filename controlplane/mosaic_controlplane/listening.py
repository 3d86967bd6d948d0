"""Where a replica listens: ports bound, addresses advertised, and told to the programs of this machine."""

from __future__ import annotations

import json
import os
from uuid import UUID

import grpc
import grpc.aio
from mosaic_framework.errors import PortInUse
from mosaic_framework.paths import Home, write_private


def bind(server: grpc.aio.Server, address: str, port: int, credentials: grpc.ServerCredentials) -> str:
    """Bind and return host:port as bound. Raises PortInUse."""
    host = f"[{address}]" if ":" in address else address
    try:
        bound = server.add_secure_port(f"{host}:{port}", credentials)
    except RuntimeError as error:
        raise PortInUse(f"port {port} on {address} is in use", why="another program listens there") from error
    return f"{host}:{bound}"


def advertised(bound: str, advertise: str) -> str:
    """Return host:port as others dial it: the port that was bound, at the name to advertise if there is one."""
    return f"{advertise}:{bound.rpartition(':')[2]}" if advertise else bound


def write_run_file(home: Home, enrol: str, fleet: str, peer: str, replica_id: UUID, trust_domain: str) -> None:
    """Say in run/controlplane.json that this replica serves, and where."""
    facts = {
        "pid": os.getpid(),
        "enrol_address": enrol,
        "fleet_address": fleet,
        "peer_address": peer,
        "replica_id": str(replica_id),
        "trust_domain": trust_domain,
    }
    write_private(home.run / "controlplane.json", json.dumps(facts).encode())
