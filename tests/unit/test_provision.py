"""Provisioning: a profile becomes a roster by the six rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import FleetError, NotFound
from mosaic_framework.paths import Home
from mosaic_framework.profile_model import Profile
from mosaic_framework.provision import (
    PolicyInvalid,
    ProvisionImpossible,
    RuntimeChoice,
    RuntimePolicy,
    load_policy,
    make_roster,
    provision,
    topology,
)
from mosaic_framework.roster_file import RosterInvalid, dump_roster, parse_roster
from mosaic_framework.roster_model import Agent, Roster

PROFILES = ["business", "marketing", "personal-assistant", "research", "software-delivery"]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(Catalog.open().shipped, tmp_path)


def test_software_delivery_has_its_fifteen_seats_in_profile_order(catalog: Catalog) -> None:
    roster = provision("software-delivery", catalog=catalog, full=True)
    told = (
        "orchestrator board planner decomposition code0 code1 review security-review site-tester documentation "
        "merge-gate rebase operator session-review enhancer"
    )
    assert [agent.name for agent in roster.agents] == told.split()


def test_only_the_floor_is_seated_unless_every_seat_is_asked_for(catalog: Catalog) -> None:
    roster = provision("software-delivery", catalog=catalog)
    assert [agent.name for agent in roster.agents] == ["orchestrator", "enhancer"]
    assert [(agent.name, agent.reports_to) for agent in roster.agents][1] == ("enhancer", "orchestrator")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("full", [False, True])
def test_every_shipped_profile_makes_a_roster_that_loads_back_equal(catalog: Catalog, profile: str, full: bool) -> None:
    roster = provision(profile, catalog=catalog, full=full)
    read = parse_roster(dump_roster(roster), source="roster.yaml", catalog=catalog)
    assert read.roster == roster
    assert read.warnings == []


def test_floor_and_lead_keep_their_persona_and_every_other_seat_is_reset(catalog: Catalog) -> None:
    roster = provision("software-delivery", catalog=catalog, full=True)
    lasting = {agent.name for agent in roster.agents if agent.persistent_persona is True}
    assert lasting == {"orchestrator", "enhancer"}
    assert {agent.name for agent in roster.agents if agent.reset_between_tasks} == {
        agent.name for agent in roster.agents
    } - lasting


def test_the_scaffold_the_profile_and_the_floor_are_written(catalog: Catalog) -> None:
    text = dump_roster(provision("research", catalog=catalog))
    for line in (
        "profile: research",
        "  socket_name: mosaic-fleet",
        "  holder_session: _holder",
        "  working_directory: '~'",
        "    reset_command: /clear",
        "    reset_command: /new",
        "  - lead-researcher",
    ):
        assert line in text


def test_a_class_runs_on_what_the_policy_says_and_else_on_claude(catalog: Catalog) -> None:
    policy = RuntimePolicy(classes={"code": RuntimeChoice(runtime="pi", model_hint="x/y")})
    roster = provision("software-delivery", catalog=catalog, full=True, policy=policy, unattended=True)
    found = {agent.name: (agent.runtime, agent.model_hint) for agent in roster.agents}
    assert found["code0"] == found["code1"] == ("pi", "x/y")
    assert found["review"] == ("claude", None)
    assert all(agent.unattended for agent in roster.agents)


def test_the_policy_is_read_from_the_home_and_told_where_it_is_wrong(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert load_policy(home) == RuntimePolicy()
    home.fleet.mkdir()
    file = home.fleet / "runtime-policy.yaml"
    file.write_text("classes:\n  code: {runtime: pi, modelHint: x/y}\n")
    assert load_policy(home).choose("code") == RuntimeChoice(runtime="pi", model_hint="x/y")
    assert load_policy(home).choose("review").runtime == "claude"
    file.write_text("classes:\n  code: {runtme: pi}\n")
    with pytest.raises(PolicyInvalid) as caught:
        load_policy(home)
    assert {(problem.line, problem.nearest) for problem in caught.value.problems} == {(2, ""), (2, "runtime")}


def test_a_seat_whose_superior_is_not_seated_reports_to_the_next_one_up() -> None:
    profile = Profile.model_validate(
        {
            "id": "x",
            "title": "X",
            "description": "x",
            "lead": "ceo",
            "floor": ["ceo", "code"],
            "roster": [
                {"class": "ceo"},
                {"class": "coo"},
                {"class": "code", "reports_to": "coo", "multiplicity": 2},
            ],
        }
    )
    few = make_roster(profile, policy=RuntimePolicy())
    assert [(agent.name, agent.reports_to) for agent in few.agents] == [
        ("ceo", None),
        ("code0", "ceo"),
        ("code1", "ceo"),
    ]
    every = make_roster(profile, policy=RuntimePolicy(), full=True)
    assert [agent.reports_to for agent in every.agents] == [None, "ceo", "coo", "coo"]


def test_seats_that_would_share_a_name_are_refused() -> None:
    profile = Profile.model_validate(
        {
            "id": "x",
            "title": "X",
            "description": "x",
            "lead": "code",
            "floor": ["code"],
            "roster": [{"class": "code", "multiplicity": 2}, {"class": "code0"}],
        }
    )
    with pytest.raises(ProvisionImpossible, match="called code0"):
        make_roster(profile, policy=RuntimePolicy(), full=True)


def test_an_unknown_profile_or_runtime_is_told(catalog: Catalog) -> None:
    with pytest.raises(NotFound) as caught:
        provision("reserch", catalog=catalog)
    assert caught.value.why == "the nearest: research"
    with pytest.raises(RosterInvalid):
        provision("research", catalog=catalog, policy=RuntimePolicy(default=RuntimeChoice(runtime="claud")))


def test_a_seat_whose_contract_cannot_be_read_is_a_loud_error(catalog: Catalog) -> None:
    assert catalog.own is not None
    (catalog.own / "roles.local").mkdir()
    (catalog.own / "roles.local" / "review.md").write_bytes(b"\xff\xfe")
    with pytest.raises(FleetError) as caught:
        provision("software-delivery", catalog=catalog, full=True)
    assert "review" in f"{caught.value.what} {caught.value.why}"


def test_a_profile_that_a_user_drops_in_works(catalog: Catalog) -> None:
    assert catalog.own is not None
    (catalog.own / "profiles.local").mkdir()
    head = "id: duo\ntitle: Duo\ndescription: Two.\nlead: ceo\nfloor: [ceo]\n"
    text = f"{head}roster: [{{class: ceo}}, {{class: cto, reports_to: ceo}}]\n"
    (catalog.own / "profiles.local" / "duo.yaml").write_text(text)
    assert topology(provision("duo", catalog=catalog, full=True)) == ["ceo · claude", "└── cto · claude"]


def test_the_topology_draws_every_agent_once_even_of_a_ring() -> None:
    def agent(name: str, to: str | None) -> Agent:
        return Agent(name=name, runtime="pi", class_=name, reports_to=to)

    rows = [agent("a", None), agent("b", "a"), agent("c", "b"), agent("d", "a"), agent("x", "y"), agent("y", "x")]
    roster = Roster(version=1, transport="tmux", agents=rows)
    assert topology(roster) == [
        "a · pi",
        "├── b · pi",
        "│   └── c · pi",
        "└── d · pi",
        "x · pi",
        "└── y · pi",
    ]
