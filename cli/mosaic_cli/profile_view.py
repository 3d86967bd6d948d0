"""Profiles as a listing and as a thing with its org chart (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mosaic_framework.profile_model import Profile, org_chart
from mosaic_framework.profiles import ProfileEntry

from mosaic_cli.output import Column, Listing, Style, Thing


def profile_listing(entries: Sequence[ProfileEntry]) -> Listing[ProfileEntry]:
    """Return the listing of `profile ls`."""
    columns: list[Column[ProfileEntry]] = [
        Column("ID", lambda entry: entry.id),
        Column("LEAD", lambda entry: entry.profile.lead if entry.profile else ""),
        Column("FLOOR", lambda entry: ",".join(entry.profile.floor) if entry.profile else ""),
        Column("SEATS", lambda entry: str(entry.profile.seat_count()) if entry.profile else ""),
        Column("SOURCE", lambda entry: "yours" if entry.own else "shipped"),
        Column("DESCRIPTION", lambda entry: entry.profile.description if entry.profile else entry.problem),
        Column("FILE", lambda entry: str(entry.path), wide=True),
    ]
    return Listing(
        "ProfileList",
        entries,
        columns,
        name=lambda entry: entry.id,
        document=_entry_document,
        style=lambda entry: Style.PLAIN if entry.profile else Style.WRONG,
        empty="no profile",
    )


def profile_thing(profile: Profile, *, own: bool, path: Path) -> Thing:
    """Return one profile with its chart."""
    body = _document(profile, own=own, path=path) | {
        "roster": [
            {"class": seat.class_name, "reportsTo": seat.reports_to, "multiplicity": seat.multiplicity}
            for seat in profile.roster
        ],
        "notes": profile.notes,
    }
    lines = [
        ("profile", profile.id),
        ("title", profile.title),
        ("for", profile.description),
        ("lead", profile.lead),
        ("floor", ", ".join(profile.floor)),
        ("seats", str(profile.seat_count())),
        ("source", "yours" if own else "shipped"),
        ("file", str(path)),
    ]
    notes = f"\n\n{profile.notes.rstrip()}" if profile.notes else ""
    return Thing("Profile", profile.id, body, lines, org_chart(profile) + notes)


def _document(profile: Profile, *, own: bool, path: Path) -> dict[str, Any]:
    return {
        "id": profile.id,
        "title": profile.title,
        "description": profile.description,
        "lead": profile.lead,
        "floor": profile.floor,
        "seats": profile.seat_count(),
        "source": "override" if own else "shipped",
        "file": str(path),
    }


def _entry_document(entry: ProfileEntry) -> dict[str, Any]:
    if entry.profile is not None:
        return _document(entry.profile, own=entry.own, path=entry.path) | {"problem": ""}
    source = "override" if entry.own else "shipped"
    return {"id": entry.id, "source": source, "file": str(entry.path), "problem": entry.problem}
