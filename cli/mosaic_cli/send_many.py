"""One text to every agent that selectors pick: an id for each, all queued first, then followed together."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import typer
from mosaic_framework.errors import (
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_FOUND,
    EXIT_UNFINISHED,
    EXIT_UNREACHABLE,
    FleetError,
    NotFound,
    Unreachable,
)
from mosaic_proto.v1 import fleet_pb2
from mosaic_proto.v1 import messages_pb2 as pb

from mosaic_cli import output
from mosaic_cli.asking import agree
from mosaic_cli.client import Connection, connect
from mosaic_cli.documents import receipt_document
from mosaic_cli.fleet_view import agent_rows
from mosaic_cli.listing import Selection
from mosaic_cli.output import Column, Format, Listing, Style
from mosaic_cli.receipts import ended_badly, reached, step_of
from mosaic_cli.send import Wish, goal_of, send_request
from mosaic_cli.text import age

ASK_FROM = 10
"""More agents than this are not written to without a yes."""

WORKERS = 8
_PAUSE_SECONDS = 0.5
_LIST_LIMIT = 1000
_WORST_FIRST = (
    EXIT_FAILED,
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    EXIT_UNFINISHED,
)


@dataclass(slots=True)
class Letter:
    """One agent's message. `error`: why it was not queued, or cannot be followed."""

    address: str
    wish: Wish
    receipt: pb.Receipt | None = None
    error: FleetError | None = None
    took: float | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more is waited for."""
        if self.error is not None:
            return True
        receipt = self.receipt
        return receipt is not None and (ended_badly(receipt) or reached(receipt, goal_of(self.wish, receipt)))

    @property
    def exit_code(self) -> int:
        """How it alone would have ended the command."""
        if self.error is not None:
            return self.error.exit_code
        if self.receipt is None or self.wish.detach:
            return EXIT_UNFINISHED if self.receipt is None else 0
        return EXIT_FAILED if ended_badly(self.receipt) else 0 if self.done else EXIT_UNFINISHED

    @property
    def state(self) -> str:
        """What is known of it, in a word."""
        if self.error is not None:
            return "not sent" if self.receipt is None else "lost sight of"
        return step_of(self.receipt) if self.receipt is not None else "not sent"

    @property
    def reason(self) -> str:
        """Why it is not further."""
        if self.error is not None:
            return f"{self.error.what}: {self.error.why}" if self.error.why else self.error.what
        return self.receipt.reason if self.receipt is not None else ""


def letter_id(batch: str, agent_id: str) -> str:
    """Return the id of one agent's message in a batch: always the same for the same two, of the batch's own moment."""
    moment = uuid.UUID(batch).int >> 80
    digest = int.from_bytes(hashlib.sha256(f"{batch} {agent_id}".encode()).digest()[:10])
    value = moment << 80 | digest
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def worst(codes: Sequence[int]) -> int:
    """Return the exit code of the whole: the worst of its parts, where failed is worst and not finished is least."""
    return next((code for code in _WORST_FIRST if code in codes), max(codes, default=0))


def run(wish: Wish, selection: Selection, *, yes: bool, dry_run: bool, form: Format, context: str, tenant: str) -> None:
    """Send to all, follow all, show one table. Ends with the worst exit code when any fell short."""
    until = time.monotonic() + wish.timeout
    with connect(context, tenant=tenant) as connection:
        request = fleet_pb2.ListAgentsRequest(tenant=connection.tenant)
        reply = connection.call(connection.fleet.ListAgents, request)
        rows = selection.of(agent_rows(reply.agents, reply.hosts, reply.at))
    agents = sorted((row.agent for row in rows), key=lambda agent: (agent.host, agent.name))
    if not agents:
        raise NotFound("no agent fits these selectors", next_step="see them with: mosaic agent ls")
    letters = [
        Letter(
            f"{agent.host}/{agent.name}",
            replace(wish, to=f"{agent.host}/{agent.name}", message_id=letter_id(wish.message_id, agent.id)),
        )
        for agent in agents
    ]
    if dry_run:
        output.write("".join(f"{letter.address}\n" for letter in letters))
        return
    if len(letters) > ASK_FROM:
        agree(f"send this to {len(letters)} agents", yes=yes)
        until = time.monotonic() + wish.timeout
    output.say(f"batch {wish.message_id}: to {len(letters)} agents; the same again under --id sends nothing twice")
    try:
        _Postmen(letters, until, lambda: connect(context, tenant=tenant)).run()
    except KeyboardInterrupt:
        output.show(table(letters), form)
        output.say("interrupted; what was sent goes on: mosaic message ls")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    output.show(table(letters), form)
    output.say(summary(letters))
    code = worst([letter.exit_code for letter in letters])
    if code:
        raise typer.Exit(code)


def table(letters: Sequence[Letter]) -> Listing[Letter]:
    """Return the receipts, those that fell short first."""
    columns: list[Column[Letter]] = [
        Column("TO", lambda letter: letter.address),
        Column("STEP", lambda letter: letter.state),
        Column("TOOK", lambda letter: age(letter.took)),
        Column("REASON", lambda letter: letter.reason),
        Column("ID", lambda letter: letter.wish.message_id, wide=True),
    ]
    return Listing(
        "ReceiptList",
        sorted(letters, key=lambda letter: (letter.exit_code == 0, letter.address)),
        columns,
        name=lambda letter: letter.wish.message_id,
        document=_document,
        style=lambda letter: Style.WRONG if letter.exit_code else Style.PLAIN,
    )


def summary(letters: Sequence[Letter]) -> str:
    """Return one line: how many came how far."""
    counted = Counter(letter.state for letter in letters)
    return f"{len(letters)} agents: " + ", ".join(f"{count} {state}" for state, count in counted.most_common())


def _document(letter: Letter) -> dict[str, object]:
    error = {"code": type(letter.error).code, "what": letter.error.what} if letter.error is not None else None
    known = receipt_document(letter.receipt) if letter.receipt is not None else {"messageId": letter.wish.message_id}
    return {**known, "to": letter.address, "exitCode": letter.exit_code, "error": error}


class _Postmen:
    """A few threads, each with a connection of its own: one that is lost and made anew disturbs no other."""

    def __init__(
        self, letters: Sequence[Letter], until: float, connecting: Callable[[], AbstractContextManager[Connection]]
    ) -> None:
        self._letters = letters
        self._until = until
        self._connecting = connecting
        self._began = time.monotonic()
        self._telling = threading.Lock()
        self._finished = 0

    def run(self) -> None:
        """Return when nothing is waited for any more, or the time is over."""
        self._in_threads(self._send, self._letters)
        with self._connecting() as connection:
            while len(waiting := self._waiting()) > WORKERS and time.monotonic() < self._until:
                self._look(connection, waiting)
        self._in_threads(self._follow, self._waiting())

    def _waiting(self) -> list[Letter]:
        return [letter for letter in self._letters if not letter.done and not letter.wish.detach]

    def _in_threads(self, work: Callable[[Connection, Letter], None], letters: Sequence[Letter]) -> None:
        todo: queue.SimpleQueue[Letter] = queue.SimpleQueue()
        for letter in letters:
            todo.put(letter)
        faults: list[Exception] = []

        def labour() -> None:
            try:
                with self._connecting() as connection:
                    while not faults and not todo.empty():
                        with contextlib.suppress(queue.Empty):
                            work(connection, todo.get_nowait())
            except Exception as error:  # noqa: BLE001  raised again below
                faults.append(error)

        threads = [threading.Thread(target=labour, daemon=True) for _ in range(min(WORKERS, len(letters)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # in pieces, so that Ctrl-C is heard
        if faults:
            raise faults[0]

    def _send(self, connection: Connection, letter: Letter) -> None:
        """Queue one; a lost reply is asked for again under the same id."""
        request = send_request(connection, letter.wish)
        while letter.receipt is None and letter.error is None:
            try:
                letter.receipt = connection.call(connection.messages.Send, request).receipt
            except Unreachable as error:
                if time.monotonic() >= self._until:
                    letter.error = error
                else:
                    _again(connection)
            except FleetError as error:
                letter.error = error
        if letter.done or letter.wish.detach:
            self._tell(letter)

    def _look(self, connection: Connection, waiting: Sequence[Letter]) -> None:
        """Ask how far all of them are, in one call: to follow each would need as many streams."""
        by_id = {letter.wish.message_id: letter for letter in waiting}
        try:
            request = pb.ListMessagesRequest(tenant=connection.tenant, limit=_LIST_LIMIT)
            for receipt in connection.call(connection.messages.List, request).receipts:
                if (letter := by_id.pop(receipt.message_id, None)) is not None:
                    letter.receipt = receipt
            for letter in by_id.values():  # so many newer ones have come meanwhile
                request_one = pb.ShowMessageRequest(tenant=connection.tenant, message_id=letter.wish.message_id)
                letter.receipt = connection.call(connection.messages.Show, request_one).receipt
        except Unreachable:
            _again(connection)
            return
        for letter in waiting:
            if letter.done:
                self._tell(letter)
        time.sleep(_PAUSE_SECONDS)

    def _follow(self, connection: Connection, letter: Letter) -> None:
        """Follow one until it is done, or the time is over."""
        assert letter.receipt is not None
        goal = goal_of(letter.wish, letter.receipt)
        request = pb.FollowRequest(tenant=connection.tenant, message_id=letter.wish.message_id, until=goal)  # type: ignore[arg-type]
        while not letter.done and time.monotonic() < self._until:
            try:
                for letter.receipt in connection.stream(connection.messages.Follow, request, until=self._until):
                    if letter.done:
                        break
                else:
                    _again(connection)  # the control plane is stopping
            except Unreachable:
                if time.monotonic() < self._until:
                    _again(connection)
            except FleetError as error:
                letter.error = error
        if letter.done:
            self._tell(letter)

    def _tell(self, letter: Letter) -> None:
        letter.took = time.monotonic() - self._began
        reason = f" - {letter.reason}" if letter.reason else ""
        with self._telling:
            self._finished += 1
            counted = f"{self._finished}/{len(self._letters)}"
            output.say(f"{letter.took:7.3f}s  {counted}  {letter.address}: {letter.state}{reason}")


def _again(connection: Connection) -> None:
    time.sleep(_PAUSE_SECONDS)  # nothing tells us when a control plane is back
    connection.reconnect()
