"""What installing does for the programs in this machine's seats: finds each and writes down where; and undoes files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mosaic_framework.desired_state import read_desired
from mosaic_framework.errors import FleetError
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_framework.seat_environment import Recorded, record_programs
from mosaic_framework.user_files import Undone, undo_all

from mosaic_cli import output


def record(home: Home, identity: StoredIdentity) -> list[Recorded]:
    """Look for the program of every seat of this host by this shell's PATH, and write it into the seats' env files."""
    return record_programs(home, _seats(home, identity), os.environ)


def undo(home: Home) -> list[Undone]:
    """Take back what was settled in the user's own files. What cannot be is told, and tried by the next uninstall."""
    try:
        return undo_all(home)
    except FleetError as error:
        output.say(f"not all could be taken back: {error.what}: {error.why}" if error.why else error.what)
        return []


def _seats(home: Home, identity: StoredIdentity) -> Iterator[tuple[str, Manifest]]:
    try:
        state = read_desired(home.state, host_id=identity.identity_id)
    except FleetError as error:
        output.say(f"the seats of this host are not known yet: {error.what}")
        return
    for seat in state.seats if state is not None else ():
        if seat.spec.command:
            continue
        try:
            yield seat.spec.name, Manifest.from_json(seat.spec.manifest_json)
        except ValueError as error:
            output.say(f"{seat.spec.name}: its runtime manifest is not understood here: {error}")
