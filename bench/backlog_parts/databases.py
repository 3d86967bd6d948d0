"""A PostgreSQL that waits for the disk at every commit, as in production, and fresh databases in it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
from mosaic_controlplane.register.migrate import migrate
from mosaic_controlplane.register.postgres_cluster import ROLE, SUPERUSER, Cluster

from tests.support import fast_postgres

_SETTINGS = {"max_connections": "250", "shared_buffers": "512MB", "max_wal_size": "4GB"}


@contextlib.contextmanager
def durable_server() -> Iterator[Cluster]:
    """Lend a server with fsync on."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root the server's own account passes through
        cluster = fast_postgres.make(folder, _SETTINGS)
        fast_postgres.start(cluster)
        try:
            yield cluster
        finally:
            fast_postgres.stop(folder)


async def fresh(cluster: Cluster, name: str, *, migrated: bool = True) -> str:
    """Return the URL of a new database of that name."""
    admin = await asyncpg.connect(cluster.url(role=SUPERUSER, database="postgres"))
    try:
        await admin.execute(f"drop database if exists {name} with (force)")
        await admin.execute(f"create database {name} owner {ROLE}")
    finally:
        await admin.close()
    url = cluster.url(database=name)
    if migrated:
        connection = await asyncpg.connect(url)
        try:
            await migrate(connection)
        finally:
            await connection.close()
    return url


async def vacuumed(url: str, tables: str) -> None:
    """Vacuum and analyze, as autovacuum will have done some time after a load."""
    connection = await asyncpg.connect(url)
    try:
        for table in tables.split():
            await connection.execute(f"vacuum analyze {table}")
    finally:
        await connection.close()
