"""PostgreSQL for tests from Docker, where an engine answers."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.fast_postgres import FAST

IMAGE = "postgres:18-alpine"


def engine_answers() -> bool:
    """Return whether a Docker engine can be used from here."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return False  # spares the import
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False


def start() -> tuple[str, str]:
    """Start a server and return its container's id and its administrator's URL."""
    # The reaper would stop the container with the worker that started it, under the other workers.
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    from testcontainers.postgres import PostgresContainer

    options = " ".join(f"-c {name}={value}" for name, value in FAST.items())
    container = PostgresContainer(IMAGE, driver=None).with_command(f"postgres {options}")
    container.start()
    return str(container.get_wrapped_container().id), str(container.get_connection_url())


def stop(container: str) -> None:
    """Remove the container and its data."""
    import docker

    client = docker.from_env(timeout=30)
    try:
        client.containers.get(container).remove(force=True, v=True)
    finally:
        client.close()
