"""What one look at a pane says of its state, by the manifest's signs (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mosaic_framework.manifest import Manifest, Sign

from mosaic_hostagent.terminal.composer import composer_region
from mosaic_hostagent.terminal.evidence import Snapshot, prompt_is_up, signs_seen

_OPTION = re.compile(r"\W*\d+[.)]\s|\s*[│┃|]?\s*[\u276f\u203a>]\s")
_FRAME = " \t│┃|╭╮╰╯─━"
_QUESTION_LIMIT = 80
_LINES_ABOVE = 6
"""So many of them may stand between a question and its options."""


@dataclass(frozen=True, slots=True)
class ScreenFacts:
    """A pane at one moment."""

    waiting: Sign | None
    working: Sign | None
    ready: bool
    """the sign that the program takes input is there"""
    composer: bool
    """its composer is on the screen; for a line program: its prompt waits at the cursor"""
    alternate: bool
    command: str
    asks: str = ""
    """the line that a person would read of the question that waits; empty where that is not on the screen"""

    @classmethod
    def of(cls, shot: Snapshot, manifest: Manifest) -> ScreenFacts:
        """Return what `shot` shows."""
        line = manifest.composer.kind == "line"
        prompt = prompt_is_up(shot, manifest) if line else False
        waiting = signs_seen(manifest.signs.waiting, shot.screen, shot.title)
        return cls(
            waiting=waiting,
            asks=question(waiting, shot.screen) if waiting is not None and waiting.where == "screen" else "",
            working=signs_seen(manifest.signs.working, shot.screen, shot.title),
            ready=prompt if line else signs_seen(manifest.signs.ready, shot.screen, shot.title) is not None,
            composer=prompt and not shot.alternate
            if line
            else composer_region(manifest.composer, shot.screen) is not None,
            alternate=shot.alternate,
            command=shot.command,
        )


def question(sign: Sign, screen: str) -> str:
    """Return the line at which `sign` is seen; where that is an option, the question above all options."""
    found = re.search(sign.pattern, screen, re.MULTILINE)
    if found is None:
        return ""
    above, _, rest = screen[: found.end()].rpartition("\n")
    at = rest + screen[found.end() :].partition("\n")[0]
    lines = [at, *reversed(above.split("\n"))] if above else [at]
    said = [line for line in lines if line.strip(_FRAME) and not _OPTION.match(line)][:_LINES_ABOVE]
    asked = said[0] if said else at
    if _OPTION.match(at):
        asked = next((line for line in said if "?" in line), asked)
    return " ".join(asked.strip(_FRAME).split())[:_QUESTION_LIMIT]
