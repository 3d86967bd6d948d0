"""Creating cards, one or a file of them, and changing what one says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_framework.document import read_bytes
from mosaic_framework.errors import Conflict, FleetError, InvalidInput, Unreachable
from mosaic_framework.names import nearest
from mosaic_proto.v1 import backlog_pb2 as pb
from pydantic import ValidationError

from mosaic_cli import message_text, output
from mosaic_cli.backlog import calls
from mosaic_cli.backlog.card_files import CardEntry, PlacedDraft, draft_of, problem_text, readable_cards, refused
from mosaic_cli.backlog.view import card_listing, card_thing
from mosaic_cli.client import connect
from mosaic_cli.documents import now
from mosaic_cli.failures import UsageError
from mosaic_cli.output import Format

STANDARD_INPUT = "-"
CREATE_SECONDS = 30.0
"""How long thousands of cards in one transaction may take."""

_EXISTS = ("exists", "key-reused")


class CardRefused(InvalidInput):
    """The card cannot be created like this."""

    code = "card-refused"


class CardExists(Conflict):
    """There is such a card already, and it is another one."""

    code = "card-exists"


@dataclass(frozen=True, slots=True)
class Wish:
    """What all ways to create share."""

    request_id: str
    form: Format
    context: str
    tenant: str


def body_of(text: str | None, file: str | None) -> str:
    """Return a card's text from -m or -f; empty for neither."""
    return message_text.read(text, file) if text or file else ""


def create_one(entry: dict[str, Any], wish: Wish) -> None:
    """Create one card from command-line values. Raises UsageError, CardRefused or CardExists."""
    try:
        draft = draft_of(CardEntry.model_validate(entry))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"--{where.replace('_', '-')}: {first['msg']}", next_step="mosaic backlog create --help"
        ) from None
    reply = _create([draft], wish)
    if reply.problems:
        problem = reply.problems[0]
        more = f" (and {len(reply.problems) - 1} more)" if len(reply.problems) > 1 else ""
        kind: type[FleetError] = CardExists if problem.code in _EXISTS else CardRefused
        raise kind(f"the card was not created: {problem_text(problem)}{more}", details=_details(reply.problems))
    if reply.existed[0]:
        output.say("it was there already, made with the same key")
    output.show(card_thing(reply.cards[0]), wish.form)


def create_from(source: str, wish: Wish) -> None:
    """Create the cards of a file, or of standard input, in one transaction. Raises DocumentInvalid."""
    if source == STANDARD_INPUT:
        content, source = sys.stdin.buffer.read(), "standard input"
    else:
        content = read_bytes(Path(source), noun="file of cards")
    placed, unread = readable_cards(content, source)
    if unread:
        # The register is asked about the others, so that all that is wrong is told at once.
        raise refused(placed, _wrong_with(placed, wish), source, unread)
    if not placed:
        raise InvalidInput(f"{source} holds no card")
    reply = _create([one.draft for one in placed], wish)
    if reply.problems:
        raise refused(placed, reply.problems, source)
    output.show(card_listing(reply.cards, now()), wish.form)
    _say_created(placed, reply)


def changes(assignments: Sequence[str]) -> tuple[pb.CardContent, list[str]]:
    """Return what `field=value` words set: the content, and the names of its fields. Raises UsageError."""
    known = sorted(field.name for field in pb.CardContent.DESCRIPTOR.fields)
    entry: dict[str, Any] = {"title": "-"}
    names = []
    for word in assignments:
        written, equals, value = word.partition("=")
        name = written.replace("-", "_")
        if not equals or name not in known:
            close = nearest(name, known)
            raise UsageError(
                f"{word!r} sets no field of a card",
                why=f"the nearest is {close[0]}" if close and equals else "write FIELD=VALUE",
                next_step=f"one of: {' '.join(known)}",
            )
        names.append(name)
        entry[name] = _value(name, value)
    try:
        draft = draft_of(CardEntry.model_validate(entry))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    return draft.content, names


def _value(name: str, text: str) -> Any:
    """Return a field's value from its text; lists are parted at commas, an estimate is a cost."""
    if name in ("labels", "acceptance", "goals", "requirements", "evidence"):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        if name in ("priority", "attempt_limit"):
            return int(text)
        if name == "estimate":
            return {"cost": float(text)}
    except ValueError:
        raise UsageError(f"{name}: {text!r} is no number") from None
    if name == "gated":
        if text not in ("true", "false"):
            raise UsageError("gated: must be true or false")
        return text == "true"
    return text


def _wrong_with(placed: Sequence[PlacedDraft], wish: Wish) -> Sequence[pb.CardProblem]:
    """Return what the register would object to; nothing when it cannot be asked."""
    if not placed:
        return ()
    try:
        return _create([one.draft for one in placed], wish, check_only=True).problems
    except Unreachable as error:
        output.say(f"only the file itself was checked: {error.what}")
        return ()


def _create(drafts: list[pb.CardDraft], wish: Wish, *, check_only: bool = False) -> pb.CreateCardsReply:
    with connect(wish.context, tenant=wish.tenant) as connection:
        request = pb.CreateCardsRequest(tenant=connection.tenant, cards=drafts, check_only=check_only)
        reply: pb.CreateCardsReply = calls.write(
            connection, lambda stub: stub.Create, request, request_id=wish.request_id, waits=CREATE_SECONDS
        )
    return reply


def _say_created(placed: Sequence[PlacedDraft], reply: pb.CreateCardsReply) -> None:
    existed = sum(reply.existed)
    there = f", {existed} there already" if existed else ""
    output.say(f"{len(placed) - existed} created{there}")


def _details(problems: Sequence[pb.CardProblem]) -> dict[str, str]:
    return {f"problem.{number}": problem_text(problem) for number, problem in enumerate(problems, start=1)}
