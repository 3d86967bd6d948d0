"""Promises of an exported backlog's lines."""

from __future__ import annotations

import io

import pytest
from mosaic_cli.backlog.exchange import BATCH, ExportInvalid, line_of, records_of, requests_of
from mosaic_proto.v1 import backlog_pb2 as pb


def record(number: int) -> pb.CardRecord:
    made = pb.CardRecord(card=pb.Card(id=f"card-{number}", status=pb.CARD_STATUS_DONE, fence=2**53 + number))
    made.card.content.title = 'quotes " and \u2028 line ends\n'
    made.card.content.estimate.cost_micros = 1
    made.history.add(kind="created", fence=1, reason="ünïcode ✓")
    return made


def read(content: bytes) -> list[pb.CardRecord]:
    return list(records_of(io.BytesIO(content), "backlog.jsonl"))


def test_what_is_written_is_read_back_equal() -> None:
    records = [record(number) for number in range(5)]
    assert read("".join(map(line_of, records)).encode()) == records


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    assert line_of(record(1)).count("\n") == 1


def test_what_a_newer_version_wrote_beside_is_left_out() -> None:
    line = line_of(record(1)).replace('"kind"', '"somethingNew": {"a": 1}, "kind"')
    assert read(line.encode()) == [record(1)]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"3", b'{"kind": "Host"}', b'{"card": {"id": 3.5, "fence": "x"}}', b"\xff"]
)
def test_what_is_no_card_is_refused_with_its_line(line: bytes) -> None:
    with pytest.raises(ExportInvalid, match="line 2"):
        read(line_of(record(1)).encode() + line + b"\n")


def test_an_import_goes_in_batches_under_one_request_id_and_keeps_the_order() -> None:
    records = [record(number) for number in range(2 * BATCH + 1)]
    requests = list(requests_of(records, tenant="default"))
    assert [len(request.records) for request in requests] == [BATCH, BATCH, 1]
    assert [bool(request.request_id) for request in requests] == [True, False, False]
    assert [one for request in requests for one in request.records] == records
