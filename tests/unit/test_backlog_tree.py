"""Promises of the drawn dependency tree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mosaic_cli.backlog.tree import draw
from mosaic_proto.v1 import backlog_pb2 as pb


def node(name: str, level: int, status: int = pb.CARD_STATUS_READY, **more: object) -> pb.TreeNode:
    return pb.TreeNode(id=name, title=f"the {name}", status=status, level=level, **more)  # type: ignore[arg-type]


def test_a_tree_is_drawn_with_lines_that_end_with_the_last_child() -> None:
    nodes = [
        node("a", 0, unmet=2),
        node("b", 1, pb.CARD_STATUS_CLAIMED),
        node("c", 2, pb.CARD_STATUS_DONE),
        node("d", 1, pb.CARD_STATUS_BLOCKED, cut=True),
        node("c", 2, pb.CARD_STATUS_DONE, repeated_above=True),
    ]
    assert draw(nodes).splitlines() == [
        "  · a  waiting (2)  the a",
        "  ├─ ▶ b  claimed  the b",
        "  │  └─ ✓ c  done  the c",
        "  └─ ! d  blocked  the d  … more below",
        "     └─ ✓ c  done  the c  … drawn above",
    ]


def test_what_waits_for_a_card_is_drawn_like_what_it_waits_for() -> None:
    above = [node("a", 0), node("b", -1), node("c", -2), node("d", -1)]
    below = [node("a", 0), node("b", 1), node("c", 2), node("d", 1)]
    assert draw(above) == draw(below)


def test_a_title_cannot_drive_the_terminal() -> None:
    hostile = pb.TreeNode(id="a", title="x\x1b[2J\ny", status=pb.CARD_STATUS_READY)
    assert "\x1b" not in draw([hostile])
    assert len(draw([hostile]).splitlines()) == 1


@given(st.lists(st.integers(0, 4), max_size=40))
def test_each_node_is_one_line_and_its_depth_is_its_indentation(steps: list[int]) -> None:
    depths, nodes = [0], [node("n0", 0)]
    for number, step in enumerate(steps, start=1):
        depths.append(max(1, min(depths[-1] + 1, step)))
        nodes.append(node(f"n{number}", depths[-1]))
    lines = draw(nodes).splitlines()
    assert len(lines) == len(nodes)
    for depth, line in zip(depths, lines, strict=True):
        assert line.index("·") == 2 + 3 * depth
