"""The forms of `mosaic backlog -o` are a contract, held by golden files; GOLDEN_FILES=write adds a field to them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from mosaic_cli import output
from mosaic_cli.backlog.view import card_listing, claim_thing, shown_card, stats_thing, verify_listing
from mosaic_cli.output import Format, Listing, Thing
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import common_pb2

from tests.fakes.control_plane import at

GOLDEN = Path(__file__).parent / "golden" / "backlog"
CODER = common_pb2.Principal(
    kind=common_pb2.PRINCIPAL_KIND_AGENT, id="a1", name="coder0", host="build1", tenant="default"
)
ANNA = common_pb2.Principal(kind=common_pb2.PRINCIPAL_KIND_OPERATOR, id="o1", name="anna", tenant="default")


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def card(card_id: str, status: int, **more: Any) -> pb.Card:
    made = pb.Card(
        id=card_id, status=status, tenant="default", made_by=ANNA, made_at=at(7200), changed_at=at(60), **more
    )  # type: ignore[arg-type]
    made.content.title = f"Do {card_id}"
    return made


def claimed() -> pb.Card:
    made = card("login", pb.CARD_STATUS_CLAIMED, fence=3, attempts=2, depends_on=["schema"], depth=1)
    made.content.MergeFrom(
        pb.CardContent(
            body="It forgets the user.",
            mission="relaunch",
            phase="two",
            priority=7,
            urgency=pb.URGENCY_HIGH,
            labels=["web"],
            acceptance=["the user stays"],
            repository="shop",
            attempt_limit=5,
            estimate=pb.Spend(cost_micros=1_250_000, tokens=1000, seconds=5400, basis="the last one"),
        )
    )
    made.content.time_limit.seconds = 14_400
    made.holder.MergeFrom(
        pb.Holder(
            who=CODER,
            run_id="01900000-0000-7000-8000-000000000200",
            fence=3,
            claimed_at=at(120),
            lease_until=at(-180),
            renew_until=at(-14_280),
            lease_left_ms=180_000,
        )
    )
    return made


def every_kind() -> list[pb.Card]:
    return [
        claimed(),
        card("guide", pb.CARD_STATUS_REVIEW, fence=2),
        card("keys", pb.CARD_STATUS_BLOCKED, fence=5, reason="Anna must rotate the key"),
        card("tidy", pb.CARD_STATUS_READY, claimable=True, ready_since=at(600)),
        card("again", pb.CARD_STATUS_READY, claimable=True, expired=True, attempts=1, fence=1),
        card("later", pb.CARD_STATUS_READY, unmet=2),
        card("schema", pb.CARD_STATUS_DONE, result="it is in", finished_at=at(900)),
        card("never", pb.CARD_STATUS_CANCELLED, reason="nobody wants it"),
    ]


def shown() -> pb.ShowCardReply:
    reply = pb.ShowCardReply(card=claimed(), at=at(0))
    reply.history.add(at=at(7200), kind="created", status=pb.CARD_STATUS_READY, who=ANNA)
    reply.history.add(
        at=at(120), kind="claimed", status=pb.CARD_STATUS_CLAIMED, fence=3, who=CODER, details={"lease": "300s"}
    )
    reply.depends_on.add(id="login", title="Do login", status=pb.CARD_STATUS_CLAIMED)
    reply.depends_on.add(id="schema", title="Do schema", status=pb.CARD_STATUS_DONE, level=1, parent="login")
    return reply


def stats() -> pb.BacklogStatsReply:
    reply = pb.BacklogStatsReply(
        by_status={"ready": 3, "claimed": 1, "review": 1, "done": 1, "blocked": 1, "cancelled": 1},
        claimable=2,
        waiting=1,
        claimable_by_class={"": 1, "code": 1},
        oldest_claimable="tidy",
        oldest_claimable_since=at(600),
        claimed_in_window=4,
        completed_in_window=1,
        completed_per_hour=0.5,
        expired_in_window=1,
        at=at(0),
    )
    reply.window.seconds = 7200
    reply.time_to_claim_p50.nanos = 4_000_000
    reply.time_to_claim_p95.seconds = 90
    return reply


def compare(name: str, what: Listing[Any] | Thing, form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    output.show(what, form)
    text = capsys.readouterr().out
    path = GOLDEN / f"{name}.{form.value}"
    if os.environ.get("GOLDEN_FILES") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"the output differs from {path.name}"


@pytest.mark.parametrize("form", [Format.TABLE, Format.WIDE, Format.JSON, Format.NAME])
def test_cards_are_listed_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    compare("cards", card_listing(every_kind(), at(0), next_cursor="abc"), form, capsys)


@pytest.mark.parametrize("form", [Format.TABLE, Format.JSON])
def test_a_card_is_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    compare("card", shown_card(shown()), form, capsys)


@pytest.mark.parametrize("form", [Format.TABLE, Format.JSON])
def test_a_claim_is_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    claim = pb.Claim(card=claimed(), fence=3, lease_until=at(-180), lease_left_ms=180_000)
    compare("claim", claim_thing(claim), form, capsys)


@pytest.mark.parametrize("form", [Format.TABLE, Format.JSON])
def test_stats_are_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    compare("stats", stats_thing(stats()), form, capsys)


def test_a_mismatch_is_shown_as_agreed(capsys: pytest.CaptureFixture[str]) -> None:
    reply = pb.VerifyBacklogReply(cards=8, edges=1)
    reply.mismatches.add(card_id="login", what="unmet", kept="1", found="0")
    compare("verify", verify_listing(reply), Format.JSON, capsys)
