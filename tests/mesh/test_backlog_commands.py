"""`mosaic backlog` on a real mesh: scripts of an operator, and agents from inside their panes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from mosaic_framework.ids import new_id

from tests.support.mesh import Mesh
from tests.support.pane import Done, Environment, inside, mosaic, persons

CARDS = """
- {id: schema, title: the schema, priority: 2}
- {id: page, title: the page, depends_on: [schema]}
- {id: guide, title: the guide, labels: [docs]}
"""


def with_cards(environment: Environment, folder: Path, content: str = CARDS) -> Done:
    (folder / "cards.yaml").write_text(content)
    return mosaic(environment, "backlog", "create", "--from", str(folder / "cards.yaml"), "-o", "json")


async def seats(mesh: Mesh, **classes: str) -> None:
    await mesh.join("alpha")
    await mesh.apply(dict.fromkeys(classes, "alpha"), classes=classes)
    await mesh.until_available(*classes)


async def test_a_script_that_lost_its_reply_gets_the_same_claim_and_another_worker_another_card(
    mesh: Mesh, tmp_path: Path
) -> None:
    anna = persons(mesh, tmp_path / "anna")
    assert with_cards(anna, tmp_path).code == 0
    request, one, two = str(new_id()), str(new_id()), str(new_id())
    first = mosaic(anna, "backlog", "claim", "--claimant", one, "--request-id", request, "-o", "json")
    again = mosaic(anna, "backlog", "claim", "--claimant", one, "--request-id", request, "-o", "json")
    other = mosaic(anna, "backlog", "claim", "--claimant", two, "-o", "json")
    assert (first.json["card"]["id"], other.json["card"]["id"]) == ("schema", "guide"), (first, other)
    assert again.json["card"]["id"] == "schema"
    assert again.json["fence"] == first.json["fence"]
    nothing = mosaic(anna, "backlog", "claim", "--claimant", two)
    assert (nothing.code, nothing.error_code) == (3, "nothing-to-claim"), nothing


async def test_whoever_lost_a_card_is_refused_and_told_who_holds_it(mesh: Mesh, tmp_path: Path) -> None:
    anna = persons(mesh, tmp_path / "anna")
    with_cards(anna, tmp_path)
    slow, quick = str(new_id()), str(new_id())
    lost = mosaic(anna, "backlog", "claim", "schema", "--claimant", slow, "-o", "json").json["fence"]
    assert mosaic(anna, "backlog", "reclaim", "schema", "--yes", "--reason", "too slow").code == 0
    assert mosaic(anna, "backlog", "claim", "schema", "--claimant", quick).code == 0
    late = mosaic(anna, "backlog", "complete", "schema", "--claimant", slow, "--fence", str(lost))
    assert late.code == 6, late
    assert "anna" in late.err
    shown = mosaic(anna, "backlog", "show", "schema", "-o", "json").json
    assert shown["status"] == "claimed"
    assert [event["kind"] for event in shown["history"]] == ["created", "claimed", "reclaimed", "claimed"]


async def test_every_problem_of_a_file_is_told_at_its_line_and_nothing_is_created(mesh: Mesh, tmp_path: Path) -> None:
    anna = persons(mesh, tmp_path / "anna")
    circle = "- {id: a, title: one, depends_on: [b]}\n- {id: b, title: two, depends_on: [a, nowhere]}\n"
    refused = with_cards(anna, tmp_path, circle + "- {id: 'c d', title: x}\n")
    assert refused.code == 1, refused
    told = json.loads(refused.err)["details"]
    assert any(":3:" in text and "card id" in text for text in told.values()), told
    assert any("a → b → a" in text for text in told.values()), told
    assert any(":2:" in text and "no card 'nowhere'" in text for text in told.values()), told
    unread = "- {id: a, title: one, depends_on: [later]}\n- {id: a, title: two}\n- {id: later, title: '', nope: 1}\n"
    told = json.loads(with_cards(anna, tmp_path, unread).err)["details"]
    found = [text for key, text in told.items() if key.startswith("problem.")]
    assert [any(word in text for text in found) for word in (":2:", "nope", "empty", "no card 'later'")] == [
        True,
        True,
        True,
        False,
    ], told
    assert mosaic(anna, "backlog", "ls", "--all", "-o", "json").json["items"] == []


async def test_an_agent_works_on_cards_from_its_pane_and_the_card_it_holds_is_the_default(
    mesh: Mesh, tmp_path: Path
) -> None:
    anna = persons(mesh, tmp_path / "anna")
    with_cards(anna, tmp_path)
    (tmp_path / "cards.jsonl").write_text(mosaic(anna, "backlog", "export").out)
    await seats(mesh, coder0="code", coder1="code")
    coder, other = await inside(mesh, "coder0"), await inside(mesh, "coder1")
    claim = mosaic(coder, "backlog", "claim", "-o", "json")
    assert claim.json["card"]["id"] == "schema", claim
    assert claim.json["card"]["holder"]["who"]["name"] == "coder0"
    assert mosaic(coder, "backlog", "show", "-o", "json").json["id"] == "schema"
    denied = mosaic(other, "backlog", "complete", "schema")
    assert denied.code in (4, 6), denied
    done = mosaic(coder, "backlog", "complete", "--result", "it is in", "--spent-tokens", "1000", "-o", "json")
    assert (done.json["status"], done.json["spent"]["tokens"]) == ("done", 1000), done
    assert mosaic(coder, "backlog", "claim", "page", "-o", "json").json["card"]["id"] == "page"
    assert mosaic(coder, "backlog", "create", "of my own").code == 4
    for forbidden in (("import", "-f", str(tmp_path / "cards.jsonl")), ("export",)):
        refused = mosaic(coder, "backlog", *forbidden)
        assert (refused.code, refused.error_code) == (4, "denied"), refused
        assert "may not" in refused.err, refused


async def test_what_would_be_cancelled_or_reclaimed_is_shown_and_not_done(mesh: Mesh, tmp_path: Path) -> None:
    anna = persons(mesh, tmp_path / "anna")
    with_cards(anna, tmp_path)
    assert mosaic(anna, "backlog", "claim", "schema").code == 0
    cancelled = mosaic(anna, "backlog", "cancel", "schema", "--dry-run")
    assert (cancelled.code, "schema" in cancelled.out, "page would wait" in cancelled.err) == (0, True, True), cancelled
    for chosen in (["schema", "guide"], ["--agent", "anna"]):
        taken = mosaic(anna, "backlog", "reclaim", *chosen, "--dry-run", "-o", "name")
        assert (taken.code, taken.out.split()) == (0, ["schema"]), taken
    assert mosaic(anna, "backlog", "reclaim", "--expired", "--dry-run", "-o", "name").out == ""
    assert mosaic(anna, "backlog", "show", "schema", "-o", "json").json["status"] == "claimed"


async def test_the_card_of_an_agent_that_is_gone_comes_back(mesh: Mesh, tmp_path: Path) -> None:
    anna = persons(mesh, tmp_path / "anna")
    with_cards(anna, tmp_path)
    await seats(mesh, coder="code")
    assert mosaic(await inside(mesh, "coder"), "backlog", "claim", "--lease", "1s").code == 0
    host = mesh.hosts["alpha"]
    host.program.kill()  # nobody vouches for the run any more
    async with asyncio.timeout(30):
        while (card := mosaic(anna, "backlog", "show", "schema", "-o", "json").json)["status"] != "ready":
            await asyncio.sleep(0.2)
    assert (card["expired"], card["attempts"]) == (True, 1)
    assert mosaic(anna, "backlog", "verify").code == 0


async def test_what_is_exported_goes_back_in_equal_and_only_once(mesh: Mesh, tmp_path: Path) -> None:
    anna = persons(mesh, tmp_path / "anna")
    with_cards(anna, tmp_path)
    mosaic(anna, "backlog", "claim")
    mosaic(anna, "backlog", "complete")
    exported = tmp_path / "backlog.jsonl"
    assert mosaic(anna, "backlog", "export", "-f", str(exported)).code == 0
    assert mosaic(anna, "backlog", "export", "-f", str(exported)).code == 6
    back = mosaic(anna, "backlog", "import", "-f", str(exported), "-o", "json")
    assert (back.json["imported"], back.json["existed"]) == (0, 3), back
    assert mosaic(anna, "backlog", "export").out == exported.read_text()


async def test_nothing_is_claimed_while_the_fleet_is_paused_and_everyone_is_told(mesh: Mesh, tmp_path: Path) -> None:
    anna = persons(mesh, tmp_path / "anna")
    with_cards(anna, tmp_path)
    assert mosaic(anna, "fleet", "pause", "-m", "release day").code == 0
    paused = mosaic(anna, "backlog", "claim")
    assert paused.code == 3
    assert "paused" in paused.err
    assert "paused" in mosaic(anna, "backlog", "ls").err
    assert mosaic(anna, "fleet", "resume").code == 0
    assert mosaic(anna, "backlog", "claim").code == 0


async def test_an_agent_that_is_reset_between_tasks_takes_no_card_before_that(mesh: Mesh, tmp_path: Path) -> None:
    anna = persons(mesh, tmp_path / "anna")
    with_cards(anna, tmp_path)
    host = await mesh.join("alpha")
    await mesh.apply({"coder": "alpha"}, classes={"coder": "code"}, more="reset_between_tasks: true")
    await mesh.until_available("coder")
    pane = await inside(mesh, "coder")
    first = (await mesh.agents())["coder"].run_id
    host.tmux("send-keys", "-t", "=coder:", "sleep 6", "Enter")  # its turn goes on
    assert mosaic(pane, "backlog", "claim", "-o", "json").json["card"]["id"] == "schema"
    assert mosaic(pane, "backlog", "complete").code == 0
    early = mosaic(pane, "backlog", "claim")
    assert early.code == 6, early
    assert "is reset before it takes another card" in early.err
    await mesh.until_agent("coder", lambda agent: agent.run_id > first and agent.pid > 0)
    await mesh.until_available("coder")
    again = mosaic(await inside(mesh, "coder"), "backlog", "claim", "-o", "json")
    assert again.json["card"]["id"] in ("page", "guide"), again
    assert await mesh.register_value("select end_reason from fleet.run where run_id = $1::text::uuid", first) == "reset"
