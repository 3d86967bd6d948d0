"""Profiles: the five that ship, and what a person's own is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.errors import NotFound
from mosaic_framework.profile_model import org_chart
from mosaic_framework.profiles import ProfileInvalid, list_profiles, parse_profile, profile_problems, read_profile

# Each profile as the table has it: lead, floor, then the seats in order as "class[*count] superior".
TABLE = {
    "software-delivery": (
        "orchestrator",
        ["orchestrator", "enhancer"],
        [
            *("orchestrator -", "board orchestrator", "planner orchestrator", "decomposition planner"),
            *("code*2 decomposition", "review orchestrator", "security-review review", "site-tester review"),
            *("documentation orchestrator", "merge-gate orchestrator", "rebase merge-gate", "operator orchestrator"),
            *("session-review orchestrator", "enhancer orchestrator"),
        ],
    ),
    "personal-assistant": (
        "personal-assistant",
        ["personal-assistant"],
        [
            *("personal-assistant -", "executive-assistant personal-assistant", "scheduler executive-assistant"),
            *("inbox-manager personal-assistant", "researcher personal-assistant"),
        ],
    ),
    "research": (
        "lead-researcher",
        ["lead-researcher"],
        [
            *("lead-researcher -", "researcher*2 lead-researcher", "data-analyst lead-researcher"),
            *("data-scientist lead-researcher", "market-analyst lead-researcher", "documentation lead-researcher"),
            "review lead-researcher",
        ],
    ),
    "business": (
        "ceo",
        ["ceo"],
        [
            *("ceo -", "coo ceo", "cfo ceo", "product-manager coo", "marketing-lead coo", "sales-lead coo"),
            *("operations-manager coo", "customer-success-manager coo", "code product-manager"),
            "review product-manager",
        ],
    ),
    "marketing": (
        "marketing-lead",
        ["marketing-lead"],
        [
            *("marketing-lead -", "content-strategist marketing-lead", "copywriter content-strategist"),
            *("seo-specialist marketing-lead", "social-media-manager content-strategist"),
            *("brand-strategist marketing-lead", "growth-marketer marketing-lead", "ux-designer marketing-lead"),
        ],
    ),
}
SEATS = {"software-delivery": 15, "personal-assistant": 5, "research": 8, "business": 10, "marketing": 8}
SHIPPED = Catalog(shipped_data())
SMALL = """id: garden
title: Garden
description: A garden and who keeps it.
lead: worker
floor: [worker]
roster:
  - class: worker
  - class: code
    reports_to: worker
    multiplicity: 2
  - class: review
    reports_to: code
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(ProfileInvalid) as caught:
        parse_profile(text, source="garden.yaml", name="garden", catalog=SHIPPED)
    return [str(problem) for problem in caught.value.problems]


def test_exactly_the_five_profiles_ship_and_all_are_valid() -> None:
    assert sorted(TABLE) == [entry.id for entry in list_profiles(SHIPPED)]
    assert profile_problems(SHIPPED) == []


@pytest.mark.parametrize("profile_id", TABLE)
def test_a_profile_is_as_the_table_has_it(profile_id: str) -> None:
    profile = read_profile(SHIPPED, profile_id)
    drawn = [
        f"{seat.class_name}{f'*{seat.multiplicity}' if seat.multiplicity > 1 else ''} {seat.reports_to or '-'}"
        for seat in profile.roster
    ]
    assert (profile.lead, profile.floor, drawn) == TABLE[profile_id]
    assert profile.seat_count() == SEATS[profile_id]


def test_the_org_chart_is_drawn_as_a_tree() -> None:
    assert org_chart(read_profile(SHIPPED, "software-delivery")).splitlines() == [
        "orchestrator (lead, floor)",
        "├── board",
        "├── planner",
        "│   └── decomposition",
        "│       └── code \N{MULTIPLICATION SIGN}2",
        "├── review",
        "│   ├── security-review",
        "│   └── site-tester",
        "├── documentation",
        "├── merge-gate",
        "│   └── rebase",
        "├── operator",
        "├── session-review",
        "└── enhancer (floor)",
    ]


@pytest.mark.parametrize("profile_id", TABLE)
def test_the_org_chart_draws_every_class_once(profile_id: str) -> None:
    profile = read_profile(SHIPPED, profile_id)
    words = [line.lstrip("│├└─ ").split(" ")[0] for line in org_chart(profile).splitlines()]
    assert sorted(words) == sorted(seat.class_name for seat in profile.roster)


def test_a_profile_that_a_user_drops_in_works_with_a_contract_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "profiles.local").mkdir()
    (tmp_path / "profiles.local" / "garden.yaml").write_text(SMALL.replace("review", "gardener"))
    (tmp_path / "roles.local").mkdir()
    contract = (SHIPPED.folder("roles") / "worker.md").read_text().replace("class: worker", "class: gardener")
    (tmp_path / "roles.local" / "gardener.md").write_text(contract)
    catalog = Catalog(shipped_data(), tmp_path)
    assert [seat.class_name for seat in read_profile(catalog, "garden").roster] == ["worker", "code", "gardener"]
    assert {entry.id: entry.own for entry in list_profiles(catalog)} == dict.fromkeys(TABLE, False) | {"garden": True}
    assert profile_problems(catalog) == []


def test_a_users_own_profile_wins_over_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "profiles.local").mkdir()
    (tmp_path / "profiles.local" / "research.yaml").write_text(SMALL.replace("id: garden", "id: research"))
    assert read_profile(Catalog(shipped_data(), tmp_path), "research").lead == "worker"


def test_a_cycle_an_unknown_class_and_a_missing_lead_are_told_together() -> None:
    text = SMALL.replace("lead: worker", "lead: boss").replace("class: worker", "class: coed\n    reports_to: code")
    text = text.replace("reports_to: worker", "reports_to: review").replace("floor: [worker]", "floor: [code]")
    assert problems_of(text) == [
        "garden.yaml:4:1: lead: boss is not in the roster",
        "garden.yaml:7:5: roster[0].class: there is no contract for this class; the nearest: code",
        "garden.yaml:10:5: roster[1].reports_to: these report to one another in a circle: code → review → code",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("id: garden", "id: other", "garden.yaml:1:1: id: must be the file's name, garden"),
        ("title: Garden\n", "", "garden.yaml:1:1: title: a required key is missing"),
        ("lead:", "laed:", "garden.yaml:4:1: laed: unknown key (nearest: lead)"),
        ("floor: [worker]", "floor: []", "garden.yaml:5:1: floor: must not be empty"),
        ("floor: [worker]", "floor: [coed]", "garden.yaml:5:9: floor[0]: coed is not in the roster (nearest: code)"),
        ("floor: [worker]", "floor: worker", "garden.yaml:5:1: floor: must be a list"),
        ("multiplicity: 2", "multiplicity: 0", "garden.yaml:10:5: roster[1].multiplicity: must be 1 to 100"),
        ("multiplicity: 2", "multiplicity: two", "garden.yaml:10:5: roster[1].multiplicity: must be a whole number"),
        ("class: worker", "class: worker\n    multiplicity: 2", "roster[0].multiplicity: there can be only one lead"),
        ("class: worker", "class: worker\n    reports_to: code", "the lead reports to nobody in the roster"),
        (
            "    reports_to: worker\n",
            "",
            "garden.yaml:8:5: roster[1].reports_to: code reports to nobody; only the lead",
        ),
        ("reports_to: code", "reports_to: coed", "garden.yaml:12:5: roster[2].reports_to: coed is not in the roster"),
        ("reports_to: code", "reports_to: review", "these report to one another in a circle: review → review"),
        ("class: review", "class: code", "garden.yaml:11:5: roster[2].class: code stands twice, first in line 8"),
        ("class: review", "class: Review", "must be lower-case words joined by hyphens"),
        ("roster:", "roster: []\nrest:", "garden.yaml:6:1: roster: must not be empty"),
    ],
)
def test_each_fault_of_a_profile_is_told_at_its_line(old: str, new: str, expected: str) -> None:
    assert old in SMALL
    assert any(expected in line for line in problems_of(SMALL.replace(old, new, 1)))


def test_a_circle_below_the_lead_is_told_once() -> None:
    text = SMALL.replace("reports_to: worker", "reports_to: review")
    assert [line for line in problems_of(text) if "circle" in line] == [
        "garden.yaml:9:5: roster[1].reports_to: these report to one another in a circle: code → review → code"
    ]


@pytest.mark.parametrize("text", ["", "[]", "x", "a: b: c", "\0", "roster: x", "roster: [1, [2], {class: [3]}]", "{"])
def test_rubbish_is_told_as_problems(text: str) -> None:
    assert problems_of(text)


def test_a_contract_that_cannot_be_used_is_told_in_the_profile(tmp_path: Path) -> None:
    (tmp_path / "roles.local").mkdir()
    (tmp_path / "roles.local" / "coo.md").write_text("not a contract\n")
    (found,) = profile_problems(Catalog(shipped_data(), tmp_path))
    assert (found.key, found.message.split(":")[0]) == ("roster[1].class", "its contract cannot be used")


def test_a_profile_that_is_not_valid_stays_in_the_list_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "profiles.local").mkdir()
    (tmp_path / "profiles.local" / "garden.yaml").write_text("id: garden\n")
    entry = next(one for one in list_profiles(Catalog(shipped_data(), tmp_path)) if one.id == "garden")
    assert entry.profile is None
    assert "a required key is missing" in entry.problem


def test_an_unknown_profile_is_told_its_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        read_profile(SHIPPED, "reserch")
    assert caught.value.why == "the nearest: research"
