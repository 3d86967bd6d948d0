"""The loader of named queries refuses every file that does not say exactly what it holds."""

from __future__ import annotations

import pytest
from mosaic_controlplane.register.sql import Queries, QueryFileError, load, parse

GOOD = """
-- Cards: what is to be done.

-- name: claim_next
-- The best ready card.
select 1
  -- in the middle
  where true;

-- name: count_all
select count(*) from fleet.card
"""


def test_a_query_is_what_stands_under_its_name() -> None:
    assert parse(GOOD, source="card.sql") == {
        "claim_next": "-- The best ready card.\nselect 1\n  -- in the middle\n  where true",
        "count_all": "select count(*) from fleet.card",
    }


def test_a_query_is_an_attribute() -> None:
    assert Queries("card.sql", {"claim_next": "select 1"}).claim_next == "select 1"


def test_an_unknown_query_is_refused_with_the_nearest_name() -> None:
    queries = Queries("card.sql", parse(GOOD, source="card.sql"))
    with pytest.raises(AttributeError, match=r"card\.sql has no query named 'claim_nxt'; the nearest is 'claim_next'"):
        _ = queries.claim_nxt


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: a\nselect 1\n-- name: a\nselect 2", r"card\.sql:3: there are two queries named 'a'"),
        ("-- name: Claim Next\nselect 1", r"card\.sql:1: 'Claim Next' is no name of a query"),
        ("-- name:\nselect 1", r"card\.sql:1: '' is no name"),
        ("select 0;\n-- name: a\nselect 1", r"card\.sql:1: this line stands before the first"),
        ("-- name: a\n-- only a comment\n-- name: b\nselect 1", r"card\.sql: a has no statement"),
        ("-- name: a\nselect 1;\nselect 2", r"card\.sql: a has more than one statement"),
        ("-- nothing here", r"card\.sql has no '-- name:' block"),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(QueryFileError, match=complaint):
        parse(text, source="card.sql")


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(QueryFileError, match=r"there is no no_such_table\.sql"):
        load("no_such_table")
