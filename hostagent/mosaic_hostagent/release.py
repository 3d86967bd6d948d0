"""`mosaic-hostagent release`: end our sessions and holders on the tmux servers that this home has used."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from mosaic_framework.paths import Home

from mosaic_hostagent import reconcile
from mosaic_hostagent.agent import take_home
from mosaic_hostagent.clock import Clock
from mosaic_hostagent.config import Config
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.processes import end_terminal_session, terminal_session
from mosaic_hostagent.seats import Session
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.units.choice import supervision_of

log = structlog.get_logger(__name__)


async def release(home: Home, config: Config, environment: Mapping[str, str]) -> list[str]:
    """End them, and return a line for each thing that was ended.

    Raises AlreadyRunning while the host-agent runs, and what tmux or the journal raise. May be run twice.
    """
    lock = take_home(home)
    told: list[str] = []
    journal: Journal | None = None
    pool, supervision = supervision_of(home, environment=environment, stop_grace=config.stop_grace_seconds)
    try:
        await supervision.keep_only([])
        for key in pool.recorded:
            server = pool.get(key).name
            for session in (await pool.observe(key, start=False)).sessions:
                if journal is None:
                    journal = await Journal.open(home.state / "journal", Clock())
                await _end(pool, journal, session, config.stop_grace_seconds)
                told.append(f"stopped {session.name} on tmux server {server}")
            if await pool.leave(key):
                told.append(f"stopped the holder session {key.holder} on tmux server {server}")
    finally:
        await pool.close()
        if journal is not None:
            await journal.close()
        lock.release()
    return told


async def _end(pool: ServerPool, journal: Journal, session: Session, grace: float) -> None:
    members = terminal_session(session.pid, began_ms=session.began_ms)
    await pool.get(session.server).kill(session)
    await end_terminal_session(members, grace=grace)
    await journal.run_ended(session.run_id, reason=reconcile.STOPPED, exit_status=session.exit_status)
