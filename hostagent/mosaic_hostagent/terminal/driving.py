"""Who drives a seat's terminal by hand: one lease a seat, and what it means for messages that wait (pure).

Times are monotonic seconds, given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

LEASE_SECONDS = 15.0
PAUSE_SECONDS = 5.0
"""A key pressed less than this ago: the person is typing."""

DRAFT_SECONDS = 60.0
"""Something was typed and not sent off: a person thinks about the next word at most this long, as far as we wait.

Later the composer itself is looked at, as for any draft: else an attachment left open over lunch would stop all mail.
"""

_SENDS_OFF = b"\r\n\x03\x04\x15"  # Enter, Ctrl-C, Ctrl-D, Ctrl-U: what stood in the composer is gone


@dataclass(slots=True, eq=False)
class Lease:
    """The right to press keys. `taken_by` is set when somebody took it over."""

    holder: str
    since: float
    renewed: float
    taken_by: str = ""
    ended: bool = False


class Driving:
    """The lease on one seat's terminal, and when its keys were last used."""

    def __init__(self) -> None:
        self._lease: Lease | None = None
        self._typed: float | None = None
        self._draft = False

    def lease(self, now: float) -> Lease | None:
        """Return the lease that is in force."""
        if self._lease is not None and now - self._lease.renewed >= LEASE_SECONDS:
            self._lease.ended = True
            self._lease = None
        return self._lease

    def ask(self, holder: str, now: float, *, take: bool) -> tuple[Lease | None, Lease | None]:
        """Return (the lease now asked for, who had it before). Without `take` a lease in force is not given away."""
        former = self.lease(now)
        if former is not None:
            if not take:
                return None, former
            former.taken_by, former.ended = holder, True
        self._lease = Lease(holder, now, now)
        return self._lease, former

    def renew(self, lease: Lease, now: float) -> bool:
        """Extend `lease`; False when it is in force no more."""
        if self.lease(now) is not lease:
            return False
        lease.renewed = now
        return True

    def release(self, lease: Lease) -> None:
        """Give `lease` back. One that is in force no more stays so."""
        lease.ended = True
        if self._lease is lease:
            self._lease = None

    def pressed(self, keys: bytes, now: float) -> None:
        """Note that these keys are about to be given to the program."""
        if not keys:
            return
        self._typed = now
        self._draft = keys[-1] not in _SENDS_OFF

    def holds_back(self, now: float) -> str:
        """Return why a message must wait for the person who types, or ""."""
        if self._typed is None:
            return ""
        quiet = now - self._typed
        if quiet < PAUSE_SECONDS:
            return "a person is typing in its terminal"
        if self._draft and quiet < DRAFT_SECONDS:
            return "a person has typed something in its terminal and not sent it off yet"
        return ""
