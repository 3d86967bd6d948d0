"""The host-agent as a whole: every part made, joined, run and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Awaitable, Mapping

import structlog
from mosaic_framework import __version__, protocol
from mosaic_framework.errors import Conflict, FleetError
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home
from mosaic_framework.watchdog import keep_watchdog
from mosaic_proto.v1 import host_link_pb2 as pb

from mosaic_hostagent import kickstart
from mosaic_hostagent.addresses import KnownAddresses
from mosaic_hostagent.between_tasks import BetweenTasks
from mosaic_hostagent.capturing import capture
from mosaic_hostagent.claims import Claims
from mosaic_hostagent.clock import Clock
from mosaic_hostagent.config import Config
from mosaic_hostagent.desired import Desired, DesiredFile
from mosaic_hostagent.explaining import explain
from mosaic_hostagent.intake import Intake
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.keeper import SeatKeeper
from mosaic_hostagent.link import CAPABILITIES, Handlers, HostReplaced, Link
from mosaic_hostagent.local import PaneSocket, socket_path
from mosaic_hostagent.locks import FileLock, LockTaken
from mosaic_hostagent.mailroom import Mailroom
from mosaic_hostagent.metrics import Metrics
from mosaic_hostagent.observing import Observing
from mosaic_hostagent.outgoing import Outgoing
from mosaic_hostagent.places import check_owner, close_to_others
from mosaic_hostagent.relay import Relay, Upstream
from mosaic_hostagent.renewing import Renewing
from mosaic_hostagent.reports import Reports
from mosaic_hostagent.resetting import Resetting
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.sessions import Sessions
from mosaic_hostagent.storage import StateUnwritable, write_state
from mosaic_hostagent.supervise import Supervisor
from mosaic_hostagent.tidying import tidy
from mosaic_hostagent.units.choice import supervision_of
from mosaic_hostagent.updating import Updating
from mosaic_hostagent.versions import Versions
from mosaic_hostagent.viewing import Viewing
from mosaic_hostagent.watching import Watching

HINT = "mosaic host join"
CLOSE_SECONDS = 3.0

log = structlog.get_logger(__name__)


class JournalRestored(FleetError):
    """The journal of this host was restored from an older one; what was open in it is unknown now."""

    code = "journal-restored"
    hint = "look at what became unknown: mosaic message ls"


class AlreadyRunning(Conflict):
    """Another host-agent runs for this home."""

    code = "hostagent-running"


def take_home(home: Home) -> FileLock:
    """Take the lock of this home, which one host-agent at a time may hold.

    Raises AlreadyRunning with its pid, or NotTheOwner: the agents of a host run as its home's owner.
    """
    check_owner(home)
    try:
        return FileLock.take(home.run / "hostagent.lock")
    except LockTaken as taken:
        pid = taken.holder.get("pid", "unknown")
        raise AlreadyRunning(
            f"a host-agent with pid {pid} runs for {home.root} already",
            next_step=f"use that one, or end it: kill {pid}",
            details={"pid": pid},
        ) from None


def load_identity(home: Home) -> StoredIdentity:
    """Return this host's identity. Raises NotLoggedIn when it has not joined a cluster."""
    return StoredIdentity.load(home.pki / "host", hint=HINT)


class HostAgent:
    """One running host-agent. Make it with `open`, run it with `run`, and close it; seats outlive it."""

    def __init__(
        self, *, home: Home, config: Config, identity: StoredIdentity, journal: Journal, environment: Mapping[str, str]
    ) -> None:
        self._home = home
        self._config = config
        metrics = Metrics()
        self._journal = journal
        self._clock = Clock()
        self._identity = identity
        self._desired_file = DesiredFile(home.state, host_id=identity.identity_id)
        self._addresses = KnownAddresses(home.state, host_id=identity.identity_id)
        self._environment = environment
        self._pool, self._supervision = supervision_of(
            home, environment=environment, stop_grace=config.stop_grace_seconds
        )
        self._outgoing = Outgoing(journal)
        self._sessions = Sessions(home.state, host=identity.name, socket=socket_path(home))
        self._sessions.lives = self._lives
        journal.on_run_over = self._run_is_over
        self._keeper = SeatKeeper(
            journal=journal,
            pool=self._pool,
            supervision=self._supervision,
            state_folder=home.state,
            environment=environment,
            on_change=self._report,
            stop_grace=config.stop_grace_seconds,
            sessions=self._sessions,
        )
        self._supervisor = Supervisor(
            keeper=self._keeper,
            journal=journal,
            pool=self._pool,
            supervision=self._supervision,
            on_applied=self._applied,
        )
        self._watching = Watching(self._supervisor.residents, self._pool, self._report, self._drain_reports)
        self._supervisor.on_unmanaged = self._outgoing.unmanaged
        self._mailroom = Mailroom(journal, self._supervisor.residents, self._clock, self._outgoing.waits)
        self._resetting = Resetting(
            journal=journal,
            residents=self._supervisor.residents,
            keeper=self._keeper,
            pool=self._pool,
            sessions=self._sessions,
            wake=self._supervisor.look,
        )
        self._updating = Updating(
            journal=journal,
            residents=self._supervisor.residents,
            wake=self._supervisor.look,
            environment=environment,
            home=home,
        )
        self._supervisor.on_round = self._look
        self._keeper.first_message = lambda seat, run_id: kickstart.first_message(seat, run_id, self._clock)
        self._keeper.on_first_message = self._mailroom.queue
        self._viewing = Viewing(self._supervisor.residents, self._pool, self._report)
        self._claims = Claims(self._supervisor.residents, self._outgoing, linked=lambda: self._link.up)
        self._link = Link(
            identity=self._identity_now,
            addresses=lambda stored: config.addresses or self._addresses.to_dial(stored.fleet_addresses),
            outgoing=self._outgoing,
            handlers=Handlers(
                hello=self._hello,
                welcome=self._welcome,
                desired=self._desired,
                dispatch=self._mailroom.take,
                cancel=self._mailroom.cancel,
                acknowledged=journal.acknowledge,
                capture=self._capture,
                explain=self._explain,
                update=self._updating.take,
                open_view=self._viewing.serve,
                claims=self._claims.told,
                roots=lambda digest: self._renewing.roots_told(digest),
                replicas=self._addresses.learn,
            ),
            on_up=self._link_is_up,
        )

        self._upstream = Upstream(self._identity_now, lambda: self._link.address)
        self._renewing = Renewing(
            home.pki / "host", opened=lambda: self._link.opened, present_elsewhere=self._upstream.present
        )
        self._versions = Versions(home, environment, self._watching.poke)
        self._keeper.on_occupied = self._versions.ask
        self._reports = Reports(self._sessions, self._intake().take)
        relay = Relay(self._sessions, self._upstream, journal.all_told)
        tasks = BetweenTasks(self._supervisor.residents, self._resetting.task_ended)
        relay.before, relay.after = tasks.before, tasks.after
        self._panes = PaneSocket(socket_path(home), relay, self._reports)
        relay.ended, self._reports.ended = metrics.called, metrics.reported
        self._observing = Observing(metrics, journal, self._supervisor.residents, linked=lambda: self._link.up)
        metrics.follow(
            link_up=lambda: self._link.up,
            dials=lambda: self._link.dials,
            claims=lambda: len(self._claims),
            views=lambda: len(self._viewing),
            pane_calls=lambda: relay.under_way,
            reporters=lambda: self._reports.under_way,
            pulse=self._observing.pulse,
        )

    @classmethod
    async def open(cls, *, home: Home, config: Config, environment: Mapping[str, str]) -> HostAgent:
        """Open the journal and take up the last desired state. The caller holds the home's lock."""
        identity = load_identity(home)
        close_to_others(home, environment)
        journal = await Journal.open(home.state / "journal", Clock())
        try:
            agent = cls(home=home, config=config, identity=identity, journal=journal, environment=environment)
            if (last := agent._desired_file.load()) is not None:
                agent._supervisor.want(Desired.from_wire(last))
            agent._sessions.load(
                living={run.run_id for run in await journal.open_runs()} | agent._supervision.own_runs()
            )
            await agent._resetting.resume()
            await agent._updating.resume()
            await agent._panes.start()
            agent._observing.start(home, config)
        except BaseException:
            await journal.close()
            raise
        return agent

    async def run(self) -> None:
        """Serve until cancelled. A part that fails ends the whole: whoever supervises us starts it anew."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run(), name="supervisor")
            group.create_task(self._watching.run(), name="watching")
            group.create_task(self._link.run(), name="link")
            group.create_task(keep_watchdog(self._environment), name="watchdog")
            group.create_task(self._claims.run(), name="claims")
            group.create_task(self._observing.run(), name="observing")
            group.create_task(self._renewing.run(), name="renewing")

    async def close(self) -> None:
        """Let deliveries that have begun finish, and detach. Seats go on."""
        self._observing.close()
        steps: list[Awaitable[None]] = [
            self._panes.close(),
            self._versions.close(),
            self._upstream.close(),
            self._mailroom.close(grace=CLOSE_SECONDS),
            self._resetting.close(),
            self._updating.close(),
            self._keeper.close(list(self._supervisor.residents.values())),
            self._pool.close(),
            self._journal.close(),
        ]
        for step in steps:
            await step

    async def _drain_reports(self) -> None:
        try:
            await self._reports.drain()
        except OSError as error:
            log.error("spooled reports cannot be read", why=str(error))

    def _intake(self) -> Intake:
        return Intake(self._supervisor.residents, self._watching.poke, self._mailroom)

    def _lives(self, agent_id: str, run_id: str) -> bool:
        """Whether a run that has begun still lives. One that is being launched is not in its seat yet."""
        resident = self._supervisor.residents.get(agent_id)
        if resident is None or resident.run_id < run_id:
            return True
        return resident.run_id == run_id and resident.alive

    def _look(self) -> None:
        self._resetting.look()
        self._updating.look()

    def _run_is_over(self, run_id: str) -> None:
        self._sessions.end(run_id)
        self._mailroom.withdraw(kickstart.message_id(run_id))

    def _report(self, resident: Resident) -> None:
        if self._supervisor.residents.get(resident.seat.agent_id) is resident:
            self._outgoing.report(resident.report())
        self._claims.seats_changed()

    def _applied(self, generation: int) -> None:
        tidy(self._home, names={resident.seat.name for resident in self._supervisor.residents.values()})
        self._outgoing.applied(generation)

    def _identity_now(self) -> StoredIdentity:
        identity = load_identity(self._home)
        if identity.identity_id != self._identity.identity_id:
            # Its journal and desired state are another host's: begin anew with all of it.
            raise HostReplaced(f"this home now belongs to host {identity.name}, another one than when this began")
        return identity

    async def _hello(self) -> pb.Hello:
        sequence = await self._journal.sequence_to_claim()
        return pb.Hello(
            protocol_version=protocol.VERSION,
            oldest_protocol=protocol.OLDEST,
            capabilities=CAPABILITIES,
            host_id=self._identity.identity_id,
            journal_id=self._journal.journal_id,
            journal_epoch=self._journal.link_epoch,
            journal_sequence=sequence,
            # One that nobody has looked for yet is told when somebody has: what the register knows of it stands.
            seats=[one.report() for one in self._supervisor.residents.values() if one.looked_for],
            observed_generation=self._supervisor.applied,
            version=__version__,
            machine=socket.gethostname(),
        )

    async def _welcome(self, welcome: pb.Welcome) -> None:
        if welcome.journal_disowned:
            await self._journal.disown()
            raise JournalRestored
        self._addresses.learn(welcome.fleet_addresses)
        await self._journal.linked(welcome.link_epoch)
        # Only now is it known that this journal is the newest: what waits in an older one may have been typed already.
        await self._mailroom.resume()

    async def _desired(self, state: pb.DesiredState) -> None:
        if state.generation < self._supervisor.generation:
            log.warning("an older desired state was ignored", generation=state.generation)
            return
        try:
            self._desired_file.save(state)
        except StateUnwritable as error:
            log.error("the desired state is not on disk", what=error.what, why=error.why)
        self._supervisor.want(Desired.from_wire(state))
        await self._mailroom.seats_changed()

    async def _capture(self, asked: pb.CaptureTerminal) -> pb.TerminalText:
        return await capture(self._supervisor.residents, self._pool, asked)

    def _explain(self, asked: pb.ExplainSeat) -> pb.ExplainedSeat:
        resident = self._supervisor.residents.get(asked.agent_id)
        if resident is None:
            return pb.ExplainedSeat(call_id=asked.call_id, problem="the host does not know this seat")
        explanation = explain(resident, self._watching.verdict(resident), time.monotonic())
        return pb.ExplainedSeat(call_id=asked.call_id, explanation=explanation)

    def _link_is_up(self) -> None:
        self._claims.link_is_up()
        self._renewing.poke()
        path = self._home.run / "hostagent.json"
        with contextlib.suppress(FileNotFoundError):
            if json.loads(path.read_bytes()).get("pid") == os.getpid():
                return
        try:
            write_state(path, json.dumps({"pid": os.getpid()}).encode())
        except StateUnwritable as error:
            log.error("nobody can be told that the link is up", what=error.what, why=error.why)
