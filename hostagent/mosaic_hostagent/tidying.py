"""Takes away the env files of seats that are no longer in the roster, where nobody wrote into them."""

from __future__ import annotations

from collections.abc import Collection

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home
from mosaic_framework.seat_environment import forget_env_file

log = structlog.get_logger(__name__)


def tidy(home: Home, *, names: Collection[str]) -> None:
    """Remove the env files, those excepted that hold something of the site's, of all seats but these."""
    agents = home.fleet / "agents"
    for path in agents.glob("*.env") if agents.is_dir() else ():
        if path.stem in names:
            continue
        try:
            if forget_env_file(home, path.stem):
                log.info("the env file of a seat that is gone was removed", file=str(path))
        except FleetError as error:
            log.info("the env file of a seat that is gone is kept", file=str(path), why=error.why or error.what)
