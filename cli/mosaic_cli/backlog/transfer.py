"""Taking a backlog out of a register, and into one."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import grpc
from mosaic_framework.errors import Conflict, Denied, FleetError
from mosaic_framework.pane import Pane
from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli import output
from mosaic_cli.backlog.card_files import problem_text
from mosaic_cli.backlog.exchange import ExportInvalid, line_of, records_of, requests_of
from mosaic_cli.client import connect
from mosaic_cli.output import Format, Thing

IMPORT_SECONDS = 600.0


class FileExists(Conflict):
    """There is such a file already."""

    code = "file-exists"


class ImportRefused(FleetError):
    """Nothing was imported."""

    code = "import-refused"


def export_cards(file: Path | None, *, history: bool, context: str, tenant: str) -> None:
    """Write every card to `file`, which is whole or not there, or to stdout."""
    with connect(context, tenant=tenant) as connection:
        request = pb.ExportCardsRequest(tenant=connection.tenant, history=history)
        records = connection.stream(connection.backlog.Export, request)
        if file is None:
            for record in records:
                output.write(line_of(record))
            return
        if file.exists():
            raise FileExists(f"{file} is there already", next_step="name another file, or remove it")
        partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
        count = 0
        try:
            with partial.open("x", encoding="utf-8") as stream:
                for record in records:
                    stream.write(line_of(record))
                    count += 1
                stream.flush()
                os.fsync(stream.fileno())
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
    output.say(f"{count} cards exported to {file}")


def import_cards(file: str, *, request_id: str, form: Format, context: str, tenant: str) -> None:
    """Bring the cards of an export in, all or none. Raises ExportInvalid, ImportRefused, or Denied in a pane."""
    seat = Pane.from_environment(os.environ)
    if seat is not None:
        # Told here: when a stream is refused while it is sent, the relay may hear no more than that it ended.
        raise Denied(
            f"agent {seat.agent} may not import cards",
            why="an admin brings a whole backlog in, with its history",
            next_step="run it outside of the pane; to make new cards: mosaic backlog create",
        )
    with ExitStack() as stack:
        stream: BinaryIO = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        source = "standard input" if file == "-" else file
        # The whole file is read before a byte goes out: a fault in its last line imports nothing.
        records = list(records_of(stream, source))
    if not records:
        raise ExportInvalid(f"{source} holds no card")
    with connect(context, tenant=tenant) as connection:
        requests = requests_of(records, tenant=connection.tenant, request_id=request_id)
        try:
            reply: pb.ImportCardsReply = connection.backlog.Import(requests, timeout=IMPORT_SECONDS)
        except grpc.RpcError as error:
            raise connection.failure(error, request_id) from error
    if reply.problems:
        raise _refused(reply, source)
    body = {"imported": reply.imported, "existed": reply.existed}
    lines = [("imported", str(reply.imported)), ("there already", str(reply.existed))]
    output.show(Thing("BacklogImport", str(reply.imported), body, lines), form)


def _refused(reply: pb.ImportCardsReply, source: str) -> ImportRefused:
    told = [f"card {problem.id or problem.index + 1}: {problem_text(problem)}" for problem in reply.problems]
    return ImportRefused(
        f"nothing of {source} was imported: {len(told)} problem{'s' if len(told) != 1 else ''}",
        why="; ".join(told[:3]) + (f"; and {len(told) - 3} more, all told with -o json" if len(told) > 3 else ""),
        details={f"problem.{number}": text for number, text in enumerate(told, start=1)},
    )
