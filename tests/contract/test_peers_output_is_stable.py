"""The forms of `-o` for other clusters, held by golden files (GOLDEN_FILES=write writes them)."""

from __future__ import annotations

import pytest
from mosaic_cli.output import Format
from mosaic_cli.peer_view import peer_listing, show_peer
from mosaic_proto.v1 import peers_pb2 as pb

from tests.contract.test_cli_output_is_stable import compare, shown
from tests.fakes.control_plane import at

ALL = list(Format)
_ID = "01900000-0000-7000-8000-0000000000c"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def peers() -> list[pb.PeerCluster]:
    """A live peer with grants both ways, a stale one, a new one, and two tombstones."""
    east = pb.PeerCluster(
        id=f"{_ID}1",
        tenant="default",
        name="east",
        trust_domain="abcdefgh23456723.mosaic",
        cluster="hq",
        role="operator",
        health=pb.PEER_HEALTH_LIVE,
        heard_at=at(4),
        paired_at=at(7200),
        addresses=["192.0.2.7:7444", "192.0.2.8:7444"],
        agents=12,
        skipped={"goal": 3},
        version="0.2.0",
    )
    east.grants.add(
        id=f"{_ID}a",
        kind="see",
        selector="class=builder",
        fields=["work"],
        expires_at=at(-3600),
        made_by="anna",
        made_at=at(60),
    )
    east.grants.add(
        id=f"{_ID}b", kind="claim", selector="*", max=3, expires_at=at(-3600), made_by="anna", made_at=at(60)
    )
    east.granted.add(
        id=f"{_ID}d", kind="send", selector="agent=helper", expires_at=at(-60), made_by="bo", made_at=at(90)
    )
    west = pb.PeerCluster(
        id=f"{_ID}2",
        tenant="default",
        name="west",
        trust_domain="west.mosaic",
        cluster="west",
        role="viewer",
        health=pb.PEER_HEALTH_STALE,
        heard_at=at(180),
        paired_at=at(7200),
        problem="cluster west cannot be reached",
    )
    new = pb.PeerCluster(id=f"{_ID}3", name="lab", cluster="lab", role="viewer", health=pb.PEER_HEALTH_PAIRED)
    ours = pb.PeerCluster(
        id=f"{_ID}4",
        name="old",
        cluster="old",
        role="viewer",
        health=pb.PEER_HEALTH_REVOKED,
        revoked_at=at(60),
        revoked_by="us",
        problem="it could not be told yet; it finds out when it calls",
    )
    theirs = pb.PeerCluster(
        id=f"{_ID}5",
        name="older",
        cluster="older",
        role="viewer",
        health=pb.PEER_HEALTH_REVOKED,
        revoked_at=at(60),
        revoked_by="peer",
        revoked_reason="enough",
    )
    return [theirs, ours, new, west, east]


@pytest.mark.parametrize("form", ALL)
def test_peers_are_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    compare(f"peers.{form.value}", shown(peer_listing(peers(), at(0)), form, capsys))


@pytest.mark.parametrize("form", [Format.TABLE, Format.JSON])
def test_a_peer_is_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    show_peer(peers()[-1], at(0), form)
    compare(f"peer.{form.value}", capsys.readouterr().out)


def test_a_tombstone_says_who_ended_it_and_shows_no_grants(capsys: pytest.CaptureFixture[str]) -> None:
    show_peer(peers()[0], at(0), Format.TABLE)
    said = capsys.readouterr().out
    assert "ended by them at" in said
    assert "it may here" not in said
