"""What a check found, and how findings are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_cli.output import Column, Listing, Style

WELL, NOTE, WRONG, UNCHECKED = "well", "note", "wrong", "unchecked"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    `level`: well, note (worth knowing), wrong, or unchecked (why it could not be looked at); `repair` is what to run.
    """

    check: str
    level: str
    text: str
    repair: str = ""


def finding_listing(findings: Sequence[Finding]) -> Listing[Finding]:
    """Return findings ready to be shown."""
    styles = {WRONG: Style.WRONG, NOTE: Style.ATTENTION, UNCHECKED: Style.GREY}
    columns: list[Column[Finding]] = [
        Column("CHECK", lambda finding: finding.check),
        Column("FOUND", lambda finding: finding.level),
        Column("WHAT", lambda finding: finding.text),
        Column("REPAIR", lambda finding: finding.repair),
    ]
    return Listing(
        "FindingList",
        findings,
        columns,
        name=lambda finding: finding.check,
        document=lambda finding: {
            "check": finding.check,
            "level": finding.level,
            "text": finding.text,
            "repair": finding.repair,
        },
        style=lambda finding: styles.get(finding.level, Style.PLAIN),
        extra={level: sum(finding.level == level for finding in findings) for level in (WRONG, UNCHECKED)},
    )
