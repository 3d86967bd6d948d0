"""Whether a pane may be typed into, or may be given Enter, as it is now (pure)."""

from __future__ import annotations

from mosaic_framework.manifest import Manifest

from mosaic_hostagent.terminal.evidence import Snapshot, composer_region, prompt_is_up, signs_seen


def obstacle(snapshot: Snapshot, manifest: Manifest, *, settled: bool = False) -> str:
    """Return why nothing may be typed now, or "" when it may.

    `settled`: the program in a line composer has been quiet for so long that it waits, though no known prompt is shown.
    """
    if reason := obstacle_to_enter(snapshot, manifest):
        return reason
    if manifest.composer.kind == "line":
        if snapshot.alternate:
            return f"a full-screen program is open in it ({snapshot.command})"
        return "" if settled or prompt_is_up(snapshot, manifest) else "it is busy: no prompt stands at the cursor"
    if composer_region(manifest.composer, snapshot.screen) is None:
        return "its composer is not on the screen"
    return ""


def obstacle_to_enter(snapshot: Snapshot, manifest: Manifest) -> str:
    """Return why Enter may not be pressed now, or "" when it may. In a dialog Enter would approve what it asks."""
    if snapshot.dead:
        return "its program has ended"
    if snapshot.in_mode:
        return "somebody reads its scrollback (tmux copy mode)"
    if signs_seen(manifest.signs.waiting, snapshot.screen, snapshot.title) is not None:
        return "it waits for an answer to a question of its own"
    return ""
