"""`mosaic fleet verify`: do this machine's seats live, by tmux and their processes?"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home

from mosaic_cli.machine.services import program
from mosaic_cli.machine.start import last_words
from mosaic_cli.output import Column, Listing, Style

_SECONDS = 60.0


class SeatsNotVerified(FleetError):
    """Some seats are not as they should be."""

    code = "seats-not-verified"
    hint = "mosaic fleet ps"


def verify_listing(home: Home) -> tuple[Listing[dict[str, Any]], SeatsNotVerified | None]:
    """Return how each seat of this machine is, and an error when one is not as wanted. Raises FleetError."""
    try:
        done = subprocess.run(
            [program("mosaic-hostagent"), "verify"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "MOSAIC_HOME": str(home.root)},
        )
    except subprocess.TimeoutExpired as error:
        raise FleetError(f"the seats could not be looked at within {_SECONDS:.0f} s") from error
    if done.returncode:
        raise FleetError("the seats could not be looked at", why=last_words(done.stderr))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = {str(row["agent"]): str(row["problem"]) for row in rows if row["problem"]}
    problem = None
    if wrong:
        first, why = next(iter(wrong.items()))
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        problem = SeatsNotVerified(
            f"{len(wrong)} of {len(rows)} seats are not as they should be", why=f"{first}: {why}{more}", details=wrong
        )
    return _listing(rows), problem


def _listing(rows: list[dict[str, Any]]) -> Listing[dict[str, Any]]:
    columns: list[Column[dict[str, Any]]] = [
        Column("AGENT", lambda row: str(row["agent"])),
        Column("LIVES", lambda row: "yes" if row["lives"] else "no"),
        Column("WANTED", lambda row: "yes" if row["wanted"] else "no"),
        Column("PID", lambda row: str(row["pid"] or "")),
        Column("SUPERVISION", lambda row: str(row["supervision"])),
        Column("UNIT SAYS", lambda row: str(row["unit_state"])),
        Column("AT BOOT", _at_boot),
        Column("PROBLEM", lambda row: str(row["problem"])),
        Column("UNIT", lambda row: str(row["unit"]), wide=True),
        Column("SESSION", lambda row: str(row["session"]), wide=True),
    ]
    return Listing(
        "SeatVerification",
        rows,
        columns,
        name=lambda row: str(row["agent"]),
        document=lambda row: row,
        style=lambda row: Style.WRONG if row["problem"] else Style.PLAIN,
        empty="no seat is wanted on this machine",
    )


def _at_boot(row: dict[str, Any]) -> str:
    if row["enabled"]:
        return "returns"
    return "does not return" if row["wanted"] else ""
