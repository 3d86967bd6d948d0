"""Which of PostgreSQL's tools fit a server, and that no password becomes an argument."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_controlplane.register.postgres_tools import Tools, fitting, without_password


@pytest.mark.parametrize(
    ("there", "server", "chosen"),
    [
        ([18], 18, 18),
        ([18], 17, 18),
        ([18, 17], 17, 17),
        ([18], 15, None),  # its archive could not go back: the server does not know what pg_restore 18 sets
        ([18, 15], 15, 15),
        ([15], 18, None),
        ([], 18, None),
    ],
)
def test_tools_are_of_the_servers_release_or_of_one_that_goes_back_into_it(
    there: list[int], server: int, chosen: int | None
) -> None:
    found = fitting([Tools(Path(f"/{major}"), major) for major in there], server)
    assert (found.major if found else None) == chosen


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        ("postgresql://anna:secret@db:5432/fleet", "postgresql://anna@db:5432/fleet", "secret"),
        ("postgresql://anna:a%40b@db/fleet?sslmode=require", "postgresql://anna@db/fleet?sslmode=require", "a@b"),
        ("postgres://db/fleet?user=anna&password=s%20t", "postgres://db/fleet?user=anna", "s t"),
        ("postgresql:///mosaic?host=/run/x&user=mosaic", "postgresql:///mosaic?host=/run/x&user=mosaic", ""),
        ("postgresql://anna@db/fleet", "postgresql://anna@db/fleet", ""),
    ],
)
def test_the_password_is_taken_out_of_the_url(url: str, bare: str, password: str) -> None:
    assert without_password(url) == (bare, password)


@given(
    st.text(min_size=8, alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="/?#@:[]%&"))
)
def test_no_password_stays_in_the_url(password: str) -> None:
    bare, found = without_password(f"postgresql://u:{password}@db/x")
    assert (found, password in bare) == (password, False)
