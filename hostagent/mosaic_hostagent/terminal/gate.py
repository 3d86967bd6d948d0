"""Whether a pane may be typed into, or may be given Enter, as it is now (pure)."""

from __future__ import annotations

from pathlib import PurePath

from mosaic_framework.manifest import Manifest

from mosaic_hostagent.terminal.composer import Standing, composer_region, standing
from mosaic_hostagent.terminal.evidence import Snapshot, prompt_is_up, signs_seen

SHELLS = frozenset({"bash", "sh", "zsh", "fish", "dash", "ksh", "ash", "tcsh", "csh", "mksh", "nu", "pwsh"})
WORKS = "it works, and this waits until it is idle"
TYPES = "a person at its terminal has just pressed a key"
DRAFT = "a person's draft stands in its composer"


def obstacle(snapshot: Snapshot, manifest: Manifest, *, settled: bool = False, only_idle: bool = False) -> str:
    """Return why nothing may be typed now, or "" when it may. A draft is not looked for: see `draft_stands`.

    `settled`: the program in a line composer has been quiet for so long that it waits, though no known prompt is shown.
    `only_idle`: not while it works, either because that is wished or because it may ask for a permission meanwhile.
    """
    if reason := obstacle_to_enter(snapshot, manifest):
        return reason
    if manifest.composer.kind == "line":
        if snapshot.alternate:
            return f"a full-screen program is open in it ({snapshot.command})"
        return "" if settled or prompt_is_up(snapshot, manifest) else "it is busy: no prompt stands at the cursor"
    if composer_region(manifest.composer, snapshot.screen) is None:
        return "its composer is not on the screen"
    if only_idle and works(snapshot, manifest):
        return WORKS
    return ""


def obstacle_to_enter(snapshot: Snapshot, manifest: Manifest) -> str:
    """Return why Enter may not be pressed now, or "" when it may. In a dialog Enter would approve what it asks."""
    if snapshot.person_types and not snapshot.dead:
        return TYPES
    if snapshot.in_mode and not snapshot.dead:
        return "somebody reads its scrollback (tmux copy mode)"
    return obstacle_to_text(snapshot, manifest)


def obstacle_to_text(snapshot: Snapshot, manifest: Manifest) -> str:
    """Return why the program may be given no message now, not even without a key, or "" when it may."""
    if snapshot.dead:
        return "its program has ended"
    if signs_seen(manifest.signs.waiting, snapshot.screen, snapshot.title) is not None:
        return "it waits for an answer to a question of its own"
    return ""


def draft_stands(snapshot: Snapshot, manifest: Manifest) -> bool:
    """Say whether something stands in a box composer before anything was typed: a person's draft, as far as we know."""
    return manifest.composer.kind == "box" and standing(snapshot, manifest.composer, "") is Standing.OTHER


def works(snapshot: Snapshot, manifest: Manifest) -> bool:
    """Say whether the screen shows that the program works."""
    return signs_seen(manifest.signs.working, snapshot.screen, snapshot.title) is not None


def is_shell(command: str) -> bool:
    """Say whether the program in the foreground is a shell, by its name."""
    return PurePath(command).name.lstrip("-") in SHELLS


def runs_a_shell(manifest: Manifest) -> bool:
    """Say whether a shell is what the seat is for."""
    return manifest.composer.kind == "line"
