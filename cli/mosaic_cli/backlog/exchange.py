"""Exporting and importing a backlog: one JSON object a line, each a card with its edges and history; it round-trips."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from google.protobuf import json_format
from mosaic_framework.errors import InvalidInput
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli.output import API_VERSION

KIND = "CardRecord"
BATCH = 200
LINE_LIMIT = 8 * 1024 * 1024


class ExportInvalid(InvalidInput):
    """This is not an exported backlog."""

    code = "export-invalid"
    hint = "use what mosaic backlog export wrote; to make new cards from a file: mosaic backlog create --from FILE"


def line_of(record: pb.CardRecord) -> str:
    """Return one exported card as a line."""
    document = json_format.MessageToDict(record)
    return json.dumps({"apiVersion": API_VERSION, "kind": KIND, **document}, ensure_ascii=False) + "\n"


def records_of(stream: BinaryIO, source: str) -> Iterator[pb.CardRecord]:
    """Yield the cards of an export. Raises ExportInvalid with the line."""
    number = 0
    while line := stream.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise ExportInvalid(f"{source}, line {number} is longer than {LINE_LIMIT // 1024 // 1024} MiB")
        if line.strip():
            yield _record(line, f"{source}, line {number}")


def requests_of(
    records: Iterable[pb.CardRecord], *, tenant: str, request_id: str = ""
) -> Iterator[pb.ImportCardsRequest]:
    """Yield the records in batches, under one request id."""
    batch: list[pb.CardRecord] = []
    first = True
    for record in records:
        batch.append(record)
        if len(batch) == BATCH:
            yield _request(batch, tenant, request_id if first else None)
            batch, first = [], False
    if batch or first:
        yield _request(batch, tenant, request_id if first else None)


def _request(batch: list[pb.CardRecord], tenant: str, request_id: str | None) -> pb.ImportCardsRequest:
    if request_id is None:
        return pb.ImportCardsRequest(records=batch)
    return pb.ImportCardsRequest(request_id=request_id or str(new_id()), tenant=tenant, records=batch)


def _record(line: bytes, where: str) -> pb.CardRecord:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExportInvalid(f"{where} is no JSON", why=str(error)) from error
    if not isinstance(document, dict) or document.pop("kind", KIND) != KIND:
        raise ExportInvalid(f"{where} is no card of an export")
    document.pop("apiVersion", None)
    try:
        # What a newer version exports beside is left out, as everywhere on the wire.
        return json_format.ParseDict(document, pb.CardRecord(), ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError) as error:
        raise ExportInvalid(f"{where} is no card of an export", why=str(error)) from error
