"""Edits of a roster's text: what is wanted is there, and everything that a person wrote besides still is."""

from __future__ import annotations

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import Conflict, NotFound
from mosaic_framework.floor import FloorBroken
from mosaic_framework.roster_edit import EditFailed, add_agent, edit_roster, remove_agents, same
from mosaic_framework.roster_file import RosterInvalid, parse_roster
from mosaic_framework.roster_model import Agent, Roster

CATALOG = Catalog(Catalog.open().shipped)
ROSTER = """\
# Our fleet. Ask Ada before changing it.
version: 1
transport: tmux   # there is no other

floor: [orchestrator]
tmux:
  socketName: mosaic-fleet  # ours alone

# --- the people ---
agents:
    # she leads
    - name: lead
      runtime: claude
      class: orchestrator

    # The first coder: cheap, quick.
    - runtime: pi
      name: coder0   # zero, not one
      # more of these later
      env:
          A: "1"     # keep me
          B: two
      kickstart_template: |
          Read README.

          # not a comment
    # The second coder.
    - {name: coder1, runtime: codex}   # a flow one
# the end
"""


def parsed(text: str) -> Roster:
    return parse_roster(text, source="roster.yaml", catalog=CATALOG).roster


def added(text: str, agent: Agent) -> str:
    return add_agent(text, agent, source="roster.yaml", catalog=CATALOG, canonical=lambda name: name)


def removed(text: str, *names: str) -> str:
    return remove_agents(text, list(names), source="roster.yaml", catalog=CATALOG, canonical=lambda name: name)


def edited(text: str, name: str, **changes: object) -> str:
    roster = parsed(text)
    agents = [one.model_copy(update=changes) if one.name == name else one for one in roster.agents]
    wanted = roster.model_copy(update={"agents": agents})
    return edit_roster(text, wanted, source="roster.yaml", catalog=CATALOG)


def test_an_added_agent_comes_last_and_no_other_byte_changes() -> None:
    agent = Agent(name="coder2", runtime="pi", kickstart_template="One.\nTwo.", env={"X": "1"})
    text = added(ROSTER, agent)
    head, tail = ROSTER.split("# the end")
    assert text.startswith(head)
    assert text.endswith("# the end" + tail)
    assert parsed(text).agents[-1] == agent
    assert "    - name: coder2\n      runtime: pi\n" in text


def test_a_removed_agent_takes_its_own_lines_and_no_comment_that_stands_outside_of_them() -> None:
    text = removed(ROSTER, "coder0")
    assert [agent.name for agent in parsed(text).agents] == ["lead", "coder1"]
    own = ROSTER[ROSTER.index("    - runtime: pi") : ROSTER.index("    # The second coder.")]
    assert text == ROSTER.replace(own, "")


def test_the_first_and_the_last_agent_can_be_removed_alike() -> None:
    assert "# she leads" in removed(ROSTER.replace("floor: [orchestrator]", "floor: []"), "lead")
    assert removed(ROSTER, "coder1").endswith("    # The second coder.\n# the end\n")


def test_a_changed_value_keeps_its_comment_its_place_and_its_spelling() -> None:
    roster = parsed(ROSTER)
    wanted = roster.model_copy(update={"tmux": roster.tmux.model_copy(update={"socket_name": "other"})})
    text = edit_roster(ROSTER, wanted, source="roster.yaml", catalog=CATALOG)
    assert text == ROSTER.replace("mosaic-fleet  # ours", "other  # ours")


def test_one_variable_of_an_environment_changes_alone() -> None:
    assert edited(ROSTER, "coder0", env={"A": "2", "B": "two"}) == ROSTER.replace('"1"     #', "'2'     #")
    assert edited(ROSTER, "coder0", env={"A": "1"}) == ROSTER.replace("          B: two\n", "")
    assert edited(ROSTER, "coder0", env={"A": "1", "B": "two", "C": "3"}) == ROSTER.replace(
        "          B: two\n", "          B: two\n          C: '3'\n"
    )


def test_a_key_is_put_where_another_one_goes_away() -> None:
    text = ROSTER.replace("floor: [orch", "runtimes:\n  pi: {}\n  codex: {}\n# why\nfloor: [orch")
    roster = parsed(text)
    wanted = roster.model_copy(update={"runtimes": {"pi": roster.runtimes["pi"], "claude": roster.runtimes["pi"]}})
    changed = edit_roster(text, wanted, source="roster.yaml", catalog=CATALOG)
    assert changed == text.replace("codex: {}", "claude: {}")


def test_a_value_that_stands_beside_the_dash_changes_in_its_place() -> None:
    assert edited(ROSTER, "coder0", runtime="codex") == ROSTER.replace("- runtime: pi", "- runtime: codex")


def test_a_key_is_added_to_and_taken_from_an_agent() -> None:
    assert "      class: orchestrator\n      host: elm\n" in edited(ROSTER, "lead", host="elm")
    shorter = edited(ROSTER, "coder0", kickstart_template=None)
    assert "not a comment" not in shorter
    assert "# The second coder." in shorter


def test_an_agent_in_flow_style_is_written_anew_and_its_neighbours_stay() -> None:
    text = edited(ROSTER, "coder1", host="elm")
    assert text.startswith(ROSTER[: ROSTER.index("    - {name: coder1")])
    assert parsed(text).agents[2].host == "elm"


def test_an_edit_that_changes_nothing_changes_no_byte() -> None:
    assert edited(ROSTER, "lead") == ROSTER


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\n...\n", "\n# end"])
def test_line_ends_are_those_of_the_file(newline: str, ending: str) -> None:
    text = f"version: 1\ntransport: tmux\nagents:\n- name: a\n  runtime: pi{ending}".replace("\n", newline)
    more = added(text, Agent(name="b", runtime="pi"))
    assert more.startswith(text.removesuffix(ending.replace("\n", newline)))
    assert more.count("\n") == more.count(newline)
    assert removed(more, "b").rstrip() == text.rstrip()


def test_a_roster_in_flow_style_is_edited_too() -> None:
    text = "# ours\nversion: 1\ntransport: tmux\nagents: [{name: a, runtime: pi}, {name: b, runtime: pi}]\n"
    assert parsed(removed(text, "a")).agents == [Agent(name="b", runtime="pi")]
    assert removed(text, "a").startswith("# ours\n")
    assert [agent.name for agent in parsed(added(text, Agent(name="c", runtime="pi"))).agents] == ["a", "b", "c"]


def test_a_roster_in_json_stays_json_in_its_own_spelling() -> None:
    text = (
        '{"version": 1, "transport": "tmux", "tmux": {"socketName": "x"}, "agents": [{"name": "a", "runtime": "pi"}]}'
    )
    changed = add_agent(
        text, Agent(name="b", runtime="pi"), source="roster.json", catalog=CATALOG, canonical=lambda name: name
    )
    assert '"socketName": "x"' in changed
    assert [agent.name for agent in parse_roster(changed, source="r.json", catalog=CATALOG).roster.agents] == ["a", "b"]


def test_what_would_not_be_valid_is_never_written() -> None:
    with pytest.raises(RosterInvalid):
        added(ROSTER, Agent(name="x", runtime="pie"))
    with pytest.raises(RosterInvalid):
        added(ROSTER, Agent(name="_holder", runtime="pi"))
    with pytest.raises(Conflict):
        added(ROSTER, Agent(name="lead", runtime="pi"))


def test_the_floor_and_unknown_names_stop_a_removal() -> None:
    with pytest.raises(FloorBroken) as caught:
        removed(ROSTER, "lead")
    assert "class orchestrator" in caught.value.what
    with pytest.raises(NotFound) as missing:
        removed(ROSTER, "coder")
    assert "coder0" in missing.value.why


def test_a_text_that_cannot_be_edited_safely_is_left_alone() -> None:
    text = (
        "version: 1\ntransport: tmux\nagents:\n- &a\n  name: a\n  runtime: pi\n  env: &e {X: '1'}\n"
        "- name: b\n  runtime: pi\n  env: *e\n"
    )
    with pytest.raises(EditFailed):
        edit_roster(text, changed_env(text), source="roster.yaml", catalog=CATALOG)


def changed_env(text: str) -> Roster:
    roster = parsed(text)
    first, second = roster.agents
    return roster.model_copy(update={"agents": [first.model_copy(update={"env": {"Y": "2"}}), second]})


def test_the_order_of_agents_is_the_files_own() -> None:
    roster = parsed(ROSTER)
    turned = roster.model_copy(update={"agents": roster.agents[::-1]})
    assert same(roster, turned)
    assert edit_roster(ROSTER, turned, source="roster.yaml", catalog=CATALOG) == ROSTER
