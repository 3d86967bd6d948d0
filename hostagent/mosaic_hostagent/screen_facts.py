"""What one look at a pane says of its state, by the manifest's signs (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_framework.manifest import Manifest, Sign

from mosaic_hostagent.terminal.composer import composer_region
from mosaic_hostagent.terminal.evidence import Snapshot, prompt_is_up, signs_seen


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

    @classmethod
    def of(cls, shot: Snapshot, manifest: Manifest) -> ScreenFacts:
        """Return what `shot` shows."""
        line = manifest.composer.kind == "line"
        prompt = prompt_is_up(shot, manifest) if line else False
        return cls(
            waiting=signs_seen(manifest.signs.waiting, shot.screen, shot.title),
            working=signs_seen(manifest.signs.working, shot.screen, shot.title),
            ready=prompt if line else signs_seen(manifest.signs.ready, shot.screen, shot.title) is not None,
            composer=prompt and not shot.alternate
            if line
            else composer_region(manifest.composer, shot.screen) is not None,
            alternate=shot.alternate,
            command=shot.command,
        )
