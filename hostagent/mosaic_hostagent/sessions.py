"""The sessions that run here, as their programs prove them: a random token and a private folder for each run.

`state/sessions/<run id>/` holds the token's hash and the files that the run's program was given; it goes with the run.
A reset begins another run of the same program, which keeps the token and the folder: they cannot be taken from it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import structlog
from mosaic_framework import pane
from mosaic_framework.errors import NotAuthenticated

from mosaic_hostagent.storage import write_state
from mosaic_hostagent.units.launch_file import LETTERBOX_DIGITS

FOLDER = "sessions"
SPOOLS = "spool"
_FILE = "session.json"
_TOKEN_BYTES = 32
_LETTERBOX = "letters-"
_ENDED_KEPT = 256

log = structlog.get_logger(__name__)


class SessionRefused(NotAuthenticated):
    """This token is of no session that lives on this host."""

    code = "session-refused"
    hint = "run it in the agent's own pane; a seat that was launched anew has a new token"


@dataclass(frozen=True, slots=True)
class PaneSession:
    """One run of one seat, and its folder. `runs`: all that its program has had, oldest first."""

    run_id: str
    agent_id: str
    folder: Path
    runs: tuple[str, ...] = ()
    letterbox: Path | None = None
    """where its program may listen for messages; beside the host-agent's socket, because a path there is short"""
    over: bool = False
    """its program has ended"""

    @property
    def heartbeat_file(self) -> Path:
        """Where its program may write that it lives."""
        return self.folder / "heartbeat"


class Sessions:
    """All sessions of this host. `lives` says whether a known run's program still runs."""

    def __init__(self, state_folder: Path, *, host: str, socket: Path) -> None:
        self.folder = state_folder / FOLDER
        self.spools = state_folder / SPOOLS
        self.lives: Callable[[str, str], bool] = lambda _agent_id, _run_id: True
        self._host = host
        self._socket = socket
        self._by_digest: dict[str, PaneSession] = {}
        self._by_run: dict[str, str] = {}
        self._over: OrderedDict[str, PaneSession] = OrderedDict()

    def load(self, *, living: Set[str]) -> None:
        """Take up the sessions that an earlier host-agent began: runs in `living` keep their token, others go."""
        for file in self.folder.glob(f"*/{_FILE}"):
            self.take_up(file.parent.name)
        for session in list(self._by_digest.values()):
            if not living & set(session.runs):
                self.end(session.runs[-1])

    def take_up(self, run_id: str) -> None:
        """Take up a session that is on disk: an earlier host-agent began it, or a unit that started its seat alone."""
        file = self.folder / run_id / _FILE
        if run_id in self._by_run or not file.exists():
            return
        try:
            kept = json.loads(file.read_bytes())
            known = str(UUID(run_id))
            runs = (known, *(str(UUID(one)) for one in kept.get("later_runs", [])))
            session = PaneSession(known, str(kept["agent_id"]), file.parent, runs, self._letterbox(known))
            self._remember(session, str(kept["token_sha256"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("a session on disk cannot be read; its token is refused", file=str(file), why=str(error))

    def begin(self, run_id: str, *, agent_id: str) -> tuple[PaneSession, str]:
        """Make the folder and the token of a run that is about to be launched. Raises StateUnwritable."""
        token = secrets.token_hex(_TOKEN_BYTES)
        session = PaneSession(run_id, agent_id, self.folder / run_id, (run_id,), self._letterbox(run_id))
        digest = _digest(token)
        write_state(session.folder / _FILE, json.dumps({"agent_id": agent_id, "token_sha256": digest}).encode())
        self._remember(session, digest)
        return session, token

    def session_environment(self, session: PaneSession, token: str, *, agent: str) -> dict[str, str]:
        """Return what the program of a run finds in its environment. It wins over whatever a roster sets."""
        return {
            pane.SOCKET: str(self._socket),
            pane.TOKEN: token,
            pane.AGENT: f"{self._host}/{agent}",
            pane.RUN: session.run_id,
            pane.HEARTBEAT: str(session.heartbeat_file),
            pane.SPOOL: str(self.spools / session.run_id),
            pane.LETTERBOX: str(self._letterbox(session.run_id)),
        }

    def of_token(self, token: str) -> PaneSession:
        """Return the living session that has this token. Raises SessionRefused."""
        session = self._by_digest.get(_digest(token)) if pane.TOKEN_PATTERN.fullmatch(token) else None
        living = self._living(session) if session is not None else None
        if living is None:
            raise SessionRefused
        return living

    def of_run(self, run_id: str) -> PaneSession | None:
        """Return a run's session, or None. Of a run that a reset has ended: the run that followed it."""
        digest = self._by_run.get(run_id)
        session = self._by_digest.get(digest) if digest is not None else None
        return (self._living(session) or session) if session is not None else None

    def of_ended_run(self, run_id: str) -> PaneSession | None:
        """Return the session of a run that ended lately, for what it said last; None for one that nobody knows."""
        return self._over.get(run_id)

    def carry_on(self, before: str, run_id: str) -> None:
        """A reset is about to begin the run `run_id` of the program that has had the run `before`.

        Raises StateUnwritable. Until that run lives, the one before counts.
        """
        digest = self._by_run.get(before)
        if digest is None:
            return
        session = self._by_digest[digest]
        session = replace(session, runs=tuple(dict.fromkeys((*session.runs, run_id))))
        kept = {"agent_id": session.agent_id, "token_sha256": digest, "later_runs": session.runs[1:]}
        write_state(session.folder / _FILE, json.dumps(kept).encode())
        self._remember(session, digest)

    def end(self, run_id: str) -> None:
        """A run has ended: its token is dead, and its folder goes, unless a reset has begun another run of it."""
        digest = self._by_run.get(run_id)
        if digest is None or self._by_digest[digest].runs[-1] != run_id:
            return
        session = self._by_digest.pop(digest)
        for one in session.runs:
            self._by_run.pop(one, None)
            self._over[one] = replace(session, run_id=one, over=True)
        while len(self._over) > _ENDED_KEPT:
            self._over.popitem(last=False)
        shutil.rmtree(session.folder, onerror=_tell)
        if session.letterbox is not None:
            session.letterbox.unlink(missing_ok=True)

    def _letterbox(self, run_id: str) -> Path:
        return self._socket.with_name(f"{_LETTERBOX}{run_id[-LETTERBOX_DIGITS:]}")

    def _living(self, session: PaneSession) -> PaneSession | None:
        run_id = next((one for one in reversed(session.runs) if self.lives(session.agent_id, one)), None)
        return replace(session, run_id=run_id) if run_id is not None else None

    def _remember(self, session: PaneSession, digest: str) -> None:
        self._by_digest[digest] = session
        for run_id in session.runs:
            self._by_run[run_id] = digest


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _tell(_function: object, path: str, reason: object) -> None:
    log.warning("a file of an ended session could not be removed", file=path, why=str(reason))
