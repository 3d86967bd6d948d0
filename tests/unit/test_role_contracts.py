"""Contracts that people write: what a bad one is told, and how theirs stand beside the shipped ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.contracts import ContractInvalid, contract_problems, digest_of, parse_contract
from mosaic_framework.errors import NotFound
from mosaic_framework.overrides import (
    OverrideExists,
    begin_override,
    compare_override,
    end_override,
    override_path,
    rebase_override,
)
from mosaic_framework.roles import (
    AliasesInvalid,
    aliases,
    class_names,
    get_contract,
    list_roles,
    read_contract,
    read_shipped_contract,
    role_problems,
    shared_contract,
)

GOOD = """---
class: gardener
domain: grounds
persistent: true
summary: Keeps the garden.
---

# Gardener

## Mandate

1. Water.
2. Weed.
3. Prune.

## Boundaries

- The gate is kept by `porter`; see `garden ls --all` for the beds.

## Persona

Patient. Muddy.
"""
KNOWN = ["gardener", "porter"]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A small library of two shipped classes, and an own layer that does not exist yet."""
    roles = tmp_path / "shipped" / "roles"
    roles.mkdir(parents=True)
    (roles / "gardener.md").write_text(GOOD)
    (roles / "porter.md").write_text(GOOD.replace("class: gardener", "class: porter").replace("`porter`", "`gardener`"))
    (roles / "CONTRACT.md").write_text("# Shared\n")
    (roles / "LIBRARY.md").write_text("# Index\n")
    (roles / "aliases.yaml").write_text("digger: gardener\n")
    return Catalog(tmp_path / "shipped", tmp_path / "own")


def own(catalog: Catalog, name: str, text: str) -> Path:
    path = override_path(catalog, "x").with_name(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def told(text: str) -> list[str]:
    return [str(one) for one in contract_problems(text, name="gardener", file="g.md", classes=KNOWN)]


def test_a_good_contract_has_no_problems_whatever_its_line_ends_and_heading_rank() -> None:
    assert told(GOOD) == []
    assert told(GOOD.replace("\n", "\r\n")) == []
    assert told(GOOD.replace("## ", "# ")) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("class: gardener", "class: porter", "g.md:2:1: class: must be the file's name, gardener"),
        ("class: gardener\n", "", "g.md:2:1: class: a required key is missing"),
        ("persistent: true", "persistent: yes", "g.md:4:1: persistent: must be true or false"),
        ("persistent", "persistant", "g.md:4:1: persistant: unknown key (nearest: persistent)"),
        ("domain: grounds", "domain: The Grounds", "g.md:3:1: domain: must be lower-case words joined by hyphens"),
        ("summary: Keeps the garden.", "summary: a: b", "g.md:5:11: this is not YAML: a ':' here needs the text"),
        ("## Persona", "## Person", "g.md:1:1: Persona: there is no such section"),
        ("## Persona", "## Mandate\n\n1. x\n2. y\n3. z\n\n## Persona", "g.md:20:1: Mandate: the section stands twice"),
        ("2. Weed.\n3. Prune.\n", "", "g.md:10:1: Mandate: numbered duties: 1; there must be 3 to 6"),
        ("3. Prune.", "\n".join(f"{n}. x" for n in range(3, 8)), "numbered duties: 7"),
        ("`porter`", "`portier`", "g.md:18:23: Boundaries: there is no role portier (nearest: porter)"),
        ("`porter`", "others", "g.md:16:1: Boundaries: must name, in backticks, at least one class"),
        ("`porter`", "`gardener`", "g.md:16:1: Boundaries: must name, in backticks, at least one class"),
        ("- The gate", "The gate", "g.md:16:1: Boundaries: must list what the role does not do"),
        ("Patient. Muddy.", "", "g.md:20:1: Persona: is empty"),
    ],
)
def test_each_fault_of_a_contract_is_told_at_its_line(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert any(expected in line for line in told(GOOD.replace(old, new, 1))), told(GOOD.replace(old, new, 1))


def test_sections_out_of_order_are_told() -> None:
    head, mandate = GOOD.split("## Mandate")
    mandate, rest = mandate.split("## Boundaries")
    assert told(f"{head}## Boundaries{rest}\n## Mandate{mandate}") == [
        "g.md:10:1: the sections must come in this order: Mandate, Boundaries, Persona"
    ]


def test_all_faults_are_told_at_once() -> None:
    bad = GOOD.replace("persistent: true\n", "").replace("`porter`", "`portr`").replace("2. Weed.\n3. Prune.\n", "")
    assert len(told(bad)) == 3


def test_a_heading_inside_a_code_block_is_no_section() -> None:
    assert told(GOOD.replace("3. Prune.", "3. Prune.\n\n```\n## Persona\n```")) == []


@pytest.mark.parametrize("text", ["", "---", "---\n---\n", "# Mandate", "\0", "---\n{\n---\n", "---\n- a\n---\n"])
def test_rubbish_is_told_as_a_problem(text: str) -> None:
    assert told(text)
    with pytest.raises(ContractInvalid, match=r"g\.md is not a valid role contract"):
        parse_contract(text, name="gardener", file="g.md", source="override")


def test_a_digest_does_not_depend_on_line_ends() -> None:
    assert digest_of(GOOD) == digest_of(GOOD.replace("\n", "\r\n")) != digest_of(GOOD + "x")


def test_an_agent_reads_the_body_without_the_front_matter(catalog: Catalog) -> None:
    body = get_contract(catalog, "gardener").body
    assert body.startswith("# Gardener\n")
    assert body.endswith("Patient. Muddy.\n")


def test_an_own_contract_wins_and_says_that_it_is_one(catalog: Catalog) -> None:
    before = get_contract(catalog, "gardener")
    own(catalog, "gardener.md", GOOD.replace("Water.", "Water twice."))
    after = get_contract(catalog, "gardener")
    assert (before.source, after.source) == ("shipped", "override")
    assert "Water twice." in after.text
    assert before.digest != after.digest
    assert read_shipped_contract(catalog, "gardener") == before


def test_an_alias_leads_to_the_own_contract_too(catalog: Catalog) -> None:
    own(catalog, "gardener.md", GOOD.replace("Water.", "Water twice."))
    assert get_contract(catalog, "digger").source == "override"


def test_a_contract_of_its_own_wins_over_an_alias(catalog: Catalog) -> None:
    own(catalog, "digger.md", GOOD.replace("class: gardener", "class: digger"))
    assert get_contract(catalog, "digger").class_name == "digger"


def test_own_aliases_are_added_to_the_shipped_ones(catalog: Catalog) -> None:
    own(catalog, "aliases.yaml", "doorman: porter\n")
    assert aliases(catalog) == {"digger": "gardener", "doorman": "porter"}
    assert get_contract(catalog, "doorman").class_name == "porter"


def test_a_class_that_only_a_user_has_is_in_the_library(catalog: Catalog) -> None:
    own(catalog, "cook.md", GOOD.replace("class: gardener", "class: cook"))
    assert class_names(catalog) == ["cook", "gardener", "porter"]
    assert role_problems(catalog) == []


def test_an_own_contract_may_have_any_body_but_validation_says_what_it_lacks(catalog: Catalog) -> None:
    own(catalog, "gardener.md", GOOD.split("## Mandate")[0] + "Just water.\n")
    assert "Just water." in get_contract(catalog, "gardener").body
    assert len(role_problems(catalog, ["gardener"])) == 3


def test_an_own_contract_that_cannot_be_read_is_loud_and_the_list_still_comes(catalog: Catalog) -> None:
    path = own(catalog, "gardener.md", "no front matter\n")
    with pytest.raises(ContractInvalid, match=str(path)):
        read_contract(catalog, "gardener")
    broken, whole = list_roles(catalog)
    assert (broken.contract, broken.path) == (None, path)
    assert "front matter" in broken.problem
    assert whole.contract is not None


def test_a_file_whose_name_no_class_can_have_is_told(catalog: Catalog) -> None:
    own(catalog, "Head_Gardener.md", GOOD)
    assert ["nobody finds this one" in one.message for one in role_problems(catalog)] == [True]


@pytest.mark.parametrize(
    "text", ["digger: Gardener X\n", "[]\n", "digger: [gardener]\n", "digger: gardener\ndigger: porter\n"]
)
def test_bad_aliases_are_told(catalog: Catalog, text: str) -> None:
    own(catalog, "aliases.yaml", text)
    with pytest.raises(AliasesInvalid):
        aliases(catalog)
    assert role_problems(catalog)
    assert get_contract(catalog, "gardener")  # a class needs no alias


def test_an_alias_to_nowhere_is_told_and_resolves_to_nothing(catalog: Catalog) -> None:
    own(catalog, "aliases.yaml", "boss: gardner\n")
    assert read_contract(catalog, "boss") is None
    assert [(one.key, one.nearest) for one in role_problems(catalog)] == [("boss", "gardener")]


@pytest.mark.parametrize("name", ["gardner", "../roles/gardener", "CONTRACT", "LIBRARY", "", "x" * 300, "a;b"])
def test_an_unknown_class_is_none_and_asked_for_is_not_found(catalog: Catalog, name: str) -> None:
    assert read_contract(catalog, name) is None
    with pytest.raises(NotFound):
        get_contract(catalog, name)


def test_an_unknown_class_is_told_its_nearest_names(catalog: Catalog) -> None:
    with pytest.raises(NotFound) as caught:
        get_contract(catalog, "gardner")
    assert caught.value.why == "the nearest: gardener"


def test_the_shared_contract_may_be_a_users_own(catalog: Catalog) -> None:
    assert shared_contract(catalog).source == "shipped"
    own(catalog, "CONTRACT.md", "# Ours\n")
    assert (shared_contract(catalog).source, shared_contract(catalog).text) == ("override", "# Ours\n")


def test_an_override_begins_as_the_shipped_contract(catalog: Catalog) -> None:
    path = begin_override(catalog, "digger")
    assert path == override_path(catalog, "gardener")
    assert path.read_text() == GOOD
    found = compare_override(catalog, "gardener")
    assert (found.underneath, found.diff(), found.diff_underneath()) == ("same", [], [])
    assert role_problems(catalog) == []


def test_an_override_that_a_person_wrote_is_never_replaced(catalog: Catalog) -> None:
    path = own(catalog, "gardener.md", "mine\n")
    with pytest.raises(OverrideExists):
        begin_override(catalog, "gardener")
    own(catalog, "gardener.md", GOOD)
    with pytest.raises(OverrideExists):
        begin_override(catalog, "gardener")
    assert path.read_text() == GOOD


def test_what_changed_underneath_an_override_is_told_and_shown(catalog: Catalog) -> None:
    path = begin_override(catalog, "gardener")
    path.write_text(GOOD.replace("Weed.", "Weed gently."))
    (catalog.folder("roles") / "gardener.md").write_text(GOOD.replace("Prune.", "Prune in March."))
    found = compare_override(catalog, "gardener")
    assert found.underneath == "changed"
    assert {"-3. Prune.", "+3. Prune in March."} <= set(found.diff_underneath())
    assert {"-2. Weed.", "+2. Weed gently.", "+3. Prune."} <= set(found.diff())
    rebase_override(catalog, "gardener")
    assert compare_override(catalog, "gardener").underneath == "same"
    assert "Weed gently." in path.read_text()


def test_an_override_made_by_hand_has_an_unknown_base(catalog: Catalog) -> None:
    own(catalog, "gardener.md", GOOD)
    assert compare_override(catalog, "gardener").underneath == "unknown"


def test_a_base_that_was_tampered_with_is_unknown(catalog: Catalog) -> None:
    base = begin_override(catalog, "gardener").with_name("gardener.based-on.json")
    base.write_text(json.dumps(json.loads(base.read_text()) | {"text": "other"}))
    assert compare_override(catalog, "gardener").underneath == "unknown"
    base.write_text("[1]")
    assert compare_override(catalog, "gardener").underneath == "unknown"


def test_an_override_outlives_the_shipped_contract(catalog: Catalog) -> None:
    begin_override(catalog, "gardener")
    (catalog.folder("roles") / "gardener.md").unlink()
    assert compare_override(catalog, "gardener").underneath == "gone"
    own(catalog, "cook.md", GOOD.replace("class: gardener", "class: cook"))
    assert compare_override(catalog, "cook").underneath == "never"


def test_ending_an_override_brings_the_shipped_contract_back_and_leaves_nothing(catalog: Catalog) -> None:
    path = begin_override(catalog, "gardener")
    path.write_text("unreadable now\n")
    assert end_override(catalog, "gardener") == path
    assert list(path.parent.iterdir()) == []
    assert get_contract(catalog, "gardener").source == "shipped"
    with pytest.raises(NotFound, match="no contract of yours"):
        end_override(catalog, "gardener")


def test_every_shipped_contract_can_be_overridden_and_compared(tmp_path: Path) -> None:
    catalog = Catalog(shipped_data(), tmp_path)
    for name in class_names(catalog):
        begin_override(catalog, name)
    assert {role.source for role in list_roles(catalog)} == {"override"}
    assert {compare_override(catalog, name).underneath for name in class_names(catalog)} == {"same"}
