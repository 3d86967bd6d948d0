"""A gRPC server in threads of its own, so that it answers while the loop of who calls it stands still."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc


@contextmanager
def threaded_server(service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> Iterator[str]:
    """Serve inside the block; lends the address."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
