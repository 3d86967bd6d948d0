"""What an agent boots with: composed of what was applied, in one order, and the same wherever it is composed."""

from __future__ import annotations

import re

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.comms import PEERS_TOLD, comms_block
from mosaic_framework.manifest import Manifest
from mosaic_framework.runtimes import read_manifest
from mosaic_framework.seeding import compose, peer_of
from mosaic_hostagent.seats import Seat
from mosaic_proto.v1 import fleet_pb2, host_link_pb2
from mosaic_proto.v1.seeding_pb2 import Briefing, BriefingText, Peer


def manifest(name: str = "claude") -> Manifest:
    return read_manifest(Catalog(Catalog.open().shipped), name)


def peer(place: str, class_: str = "worker", **fields: str) -> Peer:
    host, _, name = place.partition("/")
    return Peer(host=host, name=name, **{"class": class_, **fields})


def spec(**fields: object) -> fleet_pb2.SeatSpec:
    content = {"name": "coder0", "host": "web1", "class": "code", "runtime": "claude", "reports_to": "lead", **fields}
    return fleet_pb2.SeatSpec(**content)  # type: ignore[arg-type]


ME = peer("web1/coder0", "code", reports_to="lead")
LEAD = peer("web2/lead", "orchestrator", alias="Ada", summary="Moves the fleet.")
REVIEW = peer("web1/reviewer", "review", reports_to="lead")
BRIEFING = Briefing(
    texts=[
        BriefingText(name=name, text=f"The {name} text.\n", digest=name) for name in ("mission", "user", "contract")
    ],
    peers=[LEAD, ME, REVIEW],
)


def test_a_seed_has_its_parts_in_one_order_and_leaves_out_what_there_is_not() -> None:
    seed = compose(spec(contract="# Code\n", persistent_persona="A poet.", runtime_notes="Note."), BRIEFING, manifest())
    assert [part.name for part in seed.parts] == ["role", "persona", "contract", "runtime", "user", "mission", "comms"]
    bare = compose(spec(persistent_persona="true"), Briefing(), manifest())
    assert [part.name for part in bare.parts] == ["comms"]


def test_a_seed_carries_every_text_word_for_word() -> None:
    text = compose(spec(contract="# Code\n\nOne card.\n", persistent_persona="A poet."), BRIEFING, manifest()).text
    for words in ("# Code\n\nOne card.\n", "A poet.", "The contract text.", "The user text.", "The mission text."):
        assert words in text


def test_the_same_that_was_applied_makes_the_same_seed() -> None:
    one, other = (compose(spec(contract="c"), BRIEFING, manifest()) for _ in range(2))
    assert (one.text, one.digest) == (other.text, other.digest)
    assert compose(spec(contract="d"), BRIEFING, manifest()).digest != one.digest


def test_a_shell_is_given_nothing() -> None:
    assert compose(spec(contract="c"), BRIEFING, manifest("shell")).text == ""


def test_the_comms_block_names_the_agents_address_and_a_command_for_every_peer() -> None:
    block = comms_block(ME, BRIEFING.peers, manifest())
    assert "You are the agent `web1/coder0`" in block
    assert re.findall(r"`mosaic agent send (\S+) -m 'TEXT'`", block) == ["web2/lead", "web1/reviewer"]
    assert "You report to `web2/lead`." in block
    assert "(Ada), orchestrator: Moves the fleet." in block


def test_the_comms_block_says_how_to_answer_whom_to_trust_and_how_to_take_work() -> None:
    block = comms_block(ME, BRIEFING.peers, manifest())
    for words in (
        "[FROM → web1/coder0 #ID] the text",
        "mosaic agent send FROM --reply-to ID",
        "[end of message]",
        "`cluster/host/agent` belongs to another organisation",
        "`mosaic backlog claim`",
        "`mosaic backlog complete CARD`",
        "mosaic fleet comms-block web1/coder0",
    ):
        assert words in block


def test_only_an_agent_whose_program_marks_pasted_text_is_told_of_the_mark() -> None:
    assert "<pasted_content>" in comms_block(ME, [], manifest("claude"))
    assert "<pasted_content>" not in comms_block(ME, [], manifest("codex"))


def test_an_agent_that_forgets_between_tasks_is_told_so() -> None:
    assert "emptied between tasks" in comms_block(ME, [], manifest(), resets=True)
    assert "emptied between tasks" not in comms_block(ME, [], manifest())


def test_whom_an_agent_reports_to_may_be_a_class_and_may_be_gone() -> None:
    assert "report to `web2/lead`" in comms_block(peer("a/x", reports_to="orchestrator"), [LEAD], manifest())
    assert "does not have now" in comms_block(peer("a/x", reports_to="cto"), [LEAD], manifest())
    assert "To you report `web1/coder0`" in comms_block(LEAD, [ME], manifest())


def test_of_very_many_peers_those_that_matter_are_listed_and_the_rest_is_counted() -> None:
    crowd = [peer(f"host{number % 50}/agent{number}") for number in range(1000)]
    block = comms_block(ME, [*crowd, LEAD], manifest())
    assert block.count("mosaic agent send host") < PEERS_TOLD
    assert "agent send web2/lead" in block
    assert f"and {1001 - PEERS_TOLD} more" in block
    assert comms_block(ME, crowd, manifest(), most=None).count("`mosaic agent send host") == 1000


@pytest.mark.parametrize("name", ["claude", "codex", "pi", "opencode"])
def test_a_peer_is_what_the_roster_says_of_a_seat(name: str) -> None:
    made = peer_of(spec(runtime=name, alias="A", role_summary="Does."), host="h")
    assert (made.host, made.name, made.runtime, made.alias, made.summary) == ("h", "coder0", name, "A", "Does.")


def digest(briefing: Briefing, *, runtime: str = "claude", **fields: object) -> str:
    seat = host_link_pb2.DesiredSeat(agent_id="a", spec=spec(manifest_json=manifest(runtime).as_json(), **fields))
    return Seat.from_wire(seat, briefing).launch_digest


def test_a_peer_that_comes_or_goes_is_no_drift_and_another_text_is() -> None:
    same = digest(BRIEFING)
    assert digest(Briefing(texts=BRIEFING.texts)) == same
    assert digest(BRIEFING, reports_to="other", alias="B", role_summary="x", persistent_persona="true") == same
    assert digest(Briefing(texts=BRIEFING.texts[:1])) != same
    assert digest(BRIEFING, contract="other") != same
    assert digest(BRIEFING, persistent_persona="A poet.") != same


def test_no_text_is_a_drift_of_a_program_that_is_given_none() -> None:
    assert digest(BRIEFING, runtime="shell", contract="a") == digest(Briefing(), runtime="shell", contract="b")
    assert digest(BRIEFING, runtime="shell", model="m") != digest(BRIEFING, runtime="shell")
