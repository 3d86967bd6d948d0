"""What the contract says of a method, for whoever carries calls without looking into them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import mosaic_proto.v1


@cache
def _one_request() -> frozenset[str]:
    modules = (module.name for module in pkgutil.iter_modules(mosaic_proto.v1.__path__))
    files = [importlib.import_module(f"mosaic_proto.v1.{name}").DESCRIPTOR for name in modules if name.endswith("_pb2")]
    return frozenset(
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
        if not method.client_streaming
    )


def takes_one_request(method: str) -> bool:
    """Say whether a method ("/mosaic.v1.FleetService/Watch") is known to take one request, not a stream of them."""
    return method in _one_request()
