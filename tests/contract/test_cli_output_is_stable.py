"""The forms of `-o` are a contract: golden files hold them. Fields may be added; set GOLDEN_FILES=write to do so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mosaic_cli import output
from mosaic_cli.fleet_summary import summaries, summary_listing
from mosaic_cli.fleet_view import LS_COLUMNS, PS_COLUMNS, agent_listing, agent_rows, host_listing
from mosaic_cli.output import Format, Listing, Thing
from mosaic_cli.receipts import message_listing, receipt_thing
from mosaic_proto.v1 import common_pb2, fleet_pb2, messages_pb2

from tests.fakes.control_plane import FakeControlPlane, at

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def fleet(tmp_path: Path) -> FakeControlPlane:
    """Two hosts, one of them lost; agents in every condition a person should tell apart."""
    fake = FakeControlPlane(tmp_path)
    fake.add_host("build1", seats=5)
    fake.add_host("attic", "LOST", beat=7200, seats=1)
    fake.add_agent("coder0")
    fake.add_agent("coder1", "WORKING", alias="The second")
    fake.add_agent("asker", "WAITING", state_source="hook", state_detail="wants to run: make")
    fake.add_agent("ended", "EXITED", exit_status=3, pid=0, command="")
    fake.add_agent("broken", "UNKNOWN", problem="claude is not installed", pid=0, command="", state_source="")
    fake.add_agent("resting", "EXITED", desired_running=False, pid=0, command="")
    fake.add_agent("far", host="attic", reported_at=at(7200))
    return fake


def receipt() -> messages_pb2.Receipt:
    made = messages_pb2.Receipt(
        message_id="01900000-0000-7000-8000-000000000300",
        sender=common_pb2.Principal(kind=common_pb2.PRINCIPAL_KIND_OPERATOR, id="o1", name="anna", tenant="default"),
        recipient=common_pb2.Principal(
            kind=common_pb2.PRINCIPAL_KIND_AGENT, id="a1", name="coder0", host="build1", tenant="default"
        ),
        step=messages_pb2.MESSAGE_STEP_FAILED,
        reason="the seat has exited",
        created_at=at(60),
        deadline_at=at(-86340),
        seat_seq=7,
        strongest_step_is_submitted=True,
    )
    evidence = messages_pb2.Evidence(source="journal", detail="written as event 12")
    made.steps.add(step=messages_pb2.MESSAGE_STEP_QUEUED, at=at(60))
    made.steps.add(step=messages_pb2.MESSAGE_STEP_DISPATCHED, at=at(59.958), evidence=evidence)
    made.steps.add(step=messages_pb2.MESSAGE_STEP_FAILED, at=at(58), reason="the seat has exited")
    return made


def agents(fake: FakeControlPlane, columns: Any, *, whole: bool = False) -> Listing[Any]:
    cluster = "north" if whole else ""
    rows = agent_rows(fake.agents.values(), fake.hosts.values(), at(0), cluster=cluster, unmanaged=whole)
    return agent_listing(rows, at(0), columns=columns)


@pytest.fixture
def joined(fleet: FakeControlPlane) -> FakeControlPlane:
    """The same fleet, with drift, idle times, cards, labels, and sessions that are nobody's seat."""
    fleet.add_agent("strayed", runtime="pi", running_runtime="claude", command="claude", output_at=at(3700))
    fleet.add_agent("other-model", runtime="pi", model="gemini", running_runtime="pi", running_model="opus")
    fleet.add_agent(
        "busy", "WORKING", runtime="claude", model="opus", running_runtime="claude", running_model="opus",
        output_at=at(1), card="MF-12", labels={"team": "red"}, supervision="systemd", unit="mosaic-agent@busy.service",
        enabled=True,
    )  # fmt: skip
    fleet.add_agent("by-hand", supervision="systemd", unit="mosaic-agent@by-hand.service")
    fleet.add_agent("built-in", supervision="built-in")
    fleet.hosts["build1"].unmanaged.add(name="scratch", pid=777, command="vim", created_at=at(600))
    fleet.hosts["attic"].unmanaged.add(socket_name="fleet", name="old", pid=778, command="htop", created_at=at(9000))
    return fleet


def shown(what: Listing[Any] | Thing, form: Format, capsys: pytest.CaptureFixture[str]) -> str:
    output.show(what, form)
    return capsys.readouterr().out


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN_FILES") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"the output differs from {path.name}"


@pytest.mark.parametrize("form", list(Format))
def test_agents_are_shown_as_agreed(
    fleet: FakeControlPlane, form: Format, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    compare(f"agents.{form.value}", shown(agents(fleet, LS_COLUMNS), form, capsys))


@pytest.mark.parametrize("form", [Format.TABLE, Format.WIDE, Format.JSON])
def test_fleet_ps_is_shown_as_agreed(
    joined: FakeControlPlane, form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(f"ps.{form.value}", shown(agents(joined, PS_COLUMNS, whole=True), form, capsys))


@pytest.mark.parametrize("form", [Format.TABLE, Format.JSON])
def test_fleet_status_is_shown_as_agreed(
    joined: FakeControlPlane, form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = agent_rows(joined.agents.values(), joined.hosts.values(), at(0))
    found = summaries(joined.hosts.values(), rows, at(0))
    compare(f"fleet-status.{form.value}", shown(summary_listing(found, at(0)), form, capsys))


def test_drift_and_sessions_of_nobodys_come_after_who_needs_a_person_and_before_the_healthy(
    joined: FakeControlPlane,
) -> None:
    listing = agents(joined, PS_COLUMNS, whole=True)
    assert [row.agent.name for row in listing.rows] == [
        "ended", "asker", "broken", "far", "old", "other-model", "strayed", "by-hand", "scratch", "built-in",
        "busy", "coder0", "coder1", "resting",
    ]  # fmt: skip


@pytest.mark.parametrize("form", [Format.TABLE, Format.WIDE, Format.JSON])
def test_hosts_are_shown_as_agreed(fleet: FakeControlPlane, form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    compare(f"hosts.{form.value}", shown(host_listing(list(fleet.hosts.values()), at(0)), form, capsys))


@pytest.mark.parametrize("form", [Format.TABLE, Format.JSON])
def test_messages_are_shown_as_agreed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    compare(f"messages.{form.value}", shown(message_listing([receipt()], at(0)), form, capsys))


def test_a_receipt_is_shown_as_agreed(capsys: pytest.CaptureFixture[str]) -> None:
    compare("receipt.json", shown(receipt_thing(receipt()), Format.JSON, capsys))


def test_json_and_yaml_say_the_same(fleet: FakeControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    from ruamel.yaml import YAML

    as_json = json.loads(shown(agents(fleet, LS_COLUMNS), Format.JSON, capsys))
    as_yaml = YAML(typ="safe").load(shown(agents(fleet, LS_COLUMNS), Format.YAML, capsys))
    assert json.loads(json.dumps(as_yaml, default=str)) == as_json


def test_what_needs_a_person_comes_first_and_what_rests_last(fleet: FakeControlPlane) -> None:
    names = [row.agent.name for row in agent_rows(fleet.agents.values(), fleet.hosts.values(), at(0))]
    assert names == ["ended", "asker", "broken", "far", "coder0", "coder1", "resting"]


def test_there_is_no_colour_off_a_terminal(fleet: FakeControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in shown(agents(fleet, PS_COLUMNS), Format.TABLE, capsys)


def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.colours(Terminal())  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.colours(Terminal())  # type: ignore[arg-type]


def test_a_lost_hosts_rows_are_grey_and_dated(fleet: FakeControlPlane) -> None:
    text = output.render_table(agents(fleet, PS_COLUMNS), colour=True)
    row = next(line for line in text.splitlines() if " far " in line)
    assert row.startswith("\x1b[2m")
    assert "available (lost)" in row
    assert " 2h00m " in row


def test_what_an_agent_wrote_cannot_drive_the_terminal(fleet: FakeControlPlane) -> None:
    fleet.agents.clear()
    fleet.add_agent("evil", command="x\x1b]0;title\x07\ny", state_detail="\x1b[2J")
    text = output.render_table(agents(fleet, PS_COLUMNS), wide=True)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert len(text.splitlines()) == 2


def test_a_table_is_cut_to_the_terminal_and_only_there(fleet: FakeControlPlane) -> None:
    assert max(len(line) for line in output.render_table(agents(fleet, PS_COLUMNS), limit=60).splitlines()) == 60
    assert max(len(line) for line in output.render_table(agents(fleet, PS_COLUMNS)).splitlines()) > 60


def test_every_state_of_the_wire_has_a_word() -> None:
    from mosaic_cli.documents import word

    assert {word(fleet_pb2.AgentState, value) for value in fleet_pb2.AgentState.values()} == {
        "unknown", "starting", "working", "available", "waiting", "stuck", "exited", "stale", "lost",
    }  # fmt: skip
    assert word(fleet_pb2.AgentState, 99) == "unknown"
