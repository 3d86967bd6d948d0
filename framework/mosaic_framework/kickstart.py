"""Kickstart templates: the text that a seat is told at the start of each run (pure).

`{name}` is replaced by the agent's name; `{{name}}` stands for the text `{name}`. Other braces are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PLACEHOLDERS = ("name", "class", "mission", "card")
NONE = "none"
"""Stands where there is no mission, or no card."""
_MARK = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


def unknown_placeholders(template: str) -> list[tuple[str, int]]:
    """Return each placeholder that means nothing, with the number of its line from 0."""
    return [
        (match[2], template.count("\n", 0, match.start()))
        for match in _MARK.finditer(template)
        if match[2] is not None and match[2] not in PLACEHOLDERS
    ]


def render(template: str, values: Mapping[str, str]) -> str:
    """Return the text with its placeholders replaced, once over; one without a value is NONE."""

    def replaced(match: re.Match[str]) -> str:
        return f"{{{match[1]}}}" if match[1] is not None else values.get(match[2], "") or NONE

    return _MARK.sub(replaced, template)
