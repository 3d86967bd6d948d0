"""The main process of `mosaic-agent@`: starts one agent in a session of its own, and waits for the end of its program.

    python -I -m mosaic_hostagent.units.waiter MOSAIC_HOME INSTANCE

Reads `state/seats/INSTANCE.json`, which the host-agent writes (see launch_file). SIGTERM ends exactly this agent's
session; SIGUSR1 leaves it to run on without us. It never starts what runs already, whoever started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from mosaic_framework.notify import notify

from mosaic_hostagent import crashes
from mosaic_hostagent.terminal.starting import start_commands
from mosaic_hostagent.units import launch_file
from mosaic_hostagent.units.members import end_members, terminal_members
from mosaic_hostagent.units.plain import AGAIN, Asked, Tmux, TmuxFailed, leave, tell, tmux_environment

_HOLDER_SECONDS = 45.0
_REST = "variables:"
_PANE = "\t".join(
    f"#{{{field}}}"
    for field in (
        "session_id",
        "pane_pid",
        "pane_dead",
        "pane_dead_status",
        "pane_dead_signal",
        "@mosaic_run",
        "@mosaic_seat",
        "@mosaic_agent",
        "@mosaic_home",
    )
)


class Found:
    """A session of our agent. `alive`: its program still has its terminal."""

    __slots__ = ("alive", "pid", "run_id", "session_id")

    def __init__(self, session_id: str, pid: int, run_id: str, *, alive: bool) -> None:
        self.session_id, self.pid, self.run_id, self.alive = session_id, pid, run_id, alive

    @property
    def began(self) -> float:
        """When its run began, by the wall clock: its id says so."""
        return (int(self.run_id.replace("-", ""), 16) >> 80) / 1000


class Waiter:
    """One agent."""

    def __init__(self, home: str, instance: str) -> None:
        self._home, self._instance = home, instance
        self._asked = Asked()

    def run(self) -> int:
        """Start the agent unless it runs, wait, and return the exit status."""
        if not self._take_launch():
            return 0
        try:
            found = self._living()
            if found is not None:
                self._note(begun=True)
                tell(f"run {found.run_id} goes on")
            elif self._rest():
                found = self._living() or self._start()
            else:
                return 0
        except TmuxFailed as failed:
            self._note(problem=str(failed))
            tell(f"it could not be started: {failed}")
            return self._ended(0.0)
        notify("READY=1", f"STATUS=run {found.run_id}, pid {found.pid}")
        if self._asked.wait(process=found.pid):
            return self._ended(max(0.0, time.time() - found.began))
        if self._asked.stop and not self._asked.let_go:
            self._stop(found)
        return 0

    def _take_launch(self) -> bool:
        self._launch = launch_file.read(self._home, self._instance)
        if not self._launch:
            tell(f"no agent {self._instance!r} is wanted here")
            return False
        self._tally = launch_file.read_tally(self._home, self._instance, self._launch)
        launch = self._launch
        self._tmux = Tmux(launch["tmux"], tmux_environment(launch["tmux_tmpdir"]), launch.get("tmux_turn", ""))
        return True

    def _rest(self) -> bool:
        """Wait until the next try is due, and take what is to be started then. Say whether to go on."""
        pause = launch_file.pause(self._tally)
        if pause <= 0:
            return True
        text = f"it has ended {self._tally['count']} times in a row; the next try is in {pause:.0f} s"
        self._note(resting=os.getpid())
        notify("READY=1", f"STATUS={'crash loop: ' if self._tally['count'] >= crashes.LOOP_AFTER else ''}{text}")
        self._asked.wait(seconds=pause)
        return not self._asked.anything and self._take_launch()

    def _living(self) -> Found | None:
        """Return the agent's session when its program runs; brings the server up. Raises TmuxFailed."""
        try:
            self._look()
        except TmuxFailed:
            self._start_holder()
            self._look()
        return next((one for one in self._sessions if one.alive), None)

    def _start_holder(self) -> None:
        unit = self._launch["holder_unit"]
        done = subprocess.run(
            ["systemctl", "--user", "start", unit], timeout=_HOLDER_SECONDS, check=False, capture_output=True
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[:300]
            raise TmuxFailed(f"{unit} does not start: {said}")

    def _look(self) -> None:
        """See the agent's sessions, and the server's variables. Raises TmuxFailed, also without our holder session."""
        launch, found = self._launch, {}
        said = self._tmux.run(
            [
                ["has-session", "-t", f"={launch['holder']}:"],
                ["list-panes", "-a", "-F", _PANE],
                ["display-message", "-p", _REST],
                ["show-environment", "-g"],
            ]
        )
        rest = said.index(_REST)
        for line in said[:rest]:
            session_id, pid, dead, status, killed_by, run_id, seat, agent_id, home = line.split("\t")
            if (agent_id, home) != (launch["agent_id"], launch["home"]):
                continue
            if seat or session_id not in found:
                alive = bool(seat) and dead in ("", "0") and not status and not killed_by
                found[session_id] = Found(session_id, int(pid or 0), run_id, alive=alive)
        self._sessions = list(found.values())
        self._variables = [line.partition("=")[0] for line in said[rest + 1 :] if not line.startswith("-")]

    def _start(self) -> Found:
        for ended in self._sessions:
            self._end(ended, everything=False)  # one that closed its terminal and lives on must not run twice
        prepared = self._launch["run_id"]
        launch = launch_file.as_new_run(self._home, self._launch, self._tally)
        # Written first: what has begun under an id never begins again under it.
        self._note(launched=prepared, latest=launch["run_id"], next=0.0, resting=0, problem="", begun=True)
        said = self._tmux.change(
            start_commands(
                launch,
                home=launch["home"],
                argv=launch["argv"],
                env=launch["env"],
                global_variables=self._variables,
            )
        )
        session_id, _, pid = said[0].split("\t")
        tell(f"run {launch['run_id']} began with pid {pid}")
        return Found(session_id, int(pid), launch["run_id"], alive=True)

    def _note(self, **facts: object) -> None:
        self._tally |= facts
        launch_file.write_tally(self._home, self._instance, self._tally)

    def _ended(self, lasted: float) -> int:
        """Count a run that ended by itself, and say whether there shall be another."""
        if not self._launch["again"]:
            tell(f"it ended after {lasted:.0f} s")
            return 0
        count = crashes.count_after(self._tally["count"], lasted)
        wait = crashes.delay(count)
        tell(f"it ended after {lasted:.0f} s; the next try is in {wait:.0f} s")
        self._note(count=count, next=launch_file.clock() + wait, resting=0)
        return AGAIN

    def _stop(self, found: Found) -> None:
        self._note(count=0, next=0.0, resting=0)
        try:
            self._look()
            alive = any(one.alive for one in self._sessions if one.run_id == found.run_id)
            self._end(found, everything=alive)
        except TmuxFailed as failed:
            tell(f"its session is gone already: {failed}")
            end_members(terminal_members(found.pid, found.began), self._launch["grace"])

    def _end(self, found: Found, *, everything: bool) -> None:
        """End exactly this session. What an ended program left in the background was meant to outlive it."""
        members = terminal_members(found.pid, found.began)
        if not everything:
            members = [one for one in members if one.pid == found.pid]
        # An id is never used twice in a server's life, but the server may be another one by now.
        condition = f"#{{==:#{{@mosaic_run}},{found.run_id}}}"
        try:
            self._tmux.change(
                [["if-shell", "-F", "-t", f"{found.session_id}:", condition, f"kill-session -t '{found.session_id}:'"]]
            )
        except TmuxFailed as failed:
            if "can't find" not in str(failed):
                raise
        end_members(members, self._launch["grace"])


def main(home: str, instance: str) -> int:
    """Keep one agent until it ends or we are asked to stop. Returns the exit status."""
    return Waiter(home, instance).run()


if __name__ == "__main__":
    leave(main(*sys.argv[1:3]))
