"""Commands whose answer needs another cluster wait for it as long as the control plane does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mosaic_cli import peering
from mosaic_cli.client import ANSWER_WITHIN
from mosaic_cli.output import Format
from mosaic_controlplane.federation import joining, outgoing, peers
from mosaic_framework import pki
from mosaic_framework.enrolment import PEER, JoinToken
from mosaic_proto.v1 import peers_pb2

CONNECTED = outgoing.CONNECT_SECONDS + outgoing.STANDING_SECONDS


class Connection:
    """A control plane that says yes to all, and notes how long it was given."""

    tenant = "default"
    peers = SimpleNamespace(Join="Join", Revoke="Revoke", List="List")

    def __init__(self) -> None:
        self.given: dict[str, float] = {}

    def call(self, method: str, request: object, *, timeout: float = ANSWER_WITHIN) -> object:
        self.given[method] = timeout
        peer = peers_pb2.PeerCluster(name="west")
        return SimpleNamespace(peer=peer, peers=[peer])


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    made = Connection()

    @contextlib.contextmanager
    def connect(context: str, *, tenant: str) -> Iterator[Connection]:
        yield made

    monkeypatch.setattr(peering, "connect", connect)
    return made


def joins(folder: Path) -> None:
    root = pki.certificate_to_der(pki.Authority.create("west.mosaic").certificate)
    token = JoinToken(PEER, "default", "east", "west.mosaic", ["127.0.0.1:9"], root, "a secret", cluster="west")
    file = folder / "token.txt"
    file.write_text(token.format())
    peering.join(file, name="", called="", role="viewer", form=Format.TABLE, context="", tenant="")


def revokes(_folder: Path) -> None:
    peering.revoke("west", reason="", dry_run=False, yes=True, form=Format.TABLE, context="", tenant="")


@pytest.mark.parametrize(
    ("command", "method", "seconds"),
    [(joins, "Join", joining.ANSWER_SECONDS), (revokes, "Revoke", max(peers.TELL_SECONDS, CONNECTED))],
)
def test_whoever_pairs_or_parts_hears_what_came_of_it_though_the_other_cluster_does_not_answer(
    connection: Connection, tmp_path: Path, command: Callable[[Path], None], method: str, seconds: float
) -> None:
    command(tmp_path)
    assert connection.given[method] >= seconds + 1
