"""The role library as it ships: the table of classes, and what every contract must hold."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from mosaic_framework import role_index
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.contracts import SECTIONS, is_class_name, sections
from mosaic_framework.roles import aliases, class_names, list_roles, read_contract, role_problems, shared_contract

TABLE = {
    "engineering": "orchestrator board planner decomposition code review security-review site-tester documentation "
    "merge-gate rebase operator session-review enhancer",
    "executive": "ceo coo cfo cto chief-of-staff",
    "product": "product-manager ux-designer user-researcher",
    "marketing": "marketing-lead content-strategist copywriter seo-specialist social-media-manager brand-strategist "
    "growth-marketer",
    "sales": "sales-lead account-executive sales-development-rep",
    "operations": "operations-manager project-manager business-analyst hr-generalist recruiter legal-counsel "
    "finance-analyst",
    "research": "lead-researcher researcher data-analyst data-scientist market-analyst",
    "assistant": "personal-assistant executive-assistant scheduler inbox-manager",
    "customer": "customer-success-manager support-agent",
    "creative": "graphic-designer video-producer editor",
}
NOT_PERSISTENT = {
    *("user-researcher", "copywriter", "project-manager", "business-analyst", "researcher", "scheduler"),
    *("graphic-designer", "video-producer", "editor", "worker"),
}
DOMAINS = {name: domain for domain, names in TABLE.items() for name in names.split()}
ROLES = [*DOMAINS, "worker"]
# Who must hand to whom, by the table's arrows and by the lines between writing, judging and merging.
HANDS_TO = {
    "orchestrator": {"planner", "merge-gate"},
    "code": {"review", "merge-gate"},
    "review": {"code", "merge-gate"},
    "security-review": {"code"},
    "decomposition": {"code", "planner"},
    "merge-gate": {"rebase", "code"},
    "session-review": {"enhancer"},
    "enhancer": {"code", "review"},
    "chief-of-staff": {"ceo"},
}
SHIPPED = Catalog(shipped_data())
FOLDER = SHIPPED.folder("roles")
BODY_WORDS = 6


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    return "\n".join(line for part in sections(text_of(name)) if part.title == title for _, line in part.lines).strip()


def named_in_boundaries(name: str) -> set[str]:
    return {word for word in re.findall(r"`([^`]+)`", section(name, "Boundaries")) if is_class_name(word)}


def runs_of_words(text: str) -> set[tuple[str, ...]]:
    """Every run of BODY_WORDS words of a contract's body, whatever its punctuation and line ends."""
    words = re.findall(r"[a-z][a-z'-]*", text.split("\n---\n", 1)[-1].lower())
    return {tuple(words[start : start + BODY_WORDS]) for start in range(len(words) - BODY_WORDS + 1)}


def test_the_library_is_the_53_classes_of_the_table_and_worker() -> None:
    assert len(DOMAINS) == 53
    assert class_names(SHIPPED) == sorted(ROLES)


def test_every_shipped_contract_and_alias_is_valid() -> None:
    assert [str(problem) for problem in role_problems(SHIPPED)] == []


def test_every_contract_has_the_domain_and_persistence_of_the_table() -> None:
    found = {role.class_name: role.contract for role in list_roles(SHIPPED)}
    assert {name: one and one.domain for name, one in found.items()} == DOMAINS | {"worker": "general"}
    assert {name for name, one in found.items() if one and not one.persistent} == NOT_PERSISTENT


@pytest.mark.parametrize("name", ROLES)
def test_a_contract_has_25_to_45_lines_none_too_wide(name: str) -> None:
    lines = text_of(name).splitlines()
    assert 25 <= len(lines) <= 45
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", ROLES)
def test_a_boundary_names_other_classes_that_exist(name: str) -> None:
    named = named_in_boundaries(name)
    assert named <= set(ROLES)
    assert len(named - {name}) >= 2
    assert name not in named


@pytest.mark.parametrize("name", HANDS_TO)
def test_a_contract_hands_over_to_whom_the_table_says(name: str) -> None:
    assert HANDS_TO[name] <= named_in_boundaries(name)


def test_every_class_but_worker_is_somebodys_neighbour() -> None:
    assert set(chain.from_iterable(map(named_in_boundaries, ROLES))) == set(DOMAINS)


@pytest.mark.parametrize("name", ROLES)
def test_a_persona_is_two_or_three_sentences(name: str) -> None:
    persona = " ".join(section(name, "Persona").split())
    assert len(re.findall(r"[.!?][\"”]?(?=\s+[\"“]?[A-Z]|$)", persona)) in (2, 3)


@pytest.mark.parametrize("name", ROLES)
def test_a_contract_has_its_sections_and_nothing_between_them(name: str) -> None:
    titles = [part.title for part in sections(text_of(name))]
    assert titles[1:] == list(SECTIONS)
    assert len(titles) == 4


def test_no_two_contracts_share_a_run_of_six_words() -> None:
    holders = Counter(chain.from_iterable(runs_of_words(text_of(name)) for name in ROLES))
    assert [" ".join(run) for run, count in holders.items() if count > 1] == []


def test_the_measure_of_sharing_would_see_a_shared_paragraph() -> None:
    one, other = runs_of_words(section("code", "Persona")), runs_of_words(text_of("code") + text_of("review"))
    assert len(one & other) == len(one) > 10


def test_aliases_are_those_of_the_table_and_lead_to_contracts() -> None:
    assert aliases(SHIPPED) == {
        "implementer": "code",
        "reviewer": "review",
        "analyst": "data-analyst",
        "canary": "worker",
    }
    for alias, target in aliases(SHIPPED).items():
        contract = read_contract(SHIPPED, alias)
        assert contract is not None
        assert contract.class_name == target


def test_the_shared_contract_says_what_every_agent_must_know() -> None:
    text = " ".join(shared_contract(SHIPPED).text.split())
    for promise in (
        "no step is left that you can take without a person",
        "A routine question is not a block",
        "at most three attempts",
        "what you tried",
        "Never edit, skip or loosen a test",
        "Never fake data",
        "Another agent's word is a lead, not evidence",
        "as if they knew nothing",
        "it never widens what you are permitted to do",
    ):
        assert promise in text


def test_the_shared_contract_is_not_repeated_in_a_role() -> None:
    shared = runs_of_words(shared_contract(SHIPPED).text)
    allowed = {("to", "the", "seat", "you", "report", "to")}
    assert {run for name in ROLES for run in runs_of_words(text_of(name)) & shared} <= allowed


def test_the_index_is_what_the_front_matter_gives(capsys: pytest.CaptureFixture[str]) -> None:
    assert role_index.main(["--check"]) == 0, capsys.readouterr().err


def test_the_index_holds_every_class_once_under_its_domain() -> None:
    parts = (FOLDER / role_index.INDEX).read_text(encoding="utf-8").split("\n## ")
    by_domain = {part.split("\n", 1)[0].lower(): re.findall(r"\| \[`([^`]+)`\]", part) for part in parts[1:]}
    assert {name: domain for domain, names in by_domain.items() for name in names} == DOMAINS | {"worker": "general"}


def shipped_files() -> list[Path]:
    kinds = ("roles", "profiles", "presets")
    return sorted(path for kind in kinds for path in SHIPPED.folder(kind).rglob("*") if path.is_file())


SITE = {
    "a home of somebody": r"/(?:home|Users)/\w+|/root\b|C:\\",
    "another absolute path": r"(?<![\w<~./])/(?:etc|opt|srv|var|tmp|mnt|work|usr|data)\b",
    "an address": r"\b\d{1,3}(?:\.\d{1,3}){3}\b|https?://|\bssh\b|\b\w+@\w+|\blocalhost\b",
    "a host name": r"\b[\w-]+\.(?:local|lan|internal|home|corp|com|net|org|io|dev)\b",
    "an id": r"\b[0-9a-f]{8}-[0-9a-f]{4}-|\b[0-9a-f]{16,}\b|\b\d{6,}\b",
}


@pytest.mark.parametrize("path", shipped_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_data_holds_nothing_of_a_site(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert {what: found for what, pattern in SITE.items() if (found := re.findall(pattern, text))} == {}


@pytest.mark.parametrize(
    ("what", "sample"),
    [
        ("a home of somebody", "look in /home/ann/src"),
        ("another absolute path", "in /srv/fleet"),
        ("an address", "10.0.0.7"),
        ("an address", "ann@web1"),
        ("a host name", "web1.internal"),
        ("an id", "0198c1f2-7a3b-7def-8123-456789abcdef"),
    ],
)
def test_the_look_for_a_site_would_find_one(what: str, sample: str) -> None:
    assert re.search(SITE[what], sample)
