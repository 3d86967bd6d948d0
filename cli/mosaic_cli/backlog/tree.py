"""Drawing a dependency tree (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli.backlog.documents import status_word
from mosaic_cli.text import printable

_MARKS = {
    pb.CARD_STATUS_DONE: "✓",
    pb.CARD_STATUS_CANCELLED: "✗",
    pb.CARD_STATUS_BLOCKED: "!",
    pb.CARD_STATUS_CLAIMED: "▶",
    pb.CARD_STATUS_REVIEW: "?",
}


def draw(nodes: Sequence[pb.TreeNode]) -> str:
    """Return the tree a line a node. `nodes` are in the order of drawing, the root first."""
    depths = [abs(node.level) for node in nodes]
    lines = []
    open_: list[bool] = []
    """for each level above: whether another child follows there, so that its line goes on"""
    for index, (node, depth) in enumerate(zip(nodes, depths, strict=True)):
        last = _is_last(depths, index)
        if depth == 0:
            lines.append(f"  {_text(node)}")
            continue
        del open_[depth - 1 :]
        lead = "".join("│  " if more else "   " for more in open_)
        lines.append(f"  {lead}{'└─ ' if last else '├─ '}{_text(node)}")
        open_.append(not last)
    return "\n".join(lines)


def _is_last(depths: Sequence[int], index: int) -> bool:
    """Say whether no other node of this depth follows under the same parent."""
    for depth in depths[index + 1 :]:
        if depth <= depths[index]:
            return depth < depths[index]
    return True


def _text(node: pb.TreeNode) -> str:
    mark = _MARKS.get(node.status, "·")
    status = (
        f"waiting ({node.unmet})" if node.status == pb.CARD_STATUS_READY and node.unmet else status_word(node.status)
    )
    more = "  … drawn above" if node.repeated_above else "  … more below" if node.cut else ""
    return f"{mark} {printable(node.id)}  {status}  {printable(node.title)}{more}"
