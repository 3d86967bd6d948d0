"""Orders, cycles, paths and trees of dependencies, for any graph."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from mosaic_controlplane.backlog.drafts import Draft, check, shown_path
from mosaic_controlplane.backlog.graph import depths, draw, find_path, order
from mosaic_controlplane.register.card import CardContent

CARDS = [f"c{n}" for n in range(8)]
GRAPHS = st.dictionaries(st.sampled_from(CARDS), st.lists(st.sampled_from(CARDS), max_size=4), max_size=8)


@given(GRAPHS)
def test_what_is_ordered_comes_after_all_it_depends_on_and_what_is_not_is_held_by_a_cycle(
    graph: dict[str, list[str]],
) -> None:
    ordered, cycles = order(graph)
    place = {card: index for index, card in enumerate(ordered)}
    for card in ordered:
        assert all(place[one] < place[card] for one in graph[card] if one in graph)
    assert (len(ordered) == len(graph)) == (not cycles)
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert all(below in graph[card] for card, below in pairwise(cycle))


@given(GRAPHS, st.sampled_from(CARDS), st.sampled_from(CARDS))
def test_a_path_is_one_of_edges_and_found_whenever_there_is_one(
    graph: dict[str, list[str]], start: str, goal: str
) -> None:
    edges = [(card, one) for card, needed in graph.items() for one in needed]
    path = find_path(edges, start, goal)
    reached = {start}
    while more := {below for card, below in edges if card in reached} - reached:
        reached |= more
    assert bool(path) == (goal in reached)
    if path:
        assert (path[0], path[-1]) == (start, goal)
        assert all(step in edges for step in pairwise(path))


@given(GRAPHS)
def test_a_depth_is_one_more_than_the_deepest_below(graph: dict[str, list[str]]) -> None:
    ordered, _ = order(graph)
    found = depths(ordered, graph, {})
    for card in ordered:
        assert found[card] == max((found.get(one, 0) + 1 for one in graph[card]), default=0)


@given(GRAPHS, st.sampled_from(CARDS), st.integers(1, 5))
def test_a_tree_is_drawn_with_every_card_s_children_once_and_within_its_bounds(
    graph: dict[str, list[str]], root: str, levels: int
) -> None:
    lines = draw(root, graph, levels=levels, most=50)
    assert lines[0].card_id == root
    assert all(line.level <= levels for line in lines)
    opened = [line.card_id for line in lines if graph.get(line.card_id) and not line.repeated and not line.cut]
    assert len(opened) == len(set(opened))


def test_all_that_is_wrong_with_drafts_is_told() -> None:
    drafts = [
        Draft("a", CardContent("", priority=10**7, labels=["no spaces please"]), ("b",)),
        Draft("b", CardContent("b", required_class="Code"), ("a",)),
        Draft("not an id", CardContent("x", body="\x00"), ("not an id",), "k"),
        Draft("d", CardContent("x"), (), "k"),
    ]
    assert {(one.index, one.field, one.code) for one in check(drafts)} == {
        (0, "title", "missing"),
        (0, "priority", "invalid"),
        (0, "labels", "invalid"),
        (0, "depends_on", "cycle"),
        (1, "class", "invalid"),
        (2, "id", "invalid"),
        (2, "body", "invalid"),
        (2, "depends_on", "self-dependency"),
        (3, "idempotency_key", "duplicate"),
    }


def test_a_long_path_is_shown_with_its_middle_left_out() -> None:
    assert shown_path(["a", "b"]) == "a → b"
    assert shown_path([str(n) for n in range(20)], most=4) == "0 → 1 → … 16 more … → 18 → 19"
