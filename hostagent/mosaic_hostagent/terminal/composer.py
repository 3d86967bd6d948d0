"""What stands in a program's composer, and what that proves of a text of ours (pure).

Programs wrap, indent, box, clip and collapse what is typed, and terminals draw some characters in their own way. So
text and screen are compared by what both keep: letters, digits and punctuation, without white space, frames and marks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum

from mosaic_framework.manifest import Composer

from mosaic_hostagent.terminal.evidence import Snapshot, line_holds, line_submitted, line_typed, squeeze, tail_of

_RULE = re.compile(r"[─━═]{5,}")
_SIDE = re.compile(r"[│┃║▏▕]")
_SIDE_ROWS = re.compile(r"(?:[^\S\n]*[│┃║▏▕][^\S\n]*\n)*")
_CLIPPED_LEAST = 24
_HEAD, _TAIL = 48, 24
_DRAWN_ALIKE = ("L", "N", "P", "Sm", "Sc")


class Standing(StrEnum):
    """What stands in a composer, as far as a text of ours is concerned."""

    UNSEEN = "unseen"
    """no composer is on the screen, or nobody can tell where it ends"""
    EMPTY = "empty"
    OURS = "ours"
    """exactly the text, as far as it is shown"""
    PART = "part"
    """the beginning of the text: the program is still taking it in"""
    OTHER = "other"
    """something else, or more than the text"""


def fold(text: str) -> str:
    """Return what of `text` every program and terminal draws alike, without white space and frames."""
    squeezed = squeeze(text)
    if squeezed.isascii():
        return squeezed
    return "".join(c for c in squeezed if c.isascii() or unicodedata.category(c).startswith(_DRAWN_ALIKE))


def composer_region(composer: Composer, screen: str) -> str | None:
    """Return what stands in a box composer, and below it when its end is not known; None when none is on the screen."""
    found = _region(composer, screen)
    return None if found is None else screen[found]


def _region(composer: Composer, screen: str) -> slice | None:
    bounded = _bounded(composer, screen)
    if bounded is not None or composer.glyph is None:
        return bounded or slice(0, len(screen))
    first = _first_row(composer, screen)
    return None if first is None else slice(first, len(screen))


def _bounded(composer: Composer, screen: str) -> slice | None:
    """Return where the composer is, when its end is seen, too."""
    if composer.glyph is None:
        return None
    found = list(re.finditer(composer.glyph, screen, re.MULTILINE))
    if len(found) > 1 and _RULE.fullmatch(found[-1].group()):
        return slice(found[-2].end(), found[-1].start())  # between two rules: the last one is its end
    first = _first_row(composer, screen)
    if first is None or composer.end is None:
        return None
    end = re.compile(composer.end, re.MULTILINE).search(screen, first)
    return None if end is None else slice(first, end.start())


def _first_row(composer: Composer, screen: str) -> int | None:
    """Return where the text in the composer begins."""
    found = list(re.finditer(composer.glyph or "", screen, re.MULTILINE))
    if not found:
        return None
    first = found[-1]
    if _SIDE.search(first.group()):  # a box whose every row begins with the glyph
        for earlier in reversed(found[:-1]):
            if not _SIDE_ROWS.fullmatch(screen[earlier.end() : first.start()].partition("\n")[2]):
                break
            first = earlier
    return first.end()


def standing(snapshot: Snapshot, composer: Composer, text: str) -> Standing:
    """Return what stands in a box composer. `text`: what is ours, "" for nothing."""
    region = _bounded(composer, snapshot.screen) if composer.kind == "box" else None
    if region is None:
        return Standing.UNSEEN
    area = _shown(snapshot, composer)[region]
    collapsed = _collapsed(composer, area)
    if composer.placeholder is not None:
        area = re.sub(composer.placeholder, "", area)
    shown, ours = fold(area), fold(text)
    if not collapsed and (not shown or _shows_nothing(composer, area)):
        return Standing.EMPTY
    if not ours:
        return Standing.OTHER
    if collapsed:
        return Standing.OURS if shown in ours else Standing.OTHER
    if shown == ours or (len(shown) >= _CLIPPED_LEAST and ours.endswith(shown)):
        return Standing.OURS
    return Standing.PART if ours.startswith(shown) else Standing.OTHER


def mixed(snapshot: Snapshot, composer: Composer, text: str) -> bool:
    """Say whether a box composer holds `text` and more: a person's keys came before, into or after it."""
    if standing(snapshot, composer, text) is not Standing.OTHER:
        return False
    area = composer_region(composer, snapshot.screen) or ""
    return tail_of(text) in squeeze(area) or _collapsed(composer, area) > 0


def holds(snapshot: Snapshot, composer: Composer, text: str) -> bool:
    """Say whether the composer is seen to hold `text`, whole or collapsed, and nothing else if that can be told."""
    if not squeeze(text):
        return False
    if composer.kind == "line":
        return line_holds(snapshot, text)
    if (seen := standing(snapshot, composer, text)) is not Standing.UNSEEN:
        return seen is Standing.OURS
    region = composer_region(composer, snapshot.screen)
    if region is None:
        return _overflows(composer, snapshot.screen, text)
    return tail_of(text) in squeeze(region) or _collapsed(composer, region) > 0


def _overflows(composer: Composer, screen: str, text: str) -> bool:
    """Say whether a text taller than the screen ends where the composer does; its beginning has scrolled out."""
    ends = list(re.finditer(composer.end, screen, re.MULTILINE)) if composer.end is not None else []
    above = squeeze(screen[: ends[-1].start()]) if ends else ""
    return text.count("\n") + len(text) // 200 > 10 and above.endswith(tail_of(text))


def typed(before: Snapshot, now: Snapshot, composer: Composer, text: str) -> bool:
    """Say whether `now` proves that `text` is in the composer, where it was not `before`."""
    if composer.kind == "line":
        return line_typed(before, now, text)
    if now.dead:
        return False
    if (seen := standing(now, composer, text)) is not Standing.UNSEEN:
        return seen is Standing.OURS and standing(before, composer, text) is not Standing.OURS
    # The first line of a long text may have scrolled out, glyph and all: before any Enter, what is new was typed.
    region, earlier = (
        shot.screen if (found := composer_region(composer, shot.screen)) is None else found for shot in (now, before)
    )
    appeared = squeeze(region).count(tail_of(text)) > squeeze(earlier).count(tail_of(text))
    return appeared or _collapsed(composer, region) > _collapsed(composer, earlier)


def submitted(before: Snapshot, at_enter: Snapshot, now: Snapshot, composer: Composer, text: str) -> bool:
    """Say whether `now` proves that the composer let go of `text`, which it held at `at_enter` and not `before`.

    An empty composer alone does not: a person may have cleared it, the program may have begun anew.
    """
    if composer.kind == "line":
        return line_submitted(at_enter, now, text)
    if now.dead or (area := composer_region(composer, now.screen)) is None:
        return False  # a screen that shows no composer says nothing about what is in it
    if tail_of(text) in squeeze(area) or _placeholders(composer, area):
        # Another placeholder than at Enter is a draft of a person's, come back.
        held = composer_region(composer, at_enter.screen) or ""
        if tail_of(text) in squeeze(area) or _placeholders(composer, area) == _placeholders(composer, held):
            return False
    return not composer.transcript or _in_transcript(before, now, composer, text)


def let_go(now: Snapshot, composer: Composer, text: str) -> bool:
    """Say whether the composer is there and holds nothing of `text`, wherever that went."""
    if now.dead or composer_region(composer, now.screen) is None:
        return False
    return not holds(now, composer, text) and not mixed(now, composer, text)


def _in_transcript(before: Snapshot, now: Snapshot, composer: Composer, text: str) -> bool:
    """Say whether a text is seen outside of the composer, by its beginning, its end or its placeholder.

    Placeholders in the composer are not counted where its end can be seen: a program that reads a long paste in parts
    draws one that grows, before Enter has reached it.
    """
    ours, shown, earlier = fold(text), fold(now.screen), fold(before.screen)
    ends = (ours[:_HEAD], ours[-_TAIL:])
    if any(end and shown.count(end) > earlier.count(end) for end in ends):
        return True
    # The screen is full of it, and the one before was, too.
    if any(end and shown.count(end) and now.history != before.history for end in ends):
        return True
    above, then = _outside(composer, now.screen), _outside(composer, before.screen)
    return _collapsed(composer, above) > _collapsed(composer, then)


def _outside(composer: Composer, screen: str) -> str:
    """Return the screen without what stands in the composer; all of it where nothing shows where that ends."""
    region = _bounded(composer, screen)
    return screen if region is None else screen[: region.start] + screen[region.stop :]


def _shown(snapshot: Snapshot, composer: Composer) -> str:
    """Return the screen with blanks for the program's own suggestions."""
    rows: Sequence[str] = snapshot.bright if composer.faint_is_ghost and snapshot.bright else snapshot.rows
    return "\n".join(rows)


def _shows_nothing(composer: Composer, area: str) -> bool:
    return composer.empty is not None and re.fullmatch(composer.empty, area.strip()) is not None


def _collapsed(composer: Composer, region: str) -> int:
    return len(_placeholders(composer, region))


def _placeholders(composer: Composer, region: str) -> list[str]:
    return [found[0] for found in re.finditer(composer.placeholder, region)] if composer.placeholder is not None else []
