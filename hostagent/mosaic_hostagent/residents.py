"""Who sits in a seat right now: the host-agent's memory of one seat, and what it tells of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from mosaic_framework.manifest import Manifest
from mosaic_framework.recognise import Recognised
from mosaic_proto.v1 import host_link_pb2, messages_pb2

from mosaic_hostagent.backoff import Crashes
from mosaic_hostagent.heartbeats import HeartbeatFile
from mosaic_hostagent.journal_facts import exit_code
from mosaic_hostagent.processes import ExitWatch
from mosaic_hostagent.readiness import DEBOUNCE_SECONDS, NOT_RUNNING, UNSEEN, AgentState, Signals, State, to_wire
from mosaic_hostagent.running import NOTHING
from mosaic_hostagent.screen_facts import ScreenFacts
from mosaic_hostagent.seats import Seat, Session
from mosaic_hostagent.signals import Told
from mosaic_hostagent.terminal.driving import Driving
from mosaic_hostagent.terminal.pane import Pane
from mosaic_hostagent.units.supervision import Standing

OUTPUT_TOLD_SECONDS = 60.0


@dataclass(slots=True)
class Resident:
    """One seat. Times are monotonic seconds."""

    seat: Seat
    manifest: Manifest | None = None
    session: Session | None = None
    """the newest one, living or ended"""
    pane: Pane | None = None
    """set while its program lives"""
    watch: ExitWatch | None = None
    state: State = NOT_RUNNING
    since: float = field(default_factory=time.monotonic)
    problem: str = ""
    note: str = ""
    """a problem of what runs, not of what could not be done: it has drifted, or crashes"""
    acted: int = 0
    """the seat's generation as last brought about, or tried"""
    exit_status: int | None = None
    launched: float = 0.0
    began_ms: int = 0
    """when its program was started, by the wall clock; a reset begins another run of the same program"""
    was_ready: bool = False
    mark: str = ""
    wrote: float = 0.0
    """when `mark` last changed"""
    screen: ScreenFacts | None = None
    """what its terminal showed when it was last looked at"""
    looked: float = 0.0
    in_foreground: bool = True
    hooks: Told = field(default_factory=Told)
    """what its hooks, and the agent itself, said in this run"""
    heartbeat: HeartbeatFile | None = None
    letterbox: Path | None = None
    """where its program listens for messages, if it does"""
    version: str = ""
    """of the program that runs; empty while it is not known"""
    last_told: tuple[str, Recognised, tuple[str, str, str]] = ("", NOTHING, ("", "", ""))
    """command, what it runs and the facts, as they were last told"""
    command: str = ""
    runs: Recognised = NOTHING
    """what its pane is seen to run"""
    told: float = 0.0
    """when its output was last told of"""
    holds: set[str] = field(default_factory=set)
    """why no message may be typed now, though the seat might take one"""
    unseen_run: str = ""
    """the run that it had when it was last seen, while it is UNSEEN"""
    renew: tuple[str, str] | None = None
    """a run that is to be replaced by a new one, and the reason for its end"""
    reset_tried: int = 0
    """the newest reset asked for that came to its end, whatever that was"""
    reset_problem: str = ""
    crashes: Crashes = field(default_factory=Crashes)
    not_before: float = 0.0
    refusals: int = 0
    """how often in a row it could not be brought about"""
    speaks: bool = False
    """what makes its runtime tell of prompts and turns is in place in this run"""
    ending: str = ""
    """why we end its session just now"""
    prepared: str = ""
    """the run that whoever supervises the seat begins next, as last written"""
    prepared_for: str = ""
    """the launch digest for which that was last tried while another launch ran"""
    standing: Standing | None = None
    """who starts it, as last told"""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    driving: Driving = field(default_factory=Driving)

    @property
    def alive(self) -> bool:
        """Whether its program runs."""
        return self.pane is not None

    @property
    def looked_for(self) -> bool:
        """Whether anything was told of it since this host-agent began: until then nobody knows if it runs."""
        return self.told > 0

    @property
    def run_id(self) -> str:
        """The id of the run that lives, or lived last."""
        return self.session.run_id if self.session is not None else ""

    def enter(self, state: State) -> bool:
        """Take a new state; say whether anything but its age is new. Whoever waits on the seat looks again."""
        if state == self.state:
            return False
        if state.state != self.state.state:
            self.since = time.monotonic()
        self.state = state
        self.stir()
        return True

    def stir(self) -> None:
        """Wake whoever waits for this seat to change."""
        self.changed.set()
        self.changed = asyncio.Event()

    def may_be_tried(self) -> bool:
        """Whether a delivery may look if the pane takes text now: it is the pane itself that decides then."""
        if not self.alive or self.ending or self.holds or self.state.state in (AgentState.STARTING, AgentState.EXITED):
            return False
        # A hook may tell of a dialog that no rule of the screen knows: Enter would approve what it asks.
        return not self.state.question

    def forget(self, heartbeat: Path | None) -> None:
        """A new run begins: nothing that was known of the last one's program holds for it."""
        self.screen, self.hooks, self.version = None, Told(), ""
        self.looked, self.in_foreground = 0.0, True
        self.last_told = ("", NOTHING, ("", "", ""))
        self.heartbeat = HeartbeatFile(heartbeat) if heartbeat is not None else None

    @property
    def facts(self) -> tuple[str, str, str]:
        """What is known of the program itself: model, version, its own session."""
        return self.hooks.model, self.version, self.hooks.session

    def signals(self, now: float) -> Signals:
        """Return everything that its state is judged by, at `now`."""
        return Signals(
            now=now,
            age=now - self.launched,
            quiet=now - self.wrote,
            was_ready=self.was_ready,
            in_foreground=self.in_foreground,
            screen=self.screen,
            looked=self.looked,
            told=self.hooks,
            heartbeat=self.heartbeat.read() if self.heartbeat is not None else None,
            version=self.version,
        )

    def ripens_in(self, now: float) -> float:
        """Return the seconds until time alone turns its newest signal into more, 0 when it does not."""
        wait = self.hooks.since + DEBOUNCE_SECONDS - now
        return wait if self.hooks.phase == "waiting" and wait > 0 else 0.0

    @property
    def steers(self) -> bool:
        """Whether a prompt taken while it works joins the running turn."""
        return self.manifest is not None and self.manifest.while_working == "steers"

    @property
    def strongest_step(self) -> str:
        """How much this run can say of a message."""
        return self.manifest.strongest_step if self.speaks and self.manifest is not None else "submitted"

    def hold(self, why: str) -> None:
        """Let no message be typed until the same `why` is released."""
        self.holds.add(why)

    def release(self, why: str) -> None:
        """Let messages be typed again as far as this is concerned."""
        if why in self.holds:
            self.holds.discard(why)
            self.stir()

    @property
    def reset_is_due(self) -> bool:
        """Whether a reset was asked for that its living run has not seen."""
        if not self.alive or self.session is None or not self.seat.running:
            return False
        return max(self.session.reset, self.reset_tried) < self.seat.reset

    def has_output_to_tell(self) -> bool:
        """Whether it wrote since its last report, and that is a minute ago: idle time need not be told finer."""
        return self.wrote > self.told and time.monotonic() - self.told > OUTPUT_TOLD_SECONDS

    def report(self) -> host_link_pb2.SeatReport:
        """Return what the control plane is told."""
        session = self.session
        self.told = now = time.monotonic()
        lease = self.driving.lease(now)
        return host_link_pb2.SeatReport(
            agent_id=self.seat.agent_id,
            name=self.seat.name,
            state=to_wire(self.state.state),
            source=self.state.source,
            detail=self.state.detail,
            state_age_ms=int((time.monotonic() - self.since) * 1000),
            # What the register knows of a run's program stands while it hears of the same run.
            run_id=self.unseen_run if self.state == UNSEEN else self.run_id,
            pid=session.pid if session is not None and self.alive else 0,
            command=self.command if self.alive else "",
            generation=self.acted,
            problem=self.problem or self.reset_problem or self.note,
            strongest_step=messages_pb2.MessageStep.Value(f"MESSAGE_STEP_{self.strongest_step.upper()}"),
            exit_status=0 if self.alive or session is None else exit_code(self.exit_status),
            reported_model=self.hooks.model,
            runtime_version=self.version,
            runtime_session=self.hooks.session,
            supervision=self.standing.kind if self.standing is not None else "",
            unit=self.standing.unit if self.standing is not None else "",
            enabled=self.standing is not None and self.standing.enabled,
            output_age_ms=int((time.monotonic() - self.wrote) * 1000) if self.wrote else 0,
            running_runtime=self.runs.runtime if self.alive else "",
            running_model=self.runs.model if self.alive else "",
            driver=lease.holder if lease is not None else "",
            driven_ms=int((now - lease.since) * 1000) if lease is not None else 0,
        )
