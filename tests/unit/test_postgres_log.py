"""Why PostgreSQL failed is found among all that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_controlplane.register.postgres_account import Account, EmbeddedDatabaseFailed
from mosaic_controlplane.register.postgres_cluster import Cluster, failure_line

FULL = """2026-01-01 10:00:00.000 UTC [7] LOG:  starting PostgreSQL 18.4
2026-01-01 10:00:00.100 UTC [7] FATAL:  could not write to file "pg_wal/xlogtemp.7": No space left on device
2026-01-01 10:00:00.101 UTC [7] PANIC:  cannot abort transaction 1, it was already committed
"""


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (FULL, 'could not write to file "pg_wal/xlogtemp.7": No space left on device'),
        (
            'initdb: error: could not access directory "/x": Permission denied\n',
            'could not access directory "/x": Permission denied',
        ),
        ("x FATAL:  first\nx FATAL:  second\nx LOG:  shut down\n", "second"),
        ("x LOG:  all is well\n", ""),
        ("", ""),
    ],
)
def test_the_line_that_says_why_is_found(log: str, line: str) -> None:
    assert failure_line(log) == line


def test_a_socket_path_that_no_system_takes_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    account = Account("me", 1000, 1000, switch=False)
    cluster = Cluster(tmp_path / "bin", tmp_path / "data", tmp_path / ("x" * 120), account)
    with pytest.raises(EmbeddedDatabaseFailed, match="path of the database's socket is too long"):
        cluster.initialise()
    assert list(tmp_path.iterdir()) == []


def test_the_servers_command_holds_no_secret_and_opens_no_port(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "bin", tmp_path / "data", tmp_path / "s", Account("me", 1000, 1000, switch=False))
    assert "listen_addresses=" in cluster.command()
    assert "password" not in " ".join(cluster.command())
    assert cluster.url() == f"postgresql:///mosaic?host={tmp_path}/s&port=5432&user=mosaic"
