"""Which messages belong to the turn that a run is in (pure).

A runtime says that it took a prompt, that it began to work and that it is done: at least once, maybe late, maybe a
little out of order; only an end never overtakes the beginning of its own turn. A prompt taken while it works belongs to
the turn after, or to the running one where the runtime steers. No step is claimed that a message's own turn has not
earned: what is unsure stays lower.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mosaic_hostagent.ladder import Step

Rise = tuple[str, Step]
_NEVER = -1


@dataclass(slots=True)
class Turns:
    """The turns of one run. `steers`: a prompt taken while it works joins the running turn. Times are wall ms."""

    steers: bool
    began: int = _NEVER
    """when the running turn began; it runs when this is later than `over`"""
    heard: bool = False
    """the runtime itself said that the running turn began; else that follows from what it took"""
    over: int = _NEVER
    """when a turn last ended"""
    current: dict[str, int] = field(default_factory=dict)
    """messages of the running turn, or of the next one when none runs: when each came into it"""
    behind: dict[str, int] = field(default_factory=dict)
    """messages taken while another turn ran: theirs is the one after"""

    @property
    def working(self) -> bool:
        """Whether a turn runs."""
        return self.began > self.over

    def accepted(self, message_id: str, at: int) -> list[Rise]:
        """The runtime took a message at `at`. Again: nothing new."""
        if message_id in self.current or message_id in self.behind:
            return []
        if at > self.over and (not self.working or at < self.began):
            self._begin(at)  # a prompt that nothing stands before is worked on
        if self.working and not self.steers and at > self.began:
            self.behind[message_id] = at
            return [(message_id, Step.ACCEPTED)]
        self.current[message_id] = at
        started = [(message_id, Step.TURN_STARTED)] if self.working and self.heard else []
        return [(message_id, Step.ACCEPTED), *started]

    def started(self, at: int) -> list[Rise]:
        """It works, at `at`. A word from before the last end came late and says nothing."""
        if at <= self.over:
            return []
        if not self.working or at < self.began:
            self._begin(at)
        self.heard = True
        return [(message_id, Step.TURN_STARTED) for message_id in self.current]

    def _begin(self, at: int) -> None:
        self.began = at
        if not self.steers:
            late = {message_id: since for message_id, since in self.current.items() if since > at}
            self.current = {message_id: since for message_id, since in self.current.items() if since <= at}
            self.behind = late | self.behind

    def ended(self, at: int) -> list[Rise]:
        """It was done at `at`. What came into its turn later than that is in another one, as what waited behind it."""
        if at <= self.over:
            return []
        done = [message_id for message_id, since in self.current.items() if since <= at]
        for message_id in done:
            del self.current[message_id]
        self.over, self.heard = at, False
        rises = [(message_id, Step.TURN_ENDED) for message_id in done]
        if self.behind:
            # Begun at once, without another word of the runtime.
            self.began, self.heard = at + 1, True
            self.current |= dict.fromkeys(self.behind, self.began)
            self.behind = {}
            rises += [(message_id, Step.TURN_STARTED) for message_id in self.current]
        return rises

    def restore(self, message_id: str, step: Step, at: int) -> None:
        """Take a message up as the journal has it, after a start of the host-agent. Oldest first."""
        if step is Step.TURN_STARTED:
            self.current[message_id] = at
            self.began, self.heard = max(self.began, at), True
        elif self.working and not self.steers and at > self.began:
            self.behind[message_id] = at
        else:
            self.current[message_id] = at
